"""Random numbers within ranges."""

import math

import torch
from torch import Tensor

from stormlive_models.training.recipe import Range


def uniform(bounds: Range, n: int, generator: torch.Generator) -> Tensor:
    """Return n numbers between two bounds, each as likely as any other: float32 (n,)."""
    low, high = bounds
    return torch.rand(n, generator=generator, device=generator.device) * (high - low) + low


def log_uniform(bounds: Range, n: int, generator: torch.Generator) -> Tensor:
    """Return n numbers between two bounds above zero, each order of magnitude as likely: float32 (n,)."""
    return uniform((math.log(bounds[0]), math.log(bounds[1])), n, generator).exp()
