"""Resolution of a picture from two halves of its data: Fourier ring correlation.

Nieuwenhuizen et al., Nature Methods 10, 557 (2013). The halves must be independent, and neighbouring frames are not: an
emitter that shines for several frames is in all of them, each time with noise of its own but at the same place, and a
network with context sees the light of its neighbours in every frame. Odd and even frames would make the resolution look
better than it is; halves of alternate blocks of frames share such light at the blocks' edges only.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft2

from stormlive_models.evaluate import positions_nm
from stormlive_sim.emitters import Emitters

THRESHOLD = 1 / 7
_FINEST_NM = 5.0
_MOST_PX = 4096
_TAPER = 0.25
"""Share of the picture's side over which both its ends are faded out."""
_RING_SHARE = 0.1
_LEAST_RINGS = 5
_GRID_SHARE = 0.15
_LONGEST_BLOCK = 50
_LEAST_BLOCKS = 20
"""With fewer, one half could have much more than the other of a sample that bleaches or drifts."""


@dataclass(frozen=True, kw_only=True)
class RingCorrelation:
    """A Fourier ring correlation.

    Attributes
    ----------
    frequency_per_nm : ndarray
        float64 (R,), spatial frequency of each ring up to Nyquist's, 1/nm.
    correlation : ndarray
        float64 (R,), -1 to 1; NaN where a half has no power.
    resolution_nm : float
        1 / frequency where the correlation first falls below 1/7; NaN where it never does (finer than two pixels)
        or is below from the start.
    """

    frequency_per_nm: NDArray[np.float64]
    correlation: NDArray[np.float64]
    resolution_nm: float


def ring_correlation(
    first: NDArray[np.floating], second: NDArray[np.floating], pixel_size_nm: float, *, grid_nm: float | None = None
) -> RingCorrelation:
    """Correlate two pictures (Y, X) of the same field, made from two independent halves of the data.

    A ring is as wide as 10 % of its frequency, at least 5 steps of the transform: one step wide, the curve of a small
    field is so noisy that it falls below any threshold by chance.

    With `grid_nm`, the camera's pixel, frequencies near those of its grid (up to 15 % of the grid's from a multiple,
    along both axes) are left out: what a network leaves of the grid is the same in both halves and no resolution.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"expected two pictures of one shape (Y, X), got {first.shape} and {second.shape}")
    height, width = first.shape
    # All of scipy.signal takes as long to import as everything else that a server needs.
    from scipy.signal.windows import tukey

    window = tukey(height, _TAPER)[:, None] * tukey(width, _TAPER)
    a, b = rfft2(first * window), rfft2(second * window)
    fy, fx = np.fft.fftfreq(height, pixel_size_nm)[:, None], np.fft.rfftfreq(width, pixel_size_nm)
    step = 1 / (min(height, width) * pixel_size_nm)
    ring = np.rint(np.hypot(fy, fx) / step).astype(np.intp).ravel()
    n_rings = min(height, width) // 2 + 1
    # The transform of a real picture is given by half; its inner columns stand for their mirror images too.
    twice = np.full(a.shape, 2.0)
    twice[:, 0] = 1
    if width % 2 == 0:
        twice[:, -1] = 1
    if grid_nm is not None:
        nearest = [np.rint(f * grid_nm) for f in (fy, fx)]
        near = [np.abs(f * grid_nm - n) < _GRID_SHARE for f, n in zip((fy, fx), nearest, strict=True)]
        twice[near[0] & near[1] & ((nearest[0] != 0) | (nearest[1] != 0))] = 0

    def ring_sums(values: NDArray[np.floating]) -> NDArray[np.float64]:
        sums = np.bincount(ring, (values * twice).ravel(), minlength=n_rings)[:n_rings]
        return np.concatenate(([0.0], np.cumsum(sums)))

    index = np.arange(n_rings)
    half = np.maximum(_LEAST_RINGS // 2, np.rint(index * _RING_SHARE / 2)).astype(np.intp)
    low, high = np.maximum(0, index - half), np.minimum(n_rings, index + half + 1)
    cross, power_a, power_b = (
        sums[high] - sums[low]
        for sums in (ring_sums((a * b.conj()).real), ring_sums(np.abs(a) ** 2), ring_sums(np.abs(b) ** 2))
    )
    norm = np.sqrt(power_a * power_b)
    correlation = np.divide(cross, norm, out=np.full(n_rings, math.nan), where=norm > 0)
    frequency = index * step
    return RingCorrelation(
        frequency_per_nm=frequency, correlation=correlation, resolution_nm=_resolution_nm(frequency, correlation)
    )


def _resolution_nm(frequency: NDArray[np.float64], correlation: NDArray[np.float64]) -> float:
    below = np.flatnonzero(correlation < THRESHOLD)
    if not len(below) or below[0] == 0:
        return math.nan
    i = below[0]
    before, after = correlation[i - 1], correlation[i]
    share = (before - THRESHOLD) / (before - after)
    return float(1 / (frequency[i - 1] + share * (frequency[i] - frequency[i - 1])))


def block_halves(table: Emitters) -> tuple[Emitters, Emitters, int]:
    """Return two halves of a table, of alternate blocks of frames, and how many frames a block has.

    A block has 50 frames, in movies of less than 1000 so many that there are 20 blocks, and never less than one. Blocks
    count from the table's first frame. An empty table has empty halves.
    """
    if not len(table):
        return table, table, 1
    since = table.frame - table.frame.min()
    length = max(1, min(_LONGEST_BLOCK, (int(since.max()) + 1) // _LEAST_BLOCKS))
    first = since // length % 2 == 0
    return table.select(first), table.select(~first), length


def localization_frc(first: Emitters, second: Emitters) -> RingCorrelation:
    """Correlate two halves of a table, drawn as histograms over the field that they share.

    The histogram's pixel is 5 nm, coarser only where a field over 20 µm would need more than 4096 of them a side.
    """
    points = [positions_nm(table) for table in (first, second)]
    if not all(len(p) for p in points):
        raise ValueError("expected localizations in both halves, got an empty one")
    corner = np.minimum(points[0].min(0), points[1].min(0))
    extent = np.maximum(points[0].max(0), points[1].max(0)) - corner
    pixel_size_nm = max(_FINEST_NM, float(extent.max()) / _MOST_PX)
    columns, rows = (int(n) + 1 for n in extent // pixel_size_nm)
    pictures = []
    for xy in points:
        column, row = ((xy - corner) // pixel_size_nm).astype(np.intp).T
        counts = np.bincount(row * columns + column, minlength=rows * columns)
        pictures.append(counts.reshape(rows, columns).astype(np.float32))
    return ring_correlation(pictures[0], pictures[1], pixel_size_nm)
