"""The simulated sample as a camera that an acquisition can run."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stormlive_sim.camera import check_region
from stormlive_sim.movie import Scene, SceneSettings


class SimulatedCamera:
    """A camera that looks at a simulated blinking sample; it never runs out of frames.

    A region of interest shows what the full frame shows there: noise, hot pixels and all. For binning see
    `stormlive_sim.sensor.Sensor.expose`.

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
        adu = self.scene.expose(photons, frame, exposure_ms, binning)[y : y + h, x : x + w]
        out[...] = adu.clamp_max(np.iinfo(out.dtype).max).to(torch.int32).numpy()
