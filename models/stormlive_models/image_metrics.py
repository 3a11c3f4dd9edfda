"""How good a super-resolved picture is, against the truth.

The convention behind every figure: H is the histogram of all true emitters of all frames on the picture's own grid, an
emitter counting for the sub-pixel floor(position / size) that it lies in (programs from MATLAB round instead, half a
sub-pixel off). g is a Gaussian of sigma 1 sub-pixel cut to 7x7 and normalised; outside the picture is 0. The picture X
is compared with a target T after the best scaling, s = sum(X T) / sum(X²), so that any unit will do. The scaling hides
lost emitters: read the figures beside the recall of the localizations, or `mass_ratio`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.spatial import KDTree

from stormlive_models.evaluate import positions_nm
from stormlive_sim.emitters import Emitters

ARTIFACT_NM = 25.0
_QUERY = 2**20
"""Sub-pixels looked up at once, which bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """A picture against the truth; the convention is at the head of this module.

    Attributes
    ----------
    n1_percent : float
        100 sum((s X - H)²) / sum(H²): the raw picture against the histogram.
    n3_percent : float
        The same with X and H both convolved with g, and s of those.
    pearson : float
        Correlation of X ⊗ g and H ⊗ g over all sub-pixels; NaN where one of them is constant.
    artifact_fraction : float
        Share of the intensity in sub-pixels whose centre is farther than 25 nm from every true emitter, of any
        frame; NaN for an empty picture. Negative values count as 0.
    mass_ratio : float
        sum(X) / sum(H): found emitters per true one, if the picture is in expected emitters.
    """

    n1_percent: float
    n3_percent: float
    pearson: float
    artifact_fraction: float
    mass_ratio: float


def score_image(image: NDArray[np.float32], truth: Emitters, pixel_size_nm: float) -> ImageScores:
    """Return all metrics of a picture.

    Parameters
    ----------
    image : ndarray
        (Y, X), finite, any unit; its outer corner is the origin of the positions in `truth`.
    truth : Emitters
        The true emitters of all frames; those outside the picture count for the artifacts only.
    pixel_size_nm : float
        Sub-pixel of the picture.
    """
    histogram = truth_histogram(truth, (image.shape[0], image.shape[1]), pixel_size_nm)
    raw = image.astype(np.float64)
    blurred, blurred_truth = blur(raw), blur(histogram)
    return ImageScores(
        n1_percent=scaled_error_percent(raw, histogram),
        n3_percent=scaled_error_percent(blurred, blurred_truth),
        pearson=pearson(blurred, blurred_truth),
        artifact_fraction=artifact_fraction(image, truth, pixel_size_nm),
        mass_ratio=float(raw.sum() / histogram.sum()) if histogram.any() else math.nan,
    )


def truth_histogram(truth: Emitters, shape: tuple[int, int], pixel_size_nm: float) -> NDArray[np.float64]:
    """Return H, float64 (Y, X): emitters per sub-pixel, of all frames; those outside are left out."""
    height, width = shape
    column, row = np.floor(positions_nm(truth) / pixel_size_nm).T.astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    counts = np.bincount((row * width + column)[inside], minlength=height * width)
    return counts.reshape(shape).astype(np.float64)


def blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return image ⊗ g: a 7x7 Gaussian of sigma 1 pixel and sum 1; outside the image is 0."""
    kernel = np.exp(-(np.arange(-3.0, 4.0) ** 2) / 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        image = correlate1d(image, kernel, axis, mode="constant")
    return image


def scaled_error_percent(image: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Return 100 sum((s X - T)²) / sum(T²) with s = sum(X T) / sum(X²); 100 for an empty image."""
    total = float((target**2).sum())
    if not total:
        return math.nan
    return 100 * float(((best_scale(image, target) * image - target) ** 2).sum()) / total


def best_scale(image: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Return s = sum(X T) / sum(X²), by which an image X comes nearest to its target T; 0 for an empty image."""
    power = float((image**2).sum())
    return float((image * target).sum()) / power if power else 0.0


def pearson(image: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Return the correlation coefficient over all pixels; NaN where one is constant."""
    a, b = image - image.mean(), target - target.mean()
    norm = math.sqrt(float((a**2).sum()) * float((b**2).sum()))
    return float((a * b).sum()) / norm if norm else math.nan


def artifact_fraction(
    image: NDArray[np.float32], truth: Emitters, pixel_size_nm: float, *, distance_nm: float = ARTIFACT_NM
) -> float:
    """Return the share of the intensity of an image (Y, X) farther than `distance_nm` from any emitter.

    The distance is from the centre of a sub-pixel to the true position itself, not to its sub-pixel.
    """
    rows, columns = np.nonzero(image > 0)
    intensity = image[rows, columns].astype(np.float64)
    if not len(rows):
        return math.nan
    if not len(truth):
        return 1.0
    tree = KDTree(positions_nm(truth))
    far = 0.0
    for first in range(0, len(rows), _QUERY):
        part = slice(first, first + _QUERY)
        centres = (np.stack((columns[part], rows[part]), 1) + 0.5) * pixel_size_nm
        nearest, _ = tree.query(centres, distance_upper_bound=2 * distance_nm)
        far += float(intensity[part][nearest > distance_nm].sum())
    return far / float(intensity.sum())
