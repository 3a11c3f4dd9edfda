"""Plots of an evaluation, as PNG files."""

import math
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stormlive.cli.evaluation import Evaluation, LocalizationEvaluation
from stormlive.cli.evaluation_picture import picture_figure
from stormlive.wire.text import counted
from stormlive_models.evaluate import match_tables, positions_nm, score
from stormlive_models.frc import THRESHOLD
from stormlive_sim.atomic import whole_file
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError

_TOLERANCES_NM = (10, 20, 30, 40, 50, 75, 100, 150, 200, 250)
_CLOUD_NM = 100.0
_MOST_POINTS = 200
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
        paths.append(_save(folder / "image.png", picture_figure(result.truth, result.image)))
    return paths


def _save(path: Path, figure: Figure) -> Path:
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=150)
    return path


def _localizations(truth: Emitters, found: LocalizationEvaluation) -> Figure:
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    curve, cloud, rings = figure.subplots(1, 3)
    by_tolerance = [score(found.table, truth, float(t)) for t in _TOLERANCES_NM]
    for name, label, colour in (
        ("precision", "precision: found that are true", _FOUND),
        ("recall", "recall: true that are found", _TRUE),
        ("jaccard", "Jaccard index", _BOTH),
    ):
        curve.plot(_TOLERANCES_NM, [getattr(s, name) for s in by_tolerance], ".-", color=colour, label=label)
    curve.set(
        xlabel="tolerance: farthest from the emitter (nm)",
        ylabel="share",
        ylim=(0, 1.02),
        xlim=(0, None),
        title="Detection",
    )
    curve.grid(color="0.9")
    curve.legend(loc="lower right")
    _cloud(cloud, truth, found.table)
    _rings(rings, found)
    return figure


def _cloud(axes: Axes, truth: Emitters, found: Emitters) -> None:
    """Draw where localizations lie, seen from their emitters."""
    pairs = match_tables(found, truth, _CLOUD_NM)
    offset = positions_nm(found)[pairs[:, 0]] - positions_nm(truth)[pairs[:, 1]]
    axes.set(xlabel="found − true, x (nm)", ylabel="found − true, y (nm)")
    axes.set_title(f"Errors of {len(pairs)} pairs within {_CLOUD_NM:g} nm")
    axes.set_aspect("equal")
    # Bins of whole nm: the histogram must not beat with positions that were written with few digits.
    edges = np.arange(-_CLOUD_NM, _CLOUD_NM + 1, 4)
    counts, *_ = np.histogram2d(offset[:, 1], offset[:, 0], bins=[edges, edges])
    extent = (-_CLOUD_NM, _CLOUD_NM, -_CLOUD_NM, _CLOUD_NM)
    axes.imshow(np.sqrt(counts), origin="lower", extent=extent, cmap="Blues", interpolation="nearest")
    axes.axhline(0, color="0.7", lw=0.6)
    axes.axvline(0, color="0.7", lw=0.6)
    axes.text(0.02, 0.02, "colour: square root of their number", size=8, transform=axes.transAxes)
    axes.invert_yaxis()  # as in the picture, where y runs down
    if len(pairs):
        x, y = offset.mean(0)
        axes.plot([x], [y], "+", color=_TRUE, ms=14, mew=1.8, label=f"mean {x:+.1f}, {y:+.1f} nm")
        axes.legend(loc="upper right")


def _rings(axes: Axes, found: LocalizationEvaluation) -> None:
    axes.set(xlabel="spatial frequency (1/µm)", ylabel="correlation of both halves", title="Fourier ring correlation")
    if found.frc is None:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no localizations in one\nhalf of the frames", ha="center", transform=axes.transAxes)
        return
    frequency_per_um = 1e3 * found.frc.frequency_per_nm
    blocks = f"alternate blocks of {counted(found.frc_block, 'frame')}"
    axes.plot(frequency_per_um, found.frc.correlation, color=_FOUND, lw=1.2, label=blocks)
    axes.axhline(THRESHOLD, color="0.5", ls="--", lw=0.8, label="1/7")
    axes.set(ylim=(-0.2, 1.02), xlim=(0, None))
    if math.isfinite(found.frc.resolution_nm):
        end_per_um = 1e3 / found.frc.resolution_nm
        axes.axvline(end_per_um, color=_TRUE, lw=1.2, label=f"resolution {found.frc.resolution_nm:.1f} nm")
        axes.set_xlim(0, min(4 * end_per_um, float(frequency_per_um[-1])))
    axes.legend(loc="upper right", framealpha=1)


def _frames(found: LocalizationEvaluation) -> Figure:
    """Draw the course of the movie, in means of so many frames that the lines can be told apart."""
    n = len(found.frames)
    length = math.ceil(n / _MOST_POINTS)
    starts = np.arange(0, n, length)
    sizes = np.diff(np.append(starts, n))
    middles = found.frames[starts] + (sizes - 1) / 2
    n_truth, n_found = (np.add.reduceat(counts, starts) for counts in (found.n_truth, found.n_found))
    figure = Figure(figsize=(10, 6), layout="constrained")
    counts, shares = figure.subplots(2, 1, sharex=True)
    style = ".-" if n < _MOST_POINTS / 2 else "-"
    for values, colour, label in ((n_truth, _TRUE, "true emitters"), (n_found, _FOUND, "localizations")):
        counts.plot(middles, values / sizes, style, color=colour, lw=1.2, label=label)
    counts.set(ylabel="per frame", ylim=(0, None))
    counts.set_title("Along the movie" + (f", means of {length} frames" if length > 1 else ""))
    tones = colormaps["viridis"](np.linspace(0, 0.8, len(found.scores)))
    for (tolerance, _), matched, tone in zip(found.scores, found.n_matched, tones, strict=True):
        pairs = np.add.reduceat(matched, starts)
        union = n_truth + n_found - pairs
        jaccard = np.divide(pairs, union, out=np.full(len(union), math.nan), where=union > 0)
        shares.plot(middles, jaccard, style, color=tone, lw=1.2, label=f"within {tolerance:g} nm")
    shares.set(xlabel="frame", ylabel="Jaccard index", ylim=(0, 1.02))
    shares.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (counts, shares):
        axes.grid(color="0.9")
        # Beside the lines: wherever it is put inside, it may lie over one.
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure
