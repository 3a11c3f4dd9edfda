"""The pictures of peers.py side by side."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from _accuracy_frames import SUB_NM, UPSAMPLING
from _peers_methods import Movie
from _rig import CALIBRATION
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter

from stormlive_models.image_metrics import blur, truth_histogram

_ZOOM = 192
_COLOURS = 64
"""Of the file, which is a fifth so large as in full colour."""


def draw(movies: list[tuple[Movie, dict[str, NDArray[Any]]]], path: Path) -> None:
    """Write what the methods made of the fullest part of each movie, a row each, as PNG."""
    columns = ["mean of the frames", "truth", *movies[0][1]]
    figure = Figure(figsize=(2 * len(columns), 2.15 * len(movies)), layout="constrained")
    panels = figure.subplots(len(movies), len(columns), squeeze=False)
    for row, (movie, pictures) in zip(panels, movies, strict=True):
        side = movie.adu.shape[1] * UPSAMPLING
        truth = truth_histogram(movie.truth, (side, side), SUB_NM)
        mean = (movie.adu.mean(0) - CALIBRATION.baseline_adu).repeat(UPSAMPLING, 0).repeat(UPSAMPLING, 1)
        inner = slice(_ZOOM // 2, 1 - _ZOOM // 2)
        fullness = uniform_filter(truth, _ZOOM, mode="constant")[inner, inner]
        top, left = np.unravel_index(fullness.argmax(), fullness.shape)
        part = np.s_[top : top + _ZOOM, left : left + _ZOOM]
        # Blurred as N3 is, since lone sub-pixels cannot be seen; the square root shows faint haze.
        shown = [np.sqrt(blur(image.astype(np.float64)).clip(0))[part] for image in (truth, *pictures.values())]
        for panel, image in zip(row, [mean[part], *shown], strict=True):
            panel.imshow(image, cmap="inferno", vmin=image.min(), vmax=np.percentile(image, 99.8))
            panel.set_xticks([])
            panel.set_yticks([])
        row[0].set_ylabel(f"{movie.name}, {len(movie.truth) / len(movie.adu):.0f} emitters a frame", fontsize=8)
    for panel, title in zip(panels[0], columns, strict=True):
        panel.set_title(title, fontsize=8)
    in_memory = io.BytesIO()
    figure.savefig(in_memory, dpi=100)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(in_memory).convert("RGB").quantize(_COLOURS).save(path, optimize=True)
