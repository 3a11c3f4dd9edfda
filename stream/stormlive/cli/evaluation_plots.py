"""Plots of an evaluation, as PNG files."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stormlive.cli.evaluation import Evaluation, ImageEvaluation, LocalizationEvaluation
from stormlive.output.display import GAMMA, auto_contrast, sum_pool
from stormlive_models.evaluate import match_tables, positions_nm, score
from stormlive_models.frc import THRESHOLD
from stormlive_models.image_metrics import blur, truth_histogram
from stormlive_sim.atomic import whole_file
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError

_TOLERANCES_NM = (10, 20, 30, 40, 50, 75, 100, 150, 200, 250)
_CLOUD_NM = 100.0
_MOST_PX = 1024
_FOUND, _TRUE, _BOTH = "#0072b2", "#d55e00", "#222222"


def write_plots(folder: Path, result: Evaluation, *, frames: bool) -> list[Path]:
    """Write the plots of whatever was judged into `folder`, which is created, and return their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror or error}; choose another") from error
    paths = []
    if result.localizations is not None:
        paths.append(_save(folder / "localizations.png", _localizations(result.truth, result.localizations)))
        if frames:
            paths.append(_save(folder / "frames.png", _frames(result.localizations)))
    if result.image is not None:
        paths.append(_save(folder / "image.png", _image(result.truth, result.image)))
    return paths


def _save(path: Path, figure: Figure) -> Path:
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=120)
    return path


def _localizations(truth: Emitters, found: LocalizationEvaluation) -> Figure:
    figure = Figure(figsize=(13, 4.3), layout="constrained")
    curve, cloud, rings = figure.subplots(1, 3)
    by_tolerance = [score(found.table, truth, float(t)) for t in _TOLERANCES_NM]
    for name, colour in (("precision", _FOUND), ("recall", _TRUE), ("jaccard", _BOTH)):
        curve.plot(_TOLERANCES_NM, [getattr(s, name) for s in by_tolerance], ".-", color=colour, label=name)
    curve.set(xlabel="tolerance (nm)", ylim=(0, 1.02), xlim=(0, None), title="Detection")
    curve.legend(loc="lower right")
    _cloud(cloud, truth, found.table)
    _rings(rings, found)
    return figure


def _cloud(axes: Axes, truth: Emitters, found: Emitters) -> None:
    """Draw where localizations lie, seen from their emitters."""
    pairs = match_tables(found, truth, _CLOUD_NM)
    offset = positions_nm(found)[pairs[:, 0]] - positions_nm(truth)[pairs[:, 1]]
    axes.set(xlabel="found − true, x (nm)", ylabel="y (nm)", title=f"Errors of {len(pairs)} pairs within 100 nm")
    axes.set_aspect("equal")
    # Bins of whole nm: the histogram must not beat with positions that were written with few digits.
    edges = np.arange(-_CLOUD_NM, _CLOUD_NM + 1, 4)
    counts, *_ = np.histogram2d(offset[:, 1], offset[:, 0], bins=[edges, edges])
    extent = (-_CLOUD_NM, _CLOUD_NM, -_CLOUD_NM, _CLOUD_NM)
    axes.imshow(np.sqrt(counts), origin="lower", extent=extent, cmap="Blues", interpolation="nearest")
    axes.axhline(0, color="0.7", lw=0.6)
    axes.axvline(0, color="0.7", lw=0.6)
    axes.invert_yaxis()  # as in the picture, where y runs down
    if len(pairs):
        x, y = offset.mean(0)
        axes.plot([x], [y], "+", color=_TRUE, ms=14, mew=1.8, label=f"bias {x:+.1f}, {y:+.1f} nm")
        axes.legend(loc="upper right")


def _rings(axes: Axes, found: LocalizationEvaluation) -> None:
    axes.set(xlabel="spatial frequency (1/nm)", title="Fourier ring correlation, odd and even frames")
    if found.frc is None:
        axes.text(0.5, 0.5, "localizations in odd or\nin even frames only", ha="center", transform=axes.transAxes)
        return
    axes.plot(found.frc.frequency_per_nm, found.frc.correlation, color=_FOUND, lw=1)
    axes.axhline(THRESHOLD, color="0.5", ls="--", lw=0.8)
    axes.set(ylim=(-0.2, 1.02), xlim=(0, None))
    if math.isfinite(found.frc.resolution_nm):
        axes.axvline(1 / found.frc.resolution_nm, color=_TRUE, lw=0.8, label=f"{found.frc.resolution_nm:.1f} nm at 1/7")
        axes.set_xlim(0, min(4 / found.frc.resolution_nm, float(found.frc.frequency_per_nm[-1])))
        axes.legend(loc="upper right")


def _frames(found: LocalizationEvaluation) -> Figure:
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    counts, shares = figure.subplots(2, 1, sharex=True)
    counts.plot(found.frames, found.n_truth, color=_TRUE, lw=1, label="true emitters")
    counts.plot(found.frames, found.n_found, color=_FOUND, lw=1, label="localizations")
    counts.set(ylabel="per frame", ylim=(0, None))
    counts.legend(loc="lower right")
    for (tolerance, _), matched in zip(found.scores, found.n_matched, strict=True):
        union = found.n_truth + found.n_found - matched
        jaccard = np.divide(matched, union, out=np.full(len(union), math.nan), where=union > 0)
        shares.plot(found.frames, jaccard, lw=1, label=f"{tolerance:g} nm")
    shares.set(xlabel="frame", ylabel="Jaccard", ylim=(0, 1.02))
    shares.legend(loc="lower right", title="tolerance")
    return figure


def _image(truth: Emitters, picture: ImageEvaluation) -> Figure:
    """Draw truth and picture, both blurred as for N3, and one over the other."""
    height, width = picture.image.shape
    histogram = truth_histogram(truth, (height, width), picture.pixel_size_nm)
    sides = [_shown(blur(values)) for values in (histogram, picture.image.astype(np.float64))]
    true, found = sides
    # Purple and green are each other's complement: where both agree the sum is grey to white.
    overlay = np.stack((found, true, found), -1)
    extent = (0.0, width * picture.pixel_size_nm / 1e3, height * picture.pixel_size_nm / 1e3, 0.0)
    figure = Figure(figsize=(15, 5.6 * height / width + 0.8), layout="constrained")
    panels: Any = figure.subplots(1, 3, sharex=True, sharey=True)
    s = picture.scores
    titles = (
        "Truth",
        f"Picture: N3 {s.n3_percent:.1f} %, N1 {s.n1_percent:.1f} %",
        f"green: missed, purple: invented ({100 * s.artifact_fraction:.2f} % over 25 nm off)",
    )
    for axes, values, title in zip(panels, (true, found, overlay), titles, strict=True):
        axes.imshow(values, cmap="inferno", vmin=0, vmax=1, extent=extent, interpolation="nearest")
        axes.set(xlabel="µm", title=title)
    return figure


def _shown(image: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return an image as brightness from 0 to 1, summed down to at most 1024 pixels a side."""
    pooled = sum_pool(image.astype(np.float32), math.ceil(max(image.shape) / _MOST_PX))
    low, high = auto_contrast(pooled)
    shown: NDArray[np.float32] = np.clip((pooled - low) / (high - low), 0, 1) ** np.float32(GAMMA)
    return shown
