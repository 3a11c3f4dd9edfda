"""How numbers become a picture: pooling, contrast, colours and the length of a scale bar.

The preview and the live window share these rules, so that the same canvas looks the same in both.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from cmap import Colormap
from numpy.typing import NDArray

from stormlive_sim.errors import InputError

GAMMA = 0.7
# Perceptually uniform: equal steps of intensity look equal, and its dark end is black, as an empty field is.
SUPERRES_COLORMAP = "inferno"
WIDEFIELD_COLORMAP = "gray"

_BAND_BYTES = 1 << 24
_CONTRAST_SAMPLES = 1 << 20


def sum_pool(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Sum blocks of `factor` × `factor` pixels of an image (Y, X); the last row and column may be partial.

    A sum, not a stride or a mean: a lone localization stays as bright as it was. NaN counts as 0.
    """
    rows = math.ceil(image.shape[0] / factor)
    pooled = np.empty((rows, math.ceil(image.shape[1] / factor)), np.float32)
    columns = np.arange(0, image.shape[1], factor)
    # Bands keep the cleaned copy small: a canvas can be 1 GB.
    band = max(1, _BAND_BYTES // (image.shape[1] * factor * 4))
    for first in range(0, rows, band):
        rough = image[first * factor : (first + band) * factor]
        clean = np.nan_to_num(rough, nan=0.0, posinf=0.0, neginf=0.0)
        by_rows = np.add.reduceat(clean, np.arange(0, len(clean), factor), axis=0)
        pooled[first : first + band] = np.add.reduceat(by_rows, columns, axis=1)
    return pooled


def auto_contrast(image: NDArray[np.float32], *, percentile: float = 99.5) -> tuple[float, float]:
    """Return the values of an image (Y, X) to show as black and as white.

    A sparse image (most pixels 0) runs from 0 to the percentile of its non-zero values: over all its pixels
    every percentile would be 0. Any other image runs between the two tails of its values, so that the
    background of a camera is black. Always low < high.
    """
    return auto_contrasts(image, [percentile])[0]


def auto_contrasts(image: NDArray[np.float32], percentiles: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return what `auto_contrast` does, with each of several percentiles."""
    values = image[np.isfinite(image)]
    lit = values[values > 0]
    if lit.size == 0:
        return ((0.0, 1.0),) * len(percentiles)
    sparse = 2 * lit.size < values.size
    considered = lit if sparse else values
    considered = considered[:: 1 + considered.size // _CONTRAST_SAMPLES]
    # Without interpolation, which would reach out for a lone outlier beyond the second brightest value.
    lows = np.percentile(considered, [100 - percentile for percentile in percentiles], method="higher")
    highs = np.percentile(considered, percentiles, method="lower")
    return tuple(_limits(float(low), float(high), sparse=sparse) for low, high in zip(lows, highs, strict=True))


def _limits(low: float, high: float, *, sparse: bool) -> tuple[float, float]:
    if sparse or high <= low:
        low = 0.0
    return (low, high) if high > low else (low, low + 1.0)


@cache
def colours(name: str) -> NDArray[np.float32]:
    """Return the 256 colours of a map of the `cmap` package, RGB from 0 to 1, shape (256, 3)."""
    try:
        lut = Colormap(name).lut(256)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"unknown colormap {name!r}; use a name that the cmap package knows, such as 'inferno'"
        ) from error
    return np.asarray(lut[:, :3], np.float32)


def scale_bar_nm(widest_nm: float) -> float:
    """Return the longest round length (1, 2 or 5 times a power of ten, in nm) not over `widest_nm`."""
    decade = 10.0 ** math.floor(math.log10(widest_nm))
    return max(step * decade for step in (1, 2, 5) if step * decade <= widest_nm * (1 + 1e-9))


def length_label(length_nm: float) -> str:
    """Return a length as a person would write it: ``'500 nm'``, ``'2 µm'``."""
    return f"{length_nm / 1e3:g} µm" if length_nm >= 1e3 else f"{length_nm:g} nm"
