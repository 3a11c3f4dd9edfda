"""The pictures of a training's report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stormlive_models.training.calibration import Calibration
from stormlive_models.training.history import Epoch, Validation

_FOUND, _TRUE, _GREY = "#0072b2", "#d55e00", "0.55"
_ON_FRAME_FOUND, _ON_FRAME_TRUE = "#4cc9f0", "#ffa62b"
_COLUMNS = 4


@dataclass(frozen=True, kw_only=True)
class Example:
    """A training frame and what the network makes of it.

    Attributes
    ----------
    title : str
        What it is.
    photons : ndarray
        (Y, X).
    increment : ndarray
        (Y u, X u).
    truth_px, found_px : ndarray
        (N, 2) and (M, 2), (x, y) in pixels of the frame; no `found_px` from a network without detection heads.
    """

    title: str
    photons: NDArray[np.float32]
    increment: NDArray[np.float32]
    truth_px: NDArray[np.float64]
    found_px: NDArray[np.float64] | None


def curves(losses: Sequence[float], validations: Sequence[Validation], epochs: Sequence[Epoch]) -> Figure:
    """Draw the loss of every step and epoch, and the Jaccard index at every validation where there is any."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels: Any = figure.subplots(1, 2 if validations else 1, squeeze=False)[0]
    _loss(panels[0], np.array(losses))
    if epochs:
        ends, held_out = [epoch.step for epoch in epochs], [epoch.loss for epoch in epochs]
        panels[0].plot(ends, held_out, ".-", color=_TRUE, lw=1.2, label="validation, at the end of each epoch")
        panels[0].legend(loc="upper right")
        # The first ones know as little as the first steps.
        (low, high), late = panels[0].get_ylim(), held_out[len(held_out) // 2 :]
        panels[0].set_ylim(min(low, *late), max(high, *late))
    if validations:
        steps = [validation.step for validation in validations]
        for density in validations[0].scores:
            jaccard = [validation.scores[density].jaccard for validation in validations]
            panels[1].plot(steps, jaccard, ".-", lw=1, label=f"{density.removesuffix('/um2')} /µm²")
        panels[1].plot(steps, [validation.jaccard for validation in validations], "k.-", lw=1.6, label="mean")
        panels[1].set(xlabel="step", ylabel="Jaccard index at 100 nm", title="Validation", xlim=(0, None))
        panels[1].grid(alpha=0.3)
        panels[1].legend(loc="lower right")
    return figure


def _loss(axes: Axes, losses: NDArray[np.float64]) -> None:
    axes.set(xlabel="step", ylabel="loss", title="Training")
    axes.grid(alpha=0.3)
    if not len(losses):
        return
    # A thousand means show as much as every step would, and draw in no time.
    width = max(1, len(losses) // 1000)
    n = len(losses) // width
    parts = losses[: n * width].reshape(n, width)
    steps = (np.arange(n) + 0.5) * width
    axes.plot(steps, parts.mean(1), color=_FOUND, lw=0.6, alpha=0.5)
    kernel = np.ones(max(1, n // 40))
    smooth = np.convolve(parts.mean(1), kernel / len(kernel), "valid")
    axes.plot(steps[len(kernel) // 2 :][: len(smooth)], smooth, color=_FOUND, lw=1.8)
    # The first steps know nothing: they would press the rest into a line.
    finite = parts.mean(1)[np.isfinite(parts.mean(1))][n // 20 :]
    if len(finite) > 1 and finite.min() < finite.max():
        margin = 0.1 * (finite.max() - finite.min())
        axes.set_ylim(finite.min() - margin, finite.max() + margin)


def frames(examples: Sequence[Example]) -> Figure:
    """Draw frames with truth and detections, and below each the increment of the picture that it gives."""
    rows = -(-len(examples) // _COLUMNS)
    figure = Figure(figsize=(3.3 * _COLUMNS, 6.9 * rows))
    panels: Any = figure.subplots(2 * rows, _COLUMNS, squeeze=False)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=0.98, wspace=0.03, hspace=0.08)
    for axes in panels.flat:
        axes.set_axis_off()
    for i, example in enumerate(examples):
        above, below = panels[2 * (i // _COLUMNS) : 2 * (i // _COLUMNS) + 2, i % _COLUMNS]
        height, width = example.photons.shape
        extent = (0.0, float(width), float(height), 0.0)
        low, high = np.percentile(example.photons, (1, 99.8))
        above.imshow(example.photons, cmap="gray", vmin=low, vmax=max(high, low + 1), extent=extent)
        above.set_title(example.title, fontsize=10)
        above.plot(*example.truth_px.T, "o", ms=7, mfc="none", mec=_ON_FRAME_TRUE, mew=1.1)
        if example.found_px is not None:
            above.plot(*example.found_px.T, "x", ms=5, color=_ON_FRAME_FOUND, mew=1.2)
        brightest = max(float(example.increment.max()), 1e-6)
        below.imshow(example.increment**0.7, cmap="inferno", vmin=0, vmax=brightest**0.7, extent=extent)
    return figure


def calibration(result: Calibration) -> Figure:
    """Draw how far probabilities, uncertainties and photons can be believed."""
    figure = Figure(figsize=(12, 9.5), layout="constrained")
    (reliability, pulls), (spread, photons) = figure.subplots(2, 2)
    _reliability(reliability, result)
    _pulls(pulls, result)
    _spread(spread, result)
    _photons(photons, result)
    return figure


def _reliability(axes: Axes, result: Calibration) -> None:
    axes.set(xlabel="predicted probability", ylabel=f"share with an emitter within {result.tolerance_nm:g} nm")
    axes.set(title="Detections: probability", xlim=(0, 1), ylim=(0, 1.02))
    axes.plot([0, 1], [0, 1], color=_GREY, lw=1, ls="--")
    edges = np.linspace(0, 1, 11)
    index = np.clip(np.digitize(result.probability, edges) - 1, 0, 9)
    count = np.bincount(index, minlength=10)
    true = np.bincount(index, weights=result.is_true, minlength=10)
    mean = np.bincount(index, weights=result.probability, minlength=10)
    some = count >= 10
    share = true[some] / count[some]
    error = np.sqrt(share * (1 - share) / count[some])
    axes.errorbar(mean[some] / count[some], share, yerr=error, fmt="o-", color=_FOUND, capsize=2)
    behind = axes.twinx()
    behind.bar(edges[:-1] + 0.05, count / max(1, count.sum()), width=0.09, color=_FOUND, alpha=0.15)
    behind.set(ylim=(0, 3), yticks=[])
    axes.text(0.03, 0.95, f"bars: how the {count.sum()} candidates spread", transform=axes.transAxes, fontsize=9)


def _pulls(axes: Axes, result: Calibration) -> None:
    axes.set(xlabel="(found − true) / predicted σ, x and y", title="Positions: error over uncertainty", yticks=[])
    z = np.linspace(-4, 4, 161)
    axes.plot(z, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), color=_TRUE, lw=1.5, label="unit normal")
    pull = (result.error_nm / result.sigma_nm).ravel()
    if len(pull):
        axes.hist(pull, bins=64, range=(-4, 4), density=True, color=_FOUND, alpha=0.4)
        within = [100 * float((np.abs(pull) < k).mean()) for k in (1, 2)]
        text = f"within 1 σ: {within[0]:.0f} % (68)\nwithin 2 σ: {within[1]:.0f} % (95)"
        axes.text(0.03, 0.86, text, transform=axes.transAxes, fontsize=9)
    axes.legend(loc="upper right")


def _spread(axes: Axes, result: Calibration) -> None:
    axes.set(xlabel="predicted σ (nm)", ylabel="nm", title="Positions: error against uncertainty")
    sigma, error = result.sigma_nm.ravel(), result.error_nm.ravel()
    n_bins = min(16, len(sigma) // 30)
    if n_bins == 0:
        axes.text(0.5, 0.5, "too few pairs", ha="center", transform=axes.transAxes)
        return
    parts = np.array_split(np.argsort(sigma), n_bins)
    mean = [float(sigma[part].mean()) for part in parts]
    # What 68 % stay below is the standard deviation of a normal error, and asks little of a few wrong pairs.
    typical = [float(np.quantile(np.abs(error[part]), 0.6827)) for part in parts]
    rmse = [float(np.sqrt(np.mean(error[part] ** 2))) for part in parts]
    axes.plot([0, mean[-1]], [0, mean[-1]], color=_GREY, lw=1, ls="--")
    axes.plot(mean, rmse, "o-", color=_FOUND, label="RMSE per axis")
    axes.plot(mean, typical, ".-", color=_TRUE, lw=1, label="68 % of errors are below")
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.legend(loc="upper left")


def _photons(axes: Axes, result: Calibration) -> None:
    axes.set(xlabel="true photons", ylabel="found photons", title="Photons")
    if len(result.photons_true) < 2:
        axes.text(0.5, 0.5, "too few pairs", ha="center", transform=axes.transAxes)
        return
    both = np.concatenate((result.photons_true, result.photons_found))
    low, high = np.quantile(both, (0.001, 0.999))
    edges = np.geomspace(low, high, 61)
    counts = np.histogram2d(result.photons_true, result.photons_found, bins=[edges, edges])[0]
    # Empty bins are no colour at all.
    shown = np.where(counts > 0, counts, np.nan).T
    axes.pcolormesh(edges, edges, shown, cmap="Blues", norm=LogNorm(0.5, counts.max() + 1))
    axes.plot(edges[[0, -1]], edges[[0, -1]], color=_GREY, lw=1, ls="--")
    parts = np.array_split(np.argsort(result.photons_true), min(12, max(1, len(result.photons_true) // 30)))
    middle = [np.median(result.photons_true[part]) for part in parts]
    found = [np.median(result.photons_found[part]) for part in parts]
    axes.plot(middle, found, "o-", color=_TRUE, ms=4, label="median")
    axes.set(xscale="log", yscale="log")
    axes.legend(loc="upper left")
