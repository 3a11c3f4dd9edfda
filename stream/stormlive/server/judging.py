"""What is known of one canvas, and how it grows with each look at it; in the judge's thread."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormlive.output.judgement import MOST_POINTS, JudgementRecord, judgement_record
from stormlive.server.look import Look, Part, coarseness
from stormlive.server.protocols import Reconstruction as AnyReconstruction
from stormlive.server.reconstruction import Reconstruction
from stormlive.wire.calibration import Calibration
from stormlive.wire.text import one_line
from stormlive.wire.viewing import Judgement
from stormlive_models.frc import ring_correlation
from stormlive_models.judge.artifacts import ArtifactMap, artifact_map
from stormlive_models.judge.convergence import Moment, advise, steepness
from stormlive_models.judge.crowding import block_sums
from stormlive_models.judge.frames import Frames
from stormlive_models.judge.mismatch import USUAL_SIGMA_NM, Trained
from stormlive_models.judge.slabs import SLAB_BYTES, Slabs
from stormlive_models.judge.verdict import light_of_emitters, verdict

MOST_SLABS = 32
_DENSITY_FRAMES = 100


class Judging:
    """The judgement of one canvas.

    Parameters
    ----------
    calibration
        The camera's.
    part
        What is looked at closely.
    whole
        The canvas' (rows, columns), of which all is kept in slabs; None: only the part is, and nothing is corrected.
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
        self,
        calibration: Calibration,
        part: Part,
        whole: tuple[int, int] | None,
        trained: Trained | None,
        *,
        counts: bool,
        most_slabs: int = MOST_SLABS,
    ) -> None:
        self.part = part
        self.is_whole = whole is not None
        self._calibration = calibration
        self._trained = trained
        self._counts = counts
        self._pixel_nm = calibration.pixel_size_nm / part.upsampling
        rows, columns = part.on_canvas
        size = (rows.stop - rows.start, columns.stop - columns.start)
        window = (slice(0, size[0]), slice(0, size[1])) if whole is None else part.on_canvas
        self._slabs = Slabs(self._pixel_nm, whole or size, window, most_slabs, SLAB_BYTES)
        self._before: NDArray[np.float32] | None = None
        self._n_frames = 0
        self._moments: list[Moment] = []
        self._frames = Frames(
            pixel_size_nm=calibration.pixel_size_nm,
            baseline_adu=calibration.baseline_adu,
            photons_per_adu=calibration.photons_per_adu,
            usual_sigma_nm=USUAL_SIGMA_NM if trained is None else math.sqrt(math.prod(trained.psf_sigma_nm)),
        )
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
            # In the place of the last one, which is not needed any more: a canvas may have a gigabyte.
            before = self._before
            increment = look.canvas if before is None else np.subtract(look.canvas, before, out=before)
            self._before, self._n_frames = look.canvas, look.n_frames
            self._count(increment[self.part.on_canvas] if self.is_whole else increment, n_new)
            begun = self._slabs.add(increment, n_new)
            self._resolve()
            if begun and self.is_whole:
                picture = self._slabs.corrected()
                self.corrected = None if picture is None else (picture, look.n_frames)
        if look.widefield is not None and look.n_frames:
            whole = look.canvas if look.coarse is None else look.coarse
            fine = coarseness(look.widefield.shape, self.part.upsampling)
            compared = _compared(_summed(whole, fine * look.widefield.shape[0]), look.widefield, look)
            self.errors = None if compared is None else (compared, look.n_frames)
        if len(look.raw):
            self.see(look.raw)
        self._conclude(look)

    def see(self, raw: NDArray[Any]) -> None:
        """Take in consecutive frames (T, Y, X) of `Part.on_camera`, ADU, for the next look's judgement."""
        self._frames.see(raw)

    def _count(self, part: NDArray[np.float32], n_new: int) -> None:
        """Note the density of the densest block of late."""
        u, (height, width) = self.part.upsampling, (self.part.height, self.part.width)
        self._recent += part.reshape(height, u, width, u).sum((1, 3))
        self._recent_frames += n_new
        if self._counts and self._recent_frames >= _DENSITY_FRAMES:
            sums, n_pixels = block_sums(self._recent)
            area_um2 = n_pixels * self._calibration.pixel_size_nm**2 / 1e6
            self._density = float(sums.max()) / self._recent_frames / area_um2
        if self._recent_frames >= _DENSITY_FRAMES:
            self._recent[:] = 0
            self._recent_frames = 0

    def _resolve(self) -> None:
        """Correlate the two halves of the frames, from both of which the drift has been taken out."""
        halves, frames = self._slabs.halves, self._slabs.half_frames
        if 2 * min(frames) < max(frames) or not all(one.any() for one in halves):
            return
        grid_nm = self._calibration.pixel_size_nm
        curve = ring_correlation(halves[0], halves[1], self._pixel_nm, grid_nm=grid_nm)
        total = float(sum(one.sum(dtype=np.float64) for one in halves))
        self._moments.append(
            Moment(frames=self._n_frames, total=total, resolution_nm=curve.resolution_nm, steepness=steepness(curve))
        )
        if len(self._moments) > MOST_POINTS:
            del self._moments[:-1:2]

    def _conclude(self, look: Look) -> None:
        advice = advise(self._moments)
        resolution_nm = self._moments[-1].resolution_nm if self._moments else math.nan
        compared = None if self.errors is None else self.errors[0]
        drift = self._slabs.drift_nm
        figures = replace(self._frames.figures, density_per_um2=self._density)
        if self._counts:
            crowd = None if compared is None else self._frames.crowd(compared)
            figures = light_of_emitters(figures, compared, look.n_frames, crowd)
        calibration = self._frames.calibration()
        light = verdict(
            figures,
            self._trained,
            blinking=self._frames.blinking,
            compared=compared,
            n_frames=look.n_frames,
            calibration=calibration,
        )
        self.judgement = Judgement(
            frames=look.n_frames,
            gauge=light.gauge,
            sentence=one_line(light.sentence),
            psf_sigma_nm=_finite(figures.psf_sigma_nm),
            photons=_finite(figures.photons),
            background=_finite(figures.background),
            density_per_um2=_finite(figures.density_per_um2),
            rse=None if compared is None else _finite(compared.rse),
            rsp=None if compared is None else _finite(compared.rsp),
            frc_nm=_finite(resolution_nm),
            gain_percent_per_1000=_finite(advice.gain_percent_per_1000),
            converged=advice.converged,
            drift_nm=None if drift is None else (float(drift[0]), float(drift[1])),
            calibration=one_line(calibration.sentence),
        )
        self._series.append(self.judgement)
        if len(self._series) > 2 * MOST_POINTS:
            del self._series[:-1:2]

    @property
    def drift_shows(self) -> bool:
        """Whether the sample moved by more than a pixel of the canvas."""
        return self._slabs.greatest_nm > self._pixel_nm

    def keep_within(self, most_bytes: int) -> None:
        """Let the slabs take no more memory than that from now on."""
        self._slabs.keep_within(most_bytes)

    @property
    def uncorrected(self) -> str:
        """Why the drift is not taken out, for people; empty where it is."""
        if self.is_whole:
            return ""
        return "the canvas is too large for this machine's memory: its drift is told, but not taken out"

    def record(self) -> JudgementRecord | None:
        """Return what run.json says of it; None before the first look."""
        return judgement_record(self._series, self._slabs.path()) if self._series else None

    def finish(self) -> None:
        """Take the drift out of all frames there are, and let go what only a run that goes on needs."""
        if self.is_whole:
            picture = self._slabs.corrected()
            self.corrected = None if picture is None else (picture, self._n_frames)
        self._before = None
        self._slabs.release()


def judging_of(
    reconstruction: AnyReconstruction, calibration: Calibration, part: Part, whole: tuple[int, int] | None
) -> Judging:
    """Return a judgement that knows what the model was trained on, where anybody does; see `Judging`."""
    trained, counts = None, False
    if isinstance(reconstruction, Reconstruction):
        card = reconstruction.model.card
        trained = Trained.from_card(card.training, calibration.pixel_size_nm, reconstruction.binning)
        counts = card.architecture == "livenet"
    return Judging(calibration, part, whole, trained, counts=counts)


def _compared(canvas: NDArray[np.float32], widefield: NDArray[np.float32], look: Look) -> ArtifactMap | None:
    """Compare the canvas with the widefield picture where it grows; elsewhere there are no errors to be known."""
    if look.region is None:
        return artifact_map(canvas, widefield, look.n_frames)
    x, y, width, height = look.region
    fine = canvas.shape[0] // widefield.shape[0]
    part = (slice(y, y + height), slice(x, x + width))
    on_canvas = (slice(fine * y, fine * (y + height)), slice(fine * x, fine * (x + width)))
    found = artifact_map(canvas[on_canvas], widefield[part], look.n_frames)
    if found is None:
        return None
    error, excess = np.zeros_like(widefield), np.zeros_like(widefield)
    marked = np.zeros(widefield.shape, bool)
    error[part], excess[part], marked[part] = found.error, found.excess, found.marked
    return replace(found, error=error, excess=excess, marked=marked)


def _summed(picture: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Return a picture (Y, X) summed over squares so that it has so many rows."""
    size = picture.shape[0] // rows
    return np.asarray(picture.reshape(rows, size, picture.shape[1] // size, size).sum((1, 3)))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
