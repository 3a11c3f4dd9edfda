"""Sums of 2x2 pixels: how a network for large camera pixels takes a camera with small ones."""

from torch import Tensor
from torch.nn import functional


def sum_2x2(photons: Tensor) -> Tensor:
    """Return what a camera with pixels of twice the side would have seen: photons add, and noise stays white.

    Interpolation to the network's pixel would instead correlate the noise of neighbouring pixels, which no network
    has met in training. A last odd row or column is repeated to make a pair.

    Parameters
    ----------
    photons : Tensor
        float32 (B, Y, X).

    Returns
    -------
    Tensor
        float32 (B, ceil(Y / 2), ceil(X / 2)).
    """
    height, width = photons.shape[1:]
    if height % 2 or width % 2:
        photons = functional.pad(photons[:, None], (0, width % 2, 0, height % 2), mode="replicate")[:, 0]
    return 4 * functional.avg_pool2d(photons, 2)
