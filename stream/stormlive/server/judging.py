"""What is known of one run's picture, and how it grows with each look at it; in the judge's thread."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stormlive.output.judgement import MOST_POINTS, JudgementRecord, judgement_record
from stormlive.wire.messages import Calibration, Judgement, one_line
from stormlive_models.fit import Fits
from stormlive_models.frc import ring_correlation
from stormlive_models.judge.artifacts import ArtifactMap, artifact_map
from stormlive_models.judge.camera import LEAST_SIGMA_PX, Transfer, comparison, transfer
from stormlive_models.judge.convergence import Moment, advise, steepness
from stormlive_models.judge.mismatch import Figures, Trained, isolated_spots, judge, measure
from stormlive_models.judge.slabs import Slabs

_DENSITY_FRAMES = 100
# The side of the patches that networks are trained on: their densities are means over such a square.
_BLOCK_PX = 32
_KEPT_LOOKS = 8
_KEPT_TILES = 40_000
_FINEST = 2**19
"""Pixels of the canvas that are compared with the widefield picture: two a side of a camera pixel up to 360x360."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The square of a canvas that is looked at closely, in camera pixels, and what it is a part of."""

    row: int
    column: int
    height: int
    width: int
    upsampling: int

    @property
    def on_canvas(self) -> tuple[slice, slice]:
        """Its rows and columns on the canvas."""
        u = self.upsampling
        return (
            slice(self.row * u, (self.row + self.height) * u),
            slice(self.column * u, (self.column + self.width) * u),
        )

    @property
    def on_camera(self) -> tuple[slice, slice]:
        """Its rows and columns on the camera."""
        return slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)


@dataclass(frozen=True, kw_only=True)
class Look:
    """Copies of what a run's first canvas is at one moment.

    Attributes
    ----------
    n_frames
        That it holds.
    name
        Of the canvas, where the run has several.
    canvas
        All of it, or `Part.on_canvas` of it.
    coarse
        All of it, summed to whole fractions of camera pixels; None where `canvas` is all of it.
    widefield
        The mean of the frames, photons; None where this look is without a comparison.
    raw
        Consecutive frames (T, Y, X) of `Part.on_camera`, ADU.
    """

    n_frames: int
    name: str
    canvas: NDArray[np.float32]
    coarse: NDArray[np.float32] | None
    widefield: NDArray[np.float32] | None
    raw: NDArray[Any]


