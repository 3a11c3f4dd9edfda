"""What a camera's own frames say about its calibration.

Photon transfer (Janesick, Photon Transfer, SPIE 2007): noise grows with light by a factor that is the gain, and there
is none at the baseline. The noise is that of frequencies which no objective passes, as in Heintzmann et al.,
"Calibrating photon counts from a single image" (arXiv:1611.05654, 2016), here of the difference of consecutive frames,
so that neither blinking nor unequal pixels count as noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, median_filter

_BINOMIAL = np.array([(-1.0) ** i * math.comb(8, i) for i in range(9)])
NOISE_KERNEL = _BINOMIAL / math.sqrt(float((_BINOMIAL**2).sum()))
"""Makes noise of variance 1 from noise of variance 1, and leaves nothing of a spot wider than `LEAST_SIGMA_PX`."""
LEAST_SIGMA_PX = 0.75
_EDGE = len(NOISE_KERNEL) // 2
TILE_PX = 8
LEAST_TILES = 200
_TURNS = 8
# A pixel's own read noise in an sCMOS camera; with electron multiplication it does not count.
_READ_NOISE_E = 1.5
_READ_NOISE_SPREAD_E = 0.7
_FLATTER = 0.03
_SURE = 0.15
"""Greatest relative error of a gain that is worth telling."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Means and variances of tiles of the frames, ADU and ADU²; float64 (N,) each.

    `smooth` is the variance where the noise's frequency is high along one axis alone. A camera's noise is the same at
    all frequencies, but of some cameras' rows or columns: the smaller one of both axes is taken.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    smooth: NDArray[np.float64]

    @staticmethod
    def join(parts: "list[Transfer]") -> "Transfer":
        """Return one table of all tiles."""
        return Transfer(
            mean=np.concatenate([part.mean for part in parts]),
            variance=np.concatenate([part.variance for part in parts]),
            smooth=np.concatenate([part.smooth for part in parts]),
        )


