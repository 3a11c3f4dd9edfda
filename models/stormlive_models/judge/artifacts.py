"""Where the canvas contradicts the widefield picture of the same frames.

SQUIRREL: Culley et al., Nature Methods 15, 263 (2018). The canvas, blurred and scaled as fits best, must give the
widefield picture again; where it does not, structure is missing or made up.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label
from scipy.optimize import minimize_scalar

from stormlive_models.judge.convergence import busiest_window

SHARE = 0.25
"""Disagreement that is tolerated, as a share of the light that is expected at the place."""
CONTRAST_SHARE = 0.1
"""And as a share of the picture's whole contrast, since no background is quite even."""
NOISE_SIGMAS = 4.0
_SMOOTH_PX = 0.7
_LEAST_REGION_PX = 4
_ROUNDS = 10
_WIDTH_ROUNDS = (0, 2, 4)
_WIDTH_SIDE = 512
_SIGMAS_PX = (0.5, 5.0)


@dataclass(frozen=True, kw_only=True)
class ArtifactMap:
    """A canvas against the widefield mean; all pictures are (Y, X), in camera pixels.

    Attributes
    ----------
    error : ndarray
        float32, widefield minus blurred canvas, photons.
    excess : ndarray
        float32, the same, smoothed, in units of what is tolerated: above 1 the canvas lacks something, below -1 it has
        something that is not there.
    marked : ndarray
        bool, regions of at least 4 pixels where `excess` is beyond 1 or -1.
    rse : float
        Root of the mean squared error, photons.
    rsp : float
        Pearson's correlation of widefield and blurred canvas, at most 1; 0 where they have nothing in common.
    best_rsp : float
        What a canvas without fault would reach in this noise.
    sigma_px : float
        Standard deviation of the Gaussian that fits best, camera pixels.
    scale, offset : float
        Photons per unit of the canvas' mean, and the even background that it does not have.
    """

    error: NDArray[np.float32]
    excess: NDArray[np.float32]
    marked: NDArray[np.bool_]
    rse: float
    rsp: float
    best_rsp: float
    sigma_px: float
    scale: float
    offset: float


def artifact_map(canvas: NDArray[np.floating], widefield: NDArray[np.floating], n_frames: int) -> ArtifactMap | None:
    """Compare a canvas with the mean of the same frames; None for a canvas without any structure.

    Parameters
    ----------
    canvas : ndarray
        (Y f, X f) for a whole f, such as the canvas summed to a half or a quarter of a camera pixel: summed to whole
        ones, single spots would be up to half a pixel beside their place.
    widefield : ndarray
        (Y, X), photons.
    n_frames : int
        Frames in either; decides the noise.

    Notes
    -----
    Scale, offset and blur are those of least squares with weights 1 / (1 + excess²), found in turns: an artifact must
    not spoil the fit elsewhere. Nothing is marked within two widths of the edge, over which emitters that the canvas
    does not have send light. The variance that is expected of the error is twice the light over the number of frames
    (shot noise with electron multiplication), and, as the canvas counts emitters whose brightness varies by its own
    mean, scale² (canvas ⊗ G²) / frames.
    """
    factor = canvas.shape[0] // widefield.shape[0]
    if not n_frames or factor < 1 or canvas.shape != tuple(factor * side for side in widefield.shape):
        raise ValueError(f"expected a canvas n times the widefield {widefield.shape}, got {canvas.shape}")
    mean = canvas.astype(np.float64) / n_frames
    target = widefield.astype(np.float64)
    if not mean.any() or np.ptp(target) == 0:
        return None
    weight = np.ones(target.shape)
    rows, columns = _brightest(target)
    fine = (slice(rows.start * factor, rows.stop * factor), slice(columns.start * factor, columns.stop * factor))
    sigma_px = 0.0
    for turn in range(_ROUNDS):
        if turn in _WIDTH_ROUNDS:
            sigma_px = _best_sigma(mean[fine], target[rows, columns], weight[rows, columns], factor)
            blurred = _blurred(mean, sigma_px, factor)
            # A Gaussian squared is one of a width smaller by the root of 2, with this sum.
            single = _blurred(mean, sigma_px / math.sqrt(2), factor) / (4 * math.pi * sigma_px**2)
        scale, offset = _line(blurred, target, weight)
        model = scale * blurred + offset
        error = target - model
        noise = np.sqrt((2 * np.maximum(target, 0) + scale**2 * single + 1e-9) / n_frames)
        contrast = max(np.percentile(target, 99.5) - np.median(target), np.percentile(model, 99.5) - offset, 1e-9)
        expected = gaussian_filter(np.maximum(np.maximum(target, model) - offset, 0), _SMOOTH_PX)
        tolerated = np.maximum(NOISE_SIGMAS * noise, np.maximum(SHARE * expected, CONTRAST_SHARE * contrast))
        excess = gaussian_filter(error, _SMOOTH_PX) / tolerated
        weight = 1 / (1 + excess**2)
    edge = math.ceil(2 * sigma_px)
    marked = np.zeros(target.shape, bool)
    marked[edge:-edge, edge:-edge] = _regions(excess)[edge:-edge, edge:-edge]
    excess = np.where(marked, excess, excess.clip(-1, 1))
    return ArtifactMap(
        error=error.astype(np.float32),
        excess=excess.astype(np.float32),
        marked=marked,
        rse=float(np.sqrt((error**2).mean())),
        rsp=_correlation(target, model) if scale else 0.0,
        best_rsp=math.sqrt(max(0.0, 1 - float((noise**2).mean() / target.var()))),
        sigma_px=sigma_px,
        scale=scale,
        offset=offset,
    )