class Judging:
    """The judgement of one run.

    Parameters
    ----------
    calibration
        The camera's.
    part
        What is looked at closely.
    slabs
        How many are kept of the whole canvas; None: they are of the part only, and nothing is corrected.
    trained
        What the model knows; None where nobody does.
    counts
        Whether the canvas is in emitters.

    Attributes
    ----------
    judgement
        The newest.
    errors
        The newest comparison with the widefield picture, and the frames in it.
    corrected
        The canvas without drift, and the frames in it.
    """

    def __init__(
        self, calibration: Calibration, part: Part, slabs: int | None, trained: Trained | None, *, counts: bool
    ) -> None:
        self.part = part
        self.is_whole = slabs is not None
        self._calibration = calibration
        self._trained = trained
        self._counts = counts
        self._pixel_nm = calibration.pixel_size_nm / part.upsampling
        rows, columns = part.on_canvas
        inside = (slice(0, rows.stop - rows.start), slice(0, columns.stop - columns.start))
        self._slabs = Slabs(self._pixel_nm, part.on_canvas if self.is_whole else inside, slabs or 32)
        self._before: NDArray[np.float32] | None = None
        self._n_frames = 0
        size = (rows.stop - rows.start, columns.stop - columns.start)
        self._halves = [np.zeros(size, np.float32), np.zeros(size, np.float32)]
        self._half_frames = [0, 0]
        self._moments: list[Moment] = []
        self._fits: list[Fits] = []
        self._tiles: list[Transfer] = []
        self._figures = Figures()
        self._recent = np.zeros((part.height, part.width))
        self._recent_frames = 0
        self._density: float | None = None
        self._series: list[Judgement] = []
        self.judgement: Judgement | None = None
        self.errors: tuple[ArtifactMap, int] | None = None
        self.corrected: tuple[NDArray[np.float32], int] | None = None

    def take(self, look: Look) -> None:
        """Judge what a look shows."""
        n_new = look.n_frames - self._n_frames
        if n_new > 0:
            increment = look.canvas - self._before if self._before is not None else look.canvas
            self._before, self._n_frames = look.canvas, look.n_frames
            part = increment[self.part.on_canvas] if self.is_whole else increment
            self._count(part, n_new)
            self._resolve(part, n_new)
            if self._slabs.add(increment, n_new) and self.is_whole:
                picture = self._slabs.corrected()
                self.corrected = None if picture is None else (picture, look.n_frames)
        if look.widefield is not None and look.n_frames:
            whole = look.canvas if look.coarse is None else look.coarse
            fine = coarseness(look.widefield.shape, self.part.upsampling)
            compared = artifact_map(_summed(whole, fine * look.widefield.shape[0]), look.widefield, look.n_frames)
            self.errors = None if compared is None else (compared, look.n_frames)
        if len(look.raw):
            self._measure(look.raw)
        self._conclude(look)

    def _count(self, part: NDArray[np.float32], n_new: int) -> None:
        """Note the density of the densest block of late."""
        u, (height, width) = self.part.upsampling, (self.part.height, self.part.width)
        self._recent += part.reshape(height, u, width, u).sum((1, 3))
        self._recent_frames += n_new
        if self._counts and self._recent_frames >= _DENSITY_FRAMES:
            rows, columns = (max(1, side // _BLOCK_PX) for side in (height, width))
            tall, wide = height // rows, width // columns
            blocks = self._recent[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide).sum((1, 3))
            area_um2 = tall * wide * self._calibration.pixel_size_nm**2 / 1e6
            self._density = float(blocks.max()) / self._recent_frames / area_um2
        if self._recent_frames >= _DENSITY_FRAMES:
            self._recent[:] = 0
            self._recent_frames = 0

    def _resolve(self, part: NDArray[np.float32], n_new: int) -> None:
        """Give the frames to the half that has fewer of them, and correlate the two."""
        half = int(self._half_frames[1] < self._half_frames[0])
        self._halves[half] += part
        self._half_frames[half] += n_new
        if 2 * min(self._half_frames) < max(self._half_frames) or not all(one.any() for one in self._halves):
            return
        grid_nm = self._calibration.pixel_size_nm
        curve = ring_correlation(self._halves[0], self._halves[1], self._pixel_nm, grid_nm=grid_nm)
        total = float(sum(one.sum(dtype=np.float64) for one in self._halves))
        self._moments.append(
            Moment(frames=self._n_frames, total=total, resolution_nm=curve.resolution_nm, steepness=steepness(curve))
        )
        if len(self._moments) > MOST_POINTS:
            del self._moments[:-1:2]

    def _measure(self, raw: NDArray[Any]) -> None:
        """Fit single spots, and tell light from noise."""
        camera = self._calibration
        photons = torch.from_numpy(raw.astype(np.float32))
        dark = camera.baseline_adu
        photons = (photons.nan_to_num(dark, dark, dark) - dark) * camera.photons_per_adu
        known_nm = self._figures.psf_sigma_nm
        if known_nm is None and self._trained is not None:
            known_nm = math.sqrt(math.prod(self._trained.psf_sigma_nm))
        fits = (
            isolated_spots(photons, camera.pixel_size_nm, known_nm)
            if known_nm
            else isolated_spots(photons, camera.pixel_size_nm)
        )
        self._fits = [*self._fits[1 - _KEPT_LOOKS :], fits]
        if len(raw) > 1 and np.issubdtype(raw.dtype, np.integer):
            self._tiles.append(transfer(raw))
            while sum(len(tiles.mean) for tiles in self._tiles) > _KEPT_TILES:
                del self._tiles[0]

    def _conclude(self, look: Look) -> None:
        camera = self._calibration
        if self._fits:
            self._figures = measure(Fits.concatenate(self._fits), camera.pixel_size_nm, self._density)
        verdict = judge(self._figures, self._trained)
        advice = advise(self._moments)
        resolution_nm = self._moments[-1].resolution_nm if self._moments else math.nan
        compared = None if self.errors is None else self.errors[0]
        drift = self._slabs.drift_nm
        sentence = ""
        sigma_nm = self._figures.psf_sigma_nm
        if self._tiles and (sigma_nm is None or sigma_nm >= LEAST_SIGMA_PX * camera.pixel_size_nm):
            sentence = comparison(Transfer.join(self._tiles), camera.baseline_adu, camera.photons_per_adu)
        self.judgement = Judgement(
            frames=look.n_frames,
            canvas=look.name,
            gauge=verdict.gauge,
            sentence=one_line(verdict.sentence),
            psf_sigma_nm=_finite(sigma_nm),
            photons=_finite(self._figures.photons),
            background=_finite(self._figures.background),
            density_per_um2=_finite(self._figures.density_per_um2),
            rse=None if compared is None else _finite(compared.rse),
            rsp=None if compared is None else _finite(compared.rsp),
            frc_nm=_finite(resolution_nm),
            gain_percent_per_1000=_finite(advice.gain_percent_per_1000),
            converged=advice.converged,
            drift_nm=None if drift is None else (float(drift[0]), float(drift[1])),
            calibration=one_line(sentence),
        )
        self._series.append(self.judgement)
        if len(self._series) > 2 * MOST_POINTS:
            del self._series[:-1:2]

    @property
    def drift_shows(self) -> bool:
        """Whether the sample moved by more than a pixel of the canvas."""
        return self._slabs.greatest_nm > self._pixel_nm

    def record(self) -> JudgementRecord | None:
        """Return what run.json says of it; None before the first look."""
        return judgement_record(self._series, self._slabs.path()) if self._series else None

    def finish(self) -> None:
        """Take the drift out of all frames there are, and let go what only a run that goes on needs."""
        if self.is_whole:
            picture = self._slabs.corrected()
            self.corrected = None if picture is None else (picture, self._n_frames)
        self._before, self._halves, self._fits, self._tiles = None, [], [], []
        self._slabs.release()


def coarseness(shape: tuple[int, ...], upsampling: int) -> int:
    """Return into how many parts a side of a camera pixel the canvas is summed for the comparison: 1 or 2."""
    return 2 if upsampling % 2 == 0 and 4 * shape[0] * shape[1] <= _FINEST else 1


def _summed(picture: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Return a picture (Y, X) summed over squares so that it has so many rows."""
    size = picture.shape[0] // rows
    return np.asarray(picture.reshape(rows, size, picture.shape[1] // size, size).sum((1, 3)))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
