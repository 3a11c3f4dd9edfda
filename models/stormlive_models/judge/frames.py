"""What a stream's own frames say, as they come: their figures, whether anything blinks, the camera's calibration."""

from collections import deque
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from stormlive_models.fit import Fits
from stormlive_models.judge.artifacts import ArtifactMap
from stormlive_models.judge.blinking import LEAST_SIDE_PX, Blinks, blinks, spot_of
from stormlive_models.judge.calibration import Comparison, comparison, has_light_and_shade
from stormlive_models.judge.camera import LEAST_SIGMA_PX, Transfer, transfer
from stormlive_models.judge.crowding import Crowd, crowd, darkness
from stormlive_models.judge.mismatch import Figures, isolated_spots, measure

Blinking = Literal["unknown", "yes", "no more", "never", "dark"]
"""Whether emitters come and go: not any more, not since the run began, or there is no light and shade at all."""

_KEPT_LOOKS = 8
_KEPT_TILES = 40_000
_KEPT_BLINKS = 32
_DARK_PERCENTILE = 20


class Frames:
    """Takes a look at some consecutive frames now and then.

    Parameters
    ----------
    pixel_size_nm, baseline_adu, photons_per_adu : float
        The camera's calibration, as it was given.
    usual_sigma_nm : float
        At which width spots are looked for, until theirs is known.
    """

    def __init__(
        self, *, pixel_size_nm: float, baseline_adu: float, photons_per_adu: float, usual_sigma_nm: float
    ) -> None:
        self._pixel_nm = pixel_size_nm
        self._baseline_adu = baseline_adu
        self._photons_per_adu = photons_per_adu
        self._sigma_nm = usual_sigma_nm
        self._fits: deque[Fits] = deque(maxlen=_KEPT_LOOKS)
        self._tiles: list[Transfer] = []
        self._blinks: deque[Blinks] = deque(maxlen=_KEPT_BLINKS)
        self._all_blinks: Blinks | None = None
        self._looks: deque[NDArray[np.float32]] = deque(maxlen=_KEPT_LOOKS)
        self._settled: deque[Blinks] = deque(maxlen=_KEPT_BLINKS)
        self._darkest: deque[float] = deque(maxlen=_KEPT_LOOKS)
        self.figures = Figures()

    def see(self, raw: NDArray[Any]) -> None:
        """Take in consecutive frames (T, Y, X), ADU; at least one."""
        dark = self._baseline_adu
        photons = (torch.from_numpy(raw.astype(np.float32)).nan_to_num(dark, dark, dark) - dark) * self._photons_per_adu
        self._fits.append(isolated_spots(photons, self._pixel_nm, self._sigma_nm))
        if len(raw) > 1 and min(raw.shape[1:]) >= LEAST_SIDE_PX:
            new = blinks(photons.numpy(), self._pixel_nm)
            self._blinks.append(new)
            self._all_blinks = new if self._all_blinks is None else Blinks.join([self._all_blinks, new])
            self._note_crowd(photons.numpy())
        if len(raw) > 1 and np.issubdtype(raw.dtype, np.integer):
            self._tiles.append(transfer(raw))
            while sum(len(tiles.mean) for tiles in self._tiles) > _KEPT_TILES:
                del self._tiles[0]
        found = measure(Fits.concatenate(list(self._fits)), self._pixel_nm)
        if found.psf_sigma_nm is None:
            # No spots stand alone: what can be told all the same.
            spot = spot_of(Blinks.join(self._blinks)) if self._blinks else None
            found = replace(
                found,
                psf_sigma_nm=None if spot is None else spot.sigma_px * self._pixel_nm,
                background=float(np.percentile(photons.mean(0).numpy(), _DARK_PERCENTILE)),
            )
        self._sigma_nm = found.psf_sigma_nm or self._sigma_nm
        self.figures = found

    def _note_crowd(self, photons: NDArray[np.float32]) -> None:
        """Keep what tells how crowded the frames are: what has changed since the oldest look that is kept."""
        if self._looks:
            n = min(len(self._looks[0]), len(photons))
            # By then all emitters have gone off, whereas within a look those that stay on for long seem to be many.
            self._settled.append(blinks(np.concatenate([self._looks[0][:n], photons[:n]]), self._pixel_nm))
        self._looks.append(photons)
        self._darkest.append(darkness(photons))

    def crowd(self, compared: ArtifactMap) -> Crowd | None:
        """Return how crowded the frames have been of late, by a comparison of canvas and widefield picture."""
        if not self._settled:
            return None
        light = np.mean([look.mean(0) for look in self._looks], 0)
        darkest = float(np.median(self._darkest))
        return crowd(Blinks.join(self._settled), light, darkest, compared, self._pixel_nm)

    @property
    def blinking(self) -> Blinking:
        """Whether emitters come and go."""
        if self._all_blinks is None:
            return "unknown"
        lately = Blinks.join(self._blinks).blink
        if lately is not False:
            return "yes" if lately else "unknown"
        if self._all_blinks.blink:
            return "no more"
        return "never" if self._tiles and has_light_and_shade(Transfer.join(self._tiles)) else "dark"

    def calibration(self) -> Comparison:
        """Return in what the frames look unlike the calibration that was given."""
        sigma_nm = self.figures.psf_sigma_nm
        if not self._tiles or (sigma_nm is not None and sigma_nm < LEAST_SIGMA_PX * self._pixel_nm):
            return Comparison()
        return comparison(Transfer.join(self._tiles), self._baseline_adu, self._photons_per_adu)
