"""How dense emitters lie, by how much their light fluctuates: a network that cannot tell them apart counts too few.

The fewer and the brighter the emitters that make up some light, the more it fluctuates: its variance over its mean is
the light of one of them (Magde, Elson and Webb, Phys. Rev. Lett. 29, 705, 1972; as "number and brightness" of images
Digman et al., Biophys. J. 94, 2320, 2008). Here the variance is that of `blinks`, which neither the camera's noise nor
what shines steadily is in, and the mean that of the light that goes with the canvas.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from stormlive_models.judge.artifacts import ArtifactMap
from stormlive_models.judge.blinking import Blinks, spot_of

BLOCK_PX = 32
"""Networks are trained on patches of this side, and their densities are means over them."""
_DARK_PERCENT = 1.0


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """What light and its fluctuations tell.

    Attributes
    ----------
    photons : float
        Of an emitter in a frame; bright ones count for more.
    background : float
        Photons per pixel that are not of emitters.
    density_per_um2 : float
        Emitters that are on at a time, in the densest square of 32 pixels a side.
    """

    photons: float
    background: float
    density_per_um2: float


def crowd(
    seen: Blinks, light: NDArray[np.floating], darkest: float, compared: ArtifactMap, pixel_size_nm: float
) -> Crowd | None:
    """Return how crowded frames are; None where it cannot be told.

    Parameters
    ----------
    seen : Blinks
        Of frames between which emitters had time to go off.
    light : ndarray
        (Y, X), the mean of the frames, photons.
    darkest : float
        Photons where and when it is dark; see `darkness`.
    compared : ArtifactMap
        The canvas against the widefield picture.

    Notes
    -----
    Of the light, what does not go with the canvas is background: out of focus, for example. A canvas that is not quite
    right hides some of the rest, as errors of x make a straight line too flat: by the square of the correlation.
    """
    spot = spot_of(seen)
    if spot is None or not (compared.rsp > 0 and compared.best_rsp > 0):
        return None
    share = min(1.0, compared.rsp / compared.best_rsp)

    def of_emitters(photons: float) -> float:
        return min((photons - compared.offset) / share**2, photons - darkest)

    mean = float(light.mean())
    shining = of_emitters(mean)
    if not shining > 0:
        return None
    photons = spot.power * 4 * math.pi * spot.variance_px / shining
    sums, n_pixels = block_sums(light)
    densest = of_emitters(float(sums.max()) / n_pixels)
    return Crowd(
        photons=photons,
        background=mean - shining,
        density_per_um2=densest / photons / (pixel_size_nm**2 / 1e6),
    )


def darkness(photons: NDArray[np.floating]) -> float:
    """Return the light where and when frames (T, Y, X) are darkest, with little of the noise."""
    return float(np.percentile(uniform_filter(photons, (0, 3, 3)), _DARK_PERCENT))


def block_sums(picture: NDArray[np.floating]) -> tuple[NDArray[np.floating], int]:
    """Return the sums over squares of a picture (Y, X) of about 32 pixels a side, and how many pixels one has."""
    height, width = picture.shape
    rows, columns = (max(1, side // BLOCK_PX) for side in (height, width))
    tall, wide = height // rows, width // columns
    blocks = picture[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide).sum((1, 3))
    return blocks, tall * wide