def transfer(frames: NDArray[np.generic]) -> Transfer:
    """Measure light and noise in tiles of 8x8 pixels of each pair of consecutive frames (T, Y, X), ADU.

    The filter weighs the pixels of its window unequally; the mean is weighted by its squares, so that mean and variance
    are of the same pixels, however uneven the light is.
    """
    n = len(frames) // 2 * 2
    pairs = frames[:n].astype(np.float64).reshape(n // 2, 2, *frames.shape[1:])
    noise = (pairs[:, 1] - pairs[:, 0]) / math.sqrt(2)
    light = pairs.mean(1)
    for axis in (1, 2):
        light = convolve1d(light, NOISE_KERNEL**2, axis)
    along = [convolve1d(noise, NOISE_KERNEL, axis) for axis in (1, 2)]
    smooth = [tile_means(convolve1d(one, np.abs(NOISE_KERNEL), 3 - axis) ** 2) for axis, one in enumerate(along, 1)]
    return Transfer(
        mean=tile_means(light),
        variance=tile_means(convolve1d(along[0], NOISE_KERNEL, 2) ** 2),
        smooth=np.minimum(*smooth),
    )


def tile_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of all tiles of pictures (T, Y, X), float64 (N,), without the filter's width at the edges."""
    inner = values[:, _EDGE : values.shape[1] - _EDGE, _EDGE : values.shape[2] - _EDGE]
    n, rows, columns = len(inner), inner.shape[1] // TILE_PX, inner.shape[2] // TILE_PX
    inner = inner[:, : rows * TILE_PX, : columns * TILE_PX]
    return np.asarray(inner.reshape(n, rows, TILE_PX, columns, TILE_PX).mean((2, 4))).ravel()


@dataclass(frozen=True, kw_only=True)
class CameraEstimate:
    """Baseline and gain with their standard errors.

    Attributes
    ----------
    baseline_adu, baseline_sd : float
        What the camera gives in the dark.
    photons_per_adu, photons_per_adu_sd : float
        Detected photons (photoelectrons) per count.
    """

    baseline_adu: float
    baseline_sd: float
    photons_per_adu: float
    photons_per_adu_sd: float


def estimate_camera(tiles: Transfer, excess: float = 1.0) -> CameraEstimate | None:
    """Return gain and baseline from a straight line through variance over mean; None where it cannot be told.

    Parameters
    ----------
    tiles : Transfer
        Of frames with places of different brightness; at least 200 tiles.
    excess : float
        Variance over mean of the electrons: 1, or 2 with electron multiplication.

    Notes
    -----
    Variance = gain x excess x (mean - baseline) + read noise², with the gain in ADU per photon. The variance of a
    tile scatters in proportion to itself, so the squares are weighted by the line's own inverse squares, in turns.
    The noise of the means makes the line too flat by a few percent, for which 3 % are added to the errors. (To use
    the same tile of other frames instead, as with instrumental variables, was tried: blinking made it far worse.)
    The read noise cannot be told from a lower baseline: 1.5 ± 0.7 electrons are taken, and none with multiplication.
    """
    x, y = tiles.mean, tiles.variance - 1 / 12  # the rounding's own
    if len(x) < LEAST_TILES:
        return None
    fitted = np.full_like(y, max(float(y.mean()), 1e-9))
    for _ in range(_TURNS):
        weight = 1 / fitted**2
        design = np.stack((np.ones_like(x), x), 1)
        normal = (design * weight[:, None]).T @ design
        if not np.isfinite(normal).all() or np.linalg.cond(normal) > 1e14:
            return None
        intercept, slope = np.linalg.solve(normal, (design * weight[:, None]).T @ y)
        if not slope > 0:
            return None
        fitted = np.maximum(intercept + slope * x, 0.05 * max(float(np.median(y)), 1e-9))
    scatter = float((weight * (y - fitted) ** 2).mean())
    covariance = scatter * np.linalg.inv(normal)
    slope_sd = math.sqrt(covariance[1, 1])
    if slope_sd > _SURE * slope:
        return None
    zero = -intercept / slope
    zero_variance = (covariance[0, 0] + 2 * zero * covariance[0, 1] + zero**2 * covariance[1, 1]) / slope**2
    slope_sd = math.hypot(slope_sd, _FLATTER * slope)
    # The line turns about its weighted middle.
    zero_variance += (_FLATTER * (float(np.average(x, weights=weight)) - zero)) ** 2
    per_electron = slope / excess  # ADU
    read_adu, read_sd = 0.0, 0.0
    if excess == 1:
        read_adu = _READ_NOISE_E**2 * per_electron
        read_sd = 2 * _READ_NOISE_E * _READ_NOISE_SPREAD_E * per_electron
    return CameraEstimate(
        baseline_adu=float(zero + read_adu),
        baseline_sd=math.sqrt(zero_variance + read_sd**2),
        photons_per_adu=float(1 / per_electron),
        photons_per_adu_sd=float(slope_sd / slope / per_electron),
    )


def pixel_transfer(looks: Sequence[NDArray[np.generic]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean, ADU, and variance between consecutive frames, ADU², of the pixels (Y, X) of looks (T, Y, X).

    Each is the median of its neighbourhood of 3x3, which single hot or loud pixels do not move; blinking counts as
    variance.
    """
    light = np.mean([look.mean(0, dtype=np.float64) for look in looks], 0)
    pairs = (look[: len(look) // 2 * 2].astype(np.float64) for look in looks)
    steps = [((pair[1::2] - pair[::2]) ** 2).mean(0) for pair in pairs]
    return median_filter(light, 3), median_filter(np.mean(steps, 0) / 2, 3)


def dark_baseline(tiles: Transfer) -> tuple[float, float]:
    """Return the baseline, ADU, of frames taken in the dark, and how much it differs between tiles."""
    middle = float(np.median(tiles.mean))
    # By the median absolute deviation, which hot pixels do not move.
    return middle, 1.4826 * float(np.median(np.abs(tiles.mean - middle)))
