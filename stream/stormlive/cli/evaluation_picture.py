"""The plot of a picture against the truth: both beside each other in one scale, and where they differ."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from stormlive.cli.evaluation import ImageEvaluation
from stormlive.output.display import GAMMA, SUPERRES_COLORMAP, auto_contrast, length_label, scale_bar_nm, sum_pool
from stormlive_models.image_metrics import ARTIFACT_NM, best_scale, blur, truth_histogram
from stormlive_sim.emitters import Emitters

_MOST_PX = 1024
_DETAIL_PX = 128
"""Sub-pixels a side of the detail, which shows each of them; smaller pictures than two such need none."""
_PANEL_INCHES = 3.7
# Each the other's complement: where truth and picture agree their sum is grey to white.
_MISSED, _INVENTED, _BOTH = "#00d000", "#e000e0", "#b0b0b0"


def picture_figure(truth: Emitters, picture: ImageEvaluation) -> Figure:
    """Draw truth, picture and one over the other, both blurred and scaled as for N3, and below them a full detail."""
    height, width = picture.image.shape
    true = blur(truth_histogram(truth, (height, width), picture.pixel_size_nm))
    found = blur(picture.image.astype(np.float64))
    scale = best_scale(found, true)
    found *= scale
    detail = _fullest(true) if max(height, width) >= 2 * _DETAIL_PX else None
    parts: list[tuple[slice, slice]] = [(slice(0, height), slice(0, width)), *([] if detail is None else [detail])]
    ratios = [min(1.5, max(0.4, (rows.stop - rows.start) / (columns.stop - columns.start))) for rows, columns in parts]
    figure = Figure(
        figsize=(3 * _PANEL_INCHES + 1.6, _PANEL_INCHES * sum(ratios) + 1.1 + 0.3 * len(parts)), layout="constrained"
    )
    panels: Any = figure.subplots(len(parts), 3, squeeze=False, height_ratios=ratios)
    for row, part in zip(panels, parts, strict=True):
        _row(figure, row, true[part], found[part], picture.pixel_size_nm)
    titles = ("Truth: every emitter", f"Picture × {scale:.3g}, for the least error", "Difference: one over the other")
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title)
    if detail is not None:
        rows, columns = detail
        for axes in panels[0]:
            side = (columns.stop - columns.start, rows.stop - rows.start)
            axes.add_patch(Rectangle((columns.start, rows.start), *side, fill=False, ec="white", lw=1.2))
        panels[1, 0].set_ylabel("the part in the white frame")
    colours = (_MISSED, "truth only: missed"), (_INVENTED, "picture only: invented"), (_BOTH, "both")
    figure.legend(
        handles=[Patch(color=colour, label=text) for colour, text in colours],
        loc="outside lower right",
        ncols=3,
        frameon=False,
        handlelength=0.8,
        handletextpad=0.5,
    )
    s = picture.scores
    figure.suptitle(
        f"N3 {s.n3_percent:.1f} %, N1 {s.n1_percent:.1f} %, correlation {s.pearson:.3f}; "
        f"{100 * s.artifact_fraction:.1f} % of the intensity lies over {ARTIFACT_NM:g} nm from any emitter",
        fontsize=11,
    )
    return figure


def _row(figure: Figure, row: Any, true: NDArray[np.float64], found: NDArray[np.float64], sub_nm: float) -> None:  # noqa: ANN401
    """Draw one part of truth, picture and both into three axes, in sub-pixels, with one scale of colours."""
    height, width = true.shape
    factor = math.ceil(max(height, width) / _MOST_PX)
    per_um2 = 1e6 / (sub_nm * factor) ** 2
    sides = [sum_pool(side.astype(np.float32), factor) * np.float32(per_um2) for side in (true, found)]
    norm = PowerNorm(GAMMA, 0, auto_contrast(sides[0])[1])
    shown = [np.clip(np.asarray(norm(side)), 0, 1) for side in sides]
    overlay = np.stack((shown[1], shown[0], shown[1]), -1)
    extent = (0.0, float(width), float(height), 0.0)
    for axes, values in zip(row, (*shown, overlay), strict=True):
        axes.imshow(values, cmap=SUPERRES_COLORMAP, vmin=0, vmax=1, extent=extent, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
    _scale_bar(row[0], width, sub_nm)
    bar = figure.colorbar(
        ScalarMappable(norm, SUPERRES_COLORMAP), ax=list(row), extend="max", pad=0.01, fraction=0.025, aspect=30
    )
    bar.set_label("emitters/µm²")


def _scale_bar(axes: Axes, width: int, sub_nm: float) -> None:
    """Draw a bar and its length below the picture: of a narrow field it would hide much inside."""
    length_nm = scale_bar_nm(width * sub_nm / 4)
    bar = AnchoredSizeBar(
        axes.transData,
        length_nm / sub_nm,
        length_label(length_nm),
        "upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=axes.transAxes,
        size_vertical=width / 100,
        fill_bar=True,
        frameon=False,
        pad=0.3,
        borderpad=0,
        sep=3,
    )
    axes.add_artist(bar)


def _fullest(true: NDArray[np.float64]) -> tuple[slice, slice]:
    """Return rows and columns of the detail: the square with the most emitters."""
    coarse = 16
    sums = uniform_filter(sum_pool(true.astype(np.float32), coarse), _DETAIL_PX // coarse, mode="constant")
    middle = np.unravel_index(sums.argmax(), sums.shape)
    spans = []
    for place, side in zip(middle, true.shape, strict=True):
        first = min(max(0, int(place) * coarse - _DETAIL_PX // 2), max(0, side - _DETAIL_PX))
        spans.append(slice(first, min(side, first + _DETAIL_PX)))
    return spans[0], spans[1]
