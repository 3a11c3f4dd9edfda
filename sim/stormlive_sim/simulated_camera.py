"""The simulated sample as a camera that an acquisition can run."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stormlive_sim.camera import check_region
from stormlive_sim.movie import Scene, SceneSettings


class SimulatedCamera:
    """A camera that looks at a simulated blinking sample; it never runs out of frames.

    Binning adds the light of the pixels before the chip's noise, as an EMCCD does; a region of interest shows
    what the full frame shows there, noise included.

    Parameters
    ----------
    settings : SceneSettings
        Sample, optics and chip.
    """

    def __init__(self, settings: SceneSettings) -> None:
        self.scene = Scene(settings)
        self.shape = settings.shape
        self.bit_depth = settings.sensor.bit_depth
        self.n_frames: int | None = None

    def render(
        self, frame: int, x: int, y: int, w: int, h: int, binning: int, exposure_ms: float, out: NDArray[Any]
    ) -> None:
        """Write frame `frame` into `out`; see `stormlive_sim.camera.Camera`."""
        check_region(self.shape, x, y, w, h, binning)
        photons = self.scene.photons(frame, exposure_ms)
        if binning > 1:
            rows, columns = (side // binning for side in self.shape)
            photons = photons[: rows * binning, : columns * binning]
            photons = photons.reshape(rows, binning, columns, binning).sum((1, 3))
        adu = self.scene.expose(photons, frame)[y : y + h, x : x + w]
        out[...] = adu.clamp_max(np.iinfo(out.dtype).max).to(torch.int32).numpy()
