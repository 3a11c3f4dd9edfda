"""Pictures to look at: a canvas as PNG, and several images of one field side by side."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stormlive.output.display import (
    GAMMA,
    SUPERRES_COLORMAP,
    auto_contrast,
    colours,
    length_label,
    scale_bar_nm,
    sum_pool,
)
from stormlive.output.lettering import draw_text, fitting, text_width_px
from stormlive_sim.atomic import whole_file
from stormlive_sim.errors import InputError

_MOST_PX = 2048
_LEAST_PX = 512
_MOST_PANEL_PX = 1024
_WHITE = (255, 255, 255)
_GREY = (150, 150, 158)
_BACKGROUND = (14, 14, 18)


class Panel(NamedTuple):
    """One picture of `write_side_by_side`."""

    title: str
    image: NDArray[np.float32]
    """(Y, X)"""
    pixel_size_nm: float
    colormap: str = SUPERRES_COLORMAP
    blur_nm: float = 0.0
    """σ of a Gaussian blur for the display alone; the picture says so under the title."""
    note: str = ""
    """What else is said there."""


def render_canvas(
    image: NDArray[np.float32],
    *,
    colormap: str = SUPERRES_COLORMAP,
    percentile: float = 99.5,
    gamma: float = GAMMA,
    most_px: int = _MOST_PX,
) -> NDArray[np.uint8]:
    """Render an image (Y, X) as RGB (y, x, 3), summed down by a whole factor to at most `most_px` a side.

    Contrast as in `auto_contrast`; NaN and infinity are drawn as 0, an empty canvas is black.
    """
    shown = sum_pool(image, _pooling(image, most_px))
    low, high = auto_contrast(shown, percentile=percentile)
    level = np.clip((shown - low) / (high - low), 0.0, 1.0) ** gamma
    table = np.round(colours(colormap) * 255).astype(np.uint8)
    rgb: NDArray[np.uint8] = table[np.round(level * 255).astype(np.intp)]
    return rgb


def write_preview(path: Path, canvas: NDArray[np.float32], pixel_size_nm: float) -> None:
    """Write a canvas (Y, X) as PNG with a scale bar; small canvases are enlarged by a whole factor."""
    rgb = render_canvas(canvas)
    enlargement = max(1, math.ceil(_LEAST_PX / max(rgb.shape[:2])))
    picture = Image.fromarray(rgb.repeat(enlargement, axis=0).repeat(enlargement, axis=1))
    nm_per_px = pixel_size_nm * _pooling(canvas, _MOST_PX) / enlargement
    _draw_scale_bar(picture, nm_per_px)
    _save(path, picture)


def write_side_by_side(path: Path, panels: Sequence[Panel]) -> None:
    """Write panels of the same field side by side as PNG, each with its title, pixel size and scale bar.

    Pixels are shown as squares (no interpolation), so that each panel shows what its data are. Text that is wider than
    its panel ends in dots.
    """
    field_nm = _common_field_nm(panels)
    width, height = _panel_size_px(panels, field_nm)
    margin = max(12, width // 40)
    title_px, note_px = max(14, width // 20), max(11, width // 32)
    head = round(title_px + note_px + 2.2 * margin)
    sheet = Image.new("RGB", (len(panels) * (width + margin) + margin, head + height + margin), _BACKGROUND)
    for index, panel in enumerate(panels):
        left = margin + index * (width + margin)
        title, note = fitting(panel.title, title_px, width), fitting(_note(panel), note_px, width)
        draw_text(sheet, left, margin + title_px, title, title_px, _WHITE)
        draw_text(sheet, left, round(1.6 * margin) + title_px + note_px, note, note_px, _GREY)
        image = panel.image
        if panel.blur_nm:
            from scipy.ndimage import gaussian_filter

            image = gaussian_filter(np.nan_to_num(image), panel.blur_nm / panel.pixel_size_nm)
        rgb = render_canvas(image, colormap=panel.colormap, most_px=_MOST_PANEL_PX)
        picture = Image.fromarray(rgb).resize((width, height), Image.Resampling.NEAREST)
        _draw_scale_bar(picture, field_nm[1] / width)
        sheet.paste(picture, (left, head))
    _save(path, sheet)


def _pooling(image: NDArray[np.float32], most_px: int) -> int:
    longest: int = max(image.shape)
    return math.ceil(longest / most_px)


def _common_field_nm(panels: Sequence[Panel]) -> tuple[float, float]:
    """Return the height and width of the field that all panels show."""
    if not panels:
        raise InputError("expected at least one panel to draw, got none")
    fields = [(p.image.shape[0] * p.pixel_size_nm, p.image.shape[1] * p.pixel_size_nm) for p in panels]
    for panel, field in zip(panels, fields, strict=True):
        if not np.allclose(field, fields[0], rtol=1e-3):
            raise InputError(
                f"panel {panel.title!r} shows {field[0]:g} x {field[1]:g} nm, but {panels[0].title!r} "
                f"{fields[0][0]:g} x {fields[0][1]:g} nm; crop both to the same field"
            )
    return fields[0]


def _panel_size_px(panels: Sequence[Panel], field_nm: tuple[float, float]) -> tuple[int, int]:
    """Return the width and height of a panel: whole multiples of the finest image, for even pixels."""
    finest = max(panels, key=lambda panel: max(panel.image.shape)).image
    most = max(finest.shape)
    shown = math.ceil(most / _pooling(finest, _MOST_PANEL_PX))
    side = shown * math.ceil(_LEAST_PX / shown)
    y_nm, x_nm = field_nm
    return max(1, round(side * x_nm / max(field_nm))), max(1, round(side * y_nm / max(field_nm)))


def _note(panel: Panel) -> str:
    blur = f", shown with a blur of {panel.blur_nm:g} nm" if panel.blur_nm else ""
    note = f", {panel.note}" if panel.note else ""
    return f"{panel.pixel_size_nm:g} nm pixels{blur}{note}"


def _draw_scale_bar(picture: Image.Image, nm_per_px: float) -> None:
    """Draw a white bar and its length at the bottom right, on a dark plate that keeps it readable."""
    width, height = picture.size
    length_nm = scale_bar_nm(width * nm_per_px / 4)
    bar_px = max(1, round(length_nm / nm_per_px))
    text_px = max(10, min(width, height) // 28)
    thickness, gap = max(2, text_px // 4), text_px // 2
    label = length_label(length_nm)
    plate_width = max(bar_px, text_width_px(label, text_px)) + 2 * gap
    right, bottom = width - gap, height - gap
    top = bottom - (text_px + thickness + round(2.6 * gap))
    plate = Image.new("L", (plate_width, bottom - top), 150)
    picture.paste((0, 0, 0), (right - plate_width, top), plate)
    centre = right - plate_width // 2
    bar_left = centre - bar_px // 2
    bar_top = bottom - gap - thickness
    bar = (bar_left, bar_top, bar_left + bar_px - 1, bar_top + thickness - 1)
    ImageDraw.Draw(picture).rectangle(bar, fill=_WHITE)
    label_left = centre - text_width_px(label, text_px) // 2
    draw_text(picture, label_left, bar_top - round(0.8 * gap), label, text_px, _WHITE)


def _save(path: Path, picture: Image.Image) -> None:
    with whole_file(path) as part:
        picture.save(part, format="PNG")
