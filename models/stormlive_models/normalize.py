"""One definition of input scaling, for training and inference."""

import torch
from torch import Tensor
from torch.nn import functional

BACKGROUND_BLOCK_PX = 32
BACKGROUND_PERCENTILE = 0.2


def background(photons: Tensor) -> Tensor:
    """Return the local background: the 20th percentile of blocks of 32 pixels, interpolated between them.

    The block has the size of a training patch, so that a network sees the same statistic live and in training.

    Parameters
    ----------
    photons : Tensor
        float32 (B, Y, X).

    Returns
    -------
    Tensor
        float32 (B, Y, X), photons per pixel.
    """
    n, height, width = photons.shape
    rows, columns = (max(1, size // BACKGROUND_BLOCK_PX) for size in (height, width))
    tall, wide = height // rows, width // columns
    blocks = photons[:, : rows * tall, : columns * wide].reshape(n, rows, tall, columns, wide)
    blocks = blocks.permute(0, 1, 3, 2, 4).reshape(n, rows, columns, tall * wide)
    level = blocks.kthvalue(max(1, round(BACKGROUND_PERCENTILE * tall * wide)), dim=-1).values
    if rows == columns == 1:
        return level.expand(n, height, width)
    return functional.interpolate(level[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]


def livenet_input(photons: Tensor) -> Tensor:
    """Return livenet's two input channels, float32 (B, 2, Y, X), from photons (B, Y, X).

    The first is linear, (photons - background) / 50, where overlapping emitters add up; the second is the square root
    (Anscombe 1948) relative to the background's, in which shot noise has the same size at every brightness.
    """
    level = background(photons)
    linear = (photons - level) / 50
    root = (photons.clamp_min(0) + 1).sqrt() - (level.clamp_min(0) + 1).sqrt()
    return torch.stack((linear, root / 2), 1)


def deepstorm_input(frames: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return Deep-STORM's input before its upsampling, float32 (B, 1, Y, X): [0, 1] per frame, standardised.

    Source: Nehme et al., Optica 5, 458 (2018); the reference code scales each frame by its own minimum and
    maximum and then by the mean and standard deviation of the training set. A frame without contrast becomes 0
    before standardisation.
    """
    low = frames.amin((1, 2), keepdim=True)
    span = frames.amax((1, 2), keepdim=True) - low
    scaled = ((frames - low) / span.clamp_min(torch.finfo(frames.dtype).tiny))[:, None]
    return (scaled - mean) / std
