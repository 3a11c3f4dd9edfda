"""What blinks in the frames: whether anything does, and how wide its spots are, however dense they lie.

Two frames some time apart differ by the emitters that have come and gone, and by noise. What shines steadily is not in
the difference, and each emitter adds its own spot with a sign of its own: so the mean autocovariance of differences is
that of a single spot, at any density, as in SOFI (Dertinger et al., PNAS 106, 22287, 2009). The camera's noise is in it
at no shift alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, gaussian_filter
from scipy.optimize import least_squares

from stormlive_models.judge.camera import NOISE_KERNEL, tile_means

CHANGED = 16.0
"""Times the power of white noise, from which on a tile has changed by more than noise: noise alone, one in 2000."""
LEAST_SHARE = 0.002
"""Of the tiles, that have to change where emitters blink."""
LEAST_TILES = 500
LEAST_SIDE_PX = 16
"""Of frames that can be compared."""
_LEAST_SIGMA_PX = 1.0
_PIXEL_VARIANCE = 1 / 12
_REACH_SIGMAS = 5.5
_USUAL_SIGMA_NM = 120.0
_SIGMAS_PX = (0.4, 5.0)
_SURE = 8.0
_MOST_MISFIT = 0.06


@dataclass(frozen=True, kw_only=True)
class Blinks:
    """What differences of frames show; `join` adds up those of several looks.

    Attributes
    ----------
    tiles, changed : int
        Tiles of 8x8 pixels of the differences, and those in which something of a spot's size came or went.
    differences : int
        How many there were.
    covariance : ndarray
        float64 (2 R + 1, 2 R + 1), the sum of their mean autocovariances at shifts up to R pixels, photons².
    pixels : int
        Of one difference.
    """

    tiles: int
    changed: int
    differences: int
    covariance: NDArray[np.float64]
    pixels: int

    @staticmethod
    def join(parts: "Sequence[Blinks]") -> "Blinks":
        """Return the sum of looks at frames of one camera."""
        return Blinks(
            tiles=sum(part.tiles for part in parts),
            changed=sum(part.changed for part in parts),
            differences=sum(part.differences for part in parts),
            covariance=np.sum([part.covariance for part in parts], axis=0),
            pixels=parts[-1].pixels,
        )

    @property
    def blink(self) -> bool | None:
        """Whether anything does; None where too little was seen to say that nothing does."""
        if self.changed > LEAST_SHARE * self.tiles:
            return True
        return False if self.tiles >= LEAST_TILES else None


def blinks(photons: NDArray[np.floating], pixel_size_nm: float) -> Blinks:
    """Compare each frame of consecutive ones (T, Y, X) with the one half of them later; at least 2 of 16x16 pixels.

    What goes up and down or moves as a whole (a lamp that flickers, a stage that trembles) is taken out first.
    """
    half = len(photons) // 2
    frames = photons[: 2 * half].astype(np.float64)
    mean = frames.mean(0)
    change = (frames[half:] - frames[:half]) / math.sqrt(2)
    change = _without(change, [np.ones_like(mean), mean, *np.gradient(gaussian_filter(mean, 1.0))])
    reach = max(2, min(math.ceil(_REACH_SIGMAS * _USUAL_SIGMA_NM / pixel_size_nm), min(mean.shape) // 4))
    noise = change
    for axis in (1, 2):
        noise = convolve1d(noise, NOISE_KERNEL, axis)
    spots, gain = _spots(change, max(_LEAST_SIGMA_PX, _USUAL_SIGMA_NM / pixel_size_nm))
    white = tile_means(noise**2)
    # A tile's own noise, but not less than a fifth of what is usual: by chance it may be near to nothing.
    white = np.maximum(white, 0.2 * np.median(white)) if len(white) else white
    return Blinks(
        tiles=len(white),
        changed=int((tile_means(spots**2) > CHANGED * gain * white).sum()),
        differences=half,
        covariance=_autocovariance(change, reach),
        pixels=mean.size,
    )


def _without(change: NDArray[np.float64], pictures: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return differences (T, Y, X) less as much of some pictures (Y, X) as is in each."""
    basis, _ = np.linalg.qr(np.stack([picture.ravel() for picture in pictures], 1))
    flat = change.reshape(len(change), -1)
    return np.asarray((flat - (flat @ basis) @ basis.T).reshape(change.shape))


def _spots(change: NDArray[np.float64], sigma_px: float) -> tuple[NDArray[np.float64], float]:
    """Return what is of a spot's width, and the power that white noise of power 1 has in it."""

    def filtered(values: NDArray[np.float64]) -> NDArray[np.float64]:
        narrow, wide = (gaussian_filter(values, (0, width, width)) for width in (sigma_px, 2 * sigma_px))
        return np.asarray(narrow - wide)

    side = 16 * math.ceil(sigma_px) + 1
    point = np.zeros((1, side, side))
    point[0, side // 2, side // 2] = 1
    return filtered(change), float((filtered(point) ** 2).sum())


def _autocovariance(change: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Return the sum over differences of the mean of d(x) d(x + shift)."""
    sides = [side + reach for side in change.shape[1:]]
    power = (np.abs(np.fft.rfft2(change, sides)) ** 2).sum(0)
    shifts = np.arange(-reach, reach + 1)
    sums = np.fft.irfft2(power, sides)[np.ix_(shifts % sides[0], shifts % sides[1])]
    rows, columns = (np.maximum(side - np.abs(shifts), 1) for side in change.shape[1:])
    return np.asarray(sums / np.outer(rows, columns))


@dataclass(frozen=True, kw_only=True)
class Spot:
    """The spots that come and go.

    Attributes
    ----------
    sigma_px : float
        Their width.
    power : float
        The variance of their light, photons².
    """

    sigma_px: float
    power: float

    @property
    def variance_px(self) -> float:
        """Of their width as pixels show it, px²."""
        return self.sigma_px**2 + _PIXEL_VARIANCE


def spot_of(seen: Blinks) -> Spot | None:
    """Return what the spots that come and go are like, however dense; None where it cannot be told.

    A Gaussian, blurred by the pixel, is fitted to the autocovariance: on simulated frames of 0.1 to 10 emitters/µm² and
    widths of 75 to 300 nm the width is right to 3 %.
    """
    if not seen.differences:
        return None
    covariance = seen.covariance / seen.differences
    reach = len(covariance) // 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    square = rows**2 + columns**2
    # Half of the plane says all; no shift at all has the noise in it.
    used = (square > 0) & (square <= reach**2) & ((rows > 0) | ((rows == 0) & (columns > 0)))
    values, square = covariance[used], square[used]
    highest = float(values.max())
    noise = float(covariance[reach, reach]) / math.sqrt(seen.differences * seen.pixels)
    if not highest > _SURE * noise:
        return None

    def misfit(p: NDArray[np.float64]) -> NDArray[np.float64]:
        power, sigma_px, offset = p
        return np.asarray(power * np.exp(-square / (4 * (sigma_px**2 + _PIXEL_VARIANCE))) + offset - values / highest)

    bounds = ([0, _SIGMAS_PX[0], -np.inf], [np.inf, min(_SIGMAS_PX[1], reach / 2), np.inf])
    found = least_squares(misfit, [1.0, min(1.2, reach / 2.5), 0.0], bounds=bounds)
    power, sigma_px, _ = found.x
    rest = math.sqrt(float((found.fun**2).mean()))
    if rest > _MOST_MISFIT * power or not bounds[0][1] * 1.01 < sigma_px < bounds[1][1] * 0.99:
        return None
    return Spot(sigma_px=float(sigma_px), power=float(power) * highest)
