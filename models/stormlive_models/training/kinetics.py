"""Emitters that stay on for more than one frame: what a frame's neighbours see of them."""

import torch
from torch import Tensor

FRAMES = 3
"""The frame before, the frame itself and the frame after."""


def crowding(on_frames: Tensor) -> Tensor:
    """Return how many times as many emitters shine in one or another of the three frames as in the middle one."""
    return (on_frames + FRAMES) / (on_frames + 1)


def draw_overlaps(on_frames: Tensor, generator: torch.Generator) -> Tensor:
    """Return for what part of each of three frames emitters are on, (3, N); in at least one they are.

    They switch on at any time and stay on for exponential times. Those that are on when the first frame begins are as
    if they switched on then: an exponential time has no memory.

    Parameters
    ----------
    on_frames : Tensor
        (N,), the mean time that each stays on, in frames.
    generator : torch.Generator
        Source of randomness.
    """
    moment = torch.rand(on_frames.shape, generator=generator, device=on_frames.device)
    start = (moment * (on_frames + FRAMES) - on_frames).clamp_min(0)
    end = start + on_frames * torch.empty_like(on_frames).exponential_(1.0, generator=generator)
    begin = torch.arange(FRAMES, device=on_frames.device)[:, None]
    return (torch.minimum(end, begin + 1) - torch.maximum(start, begin)).clamp(0, 1)
