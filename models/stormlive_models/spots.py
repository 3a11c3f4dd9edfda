"""Where single spots stand out of sparse frames."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from stormlive_models.normalize import background

_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, kw_only=True)
class Spots:
    """Where something stands out of the background, one row per spot.

    Attributes
    ----------
    frame, row, column : Tensor
        int64 (N,), the brightest pixel.
    significance : Tensor
        float32 (N,), height in the filtered frame over the standard deviation of its noise.
    """

    frame: Tensor
    row: Tensor
    column: Tensor
    significance: Tensor

    def __len__(self) -> int:
        return self.frame.shape[0]

    def select(self, mask: Tensor) -> "Spots":
        """Return the rows where the boolean or index tensor `mask` says so."""
        return Spots(**{f.name: getattr(self, f.name)[mask] for f in fields(self)})


def find_spots(frames: Tensor, sigma_px: float, *, threshold: float = 5.0) -> Spots:
    """Find local maxima of the difference of two Gaussian blurs that stand out of its noise.

    Parameters
    ----------
    frames : Tensor
        float32 (T, Y, X), photons.
    sigma_px : float
        About the width of a spot; the second blur is twice as wide.
    threshold : float
        In standard deviations of the filtered frame's noise: as the square root of the local background, and in size
        by each frame's median absolute deviation, which sparse spots hardly move. Pure noise gives a few spots in a
        million pixels at 5.
    """
    uneven = (background(frames).clamp_min(0) + 1).sqrt()
    difference = (_blur(frames, sigma_px) - _blur(frames, 2 * sigma_px)) / uneven
    flat = difference.flatten(1)
    centred = flat - flat.median(1, keepdim=True).values
    noise = _MAD_TO_SIGMA * centred.abs().median(1).values.clamp_min(torch.finfo(frames.dtype).tiny)
    significance = centred.reshape(frames.shape) / noise[:, None, None]
    reach = max(1, round(sigma_px))
    height, width = frames.shape[1:]
    padded = functional.pad(significance, (reach,) * 4, value=-torch.inf)
    peak = significance > threshold
    for row in range(2 * reach + 1):
        for column in range(2 * reach + 1):
            near = padded[:, row : row + height, column : column + width]
            # Of equal neighbours (a spot centred on an edge, without noise) the first in reading order stands for all.
            before = (row, column) < (reach, reach)
            peak &= near < significance if before else near <= significance
    where = peak.nonzero()
    return Spots(frame=where[:, 0], row=where[:, 1], column=where[:, 2], significance=significance[peak])


def _blur(frames: Tensor, sigma_px: float) -> Tensor:
    radius = math.ceil(3 * sigma_px)
    offsets = torch.arange(-radius, radius + 1, device=frames.device, dtype=frames.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma_px).square())
    kernel = kernel / kernel.sum()
    padded = functional.pad(frames[:, None], (radius,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])[:, 0]


def is_isolated(spots: Spots, among: Spots, distance_px: int) -> Tensor:
    """Return which spots, bool (N,), have no other of `among` within a square of ± `distance_px` in their frame.

    `among` holds the spots themselves too; found with a lower threshold, it has dim neighbours as well.
    """
    if not len(among):
        return torch.ones(len(spots), dtype=torch.bool, device=spots.frame.device)
    # Sorted by frame and row, the neighbours of a spot lie in one stretch of the table.
    stride = int(among.row.max()) + 2 * distance_px + 2
    key, order = torch.sort(among.frame * stride + among.row)
    columns = among.column[order]
    centre = spots.frame * stride + spots.row
    first = torch.searchsorted(key, centre - distance_px)
    count = torch.searchsorted(key, centre + distance_px, right=True) - first
    owner = torch.repeat_interleave(torch.arange(len(spots), device=first.device), count)
    within = torch.arange(len(owner), device=first.device) - (count.cumsum(0) - count)[owner]
    near = (columns[first[owner] + within] - spots.column[owner]).abs() <= distance_px
    return torch.bincount(owner[near], minlength=len(spots)) <= 1