def _brightest(widefield: NDArray[np.float64]) -> tuple[slice, slice]:
    """Return the square, up to 512 pixels a side, that has the most light: enough of it to find the width on."""
    row, column = busiest_window(widefield - widefield.min(), _WIDTH_SIDE)
    height, width = widefield.shape
    return slice(row, min(row + _WIDTH_SIDE, height)), slice(column, min(column + _WIDTH_SIDE, width))


def _blurred(canvas: NDArray[np.float64], sigma_px: float, factor: int) -> NDArray[np.float64]:
    """Return the canvas blurred by a Gaussian of that many camera pixels, then summed to camera pixels."""
    fine = gaussian_filter(canvas, sigma_px * factor, mode="constant", truncate=4.5)
    height, width = (side // factor for side in canvas.shape)
    return np.asarray(fine.reshape(height, factor, width, factor).sum((1, 3)))


def _best_sigma(
    canvas: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64], factor: int
) -> float:
    def misfit(sigma_px: float) -> float:
        blurred = _blurred(canvas, sigma_px, factor)
        scale, offset = _line(blurred, target, weight)
        return float((weight * (target - scale * blurred - offset) ** 2).sum())

    return float(minimize_scalar(misfit, bounds=_SIGMAS_PX, method="bounded", options={"xatol": 0.02}).x)


def _line(x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float]:
    """Return slope, never negative, and intercept of the line of least weighted squares."""
    middle_x, middle_y = (float(np.average(values, weights=weight)) for values in (x, y))
    power = float((weight * (x - middle_x) ** 2).sum())
    slope = max(0.0, float((weight * (x - middle_x) * (y - middle_y)).sum()) / power) if power else 0.0
    return slope, middle_y - slope * middle_x


def _regions(excess: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the connected regions of one sign beyond 1 or -1, without the tiny ones."""
    kept = np.zeros(excess.shape, bool)
    for beyond in (excess > 1, excess < -1):
        regions, n = label(beyond, np.ones((3, 3)))
        sizes = np.bincount(regions.ravel(), minlength=n + 1)
        large = sizes >= _LEAST_REGION_PX
        large[0] = False
        kept |= large[regions]
    return kept


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float((a**2).sum()) * float((b**2).sum()))
    return float((a * b).sum()) / norm if norm else math.nan
