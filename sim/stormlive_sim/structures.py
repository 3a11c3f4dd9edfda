"""Structures: where the labels of a sample sit."""

import math

import torch
from torch import Tensor


def uniform(n: int, field_nm: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Return n sites at random over a field of (y, x) nm: float32 (n, 2) as (x, y)."""
    height, width = field_nm
    return torch.rand(n, 2, generator=generator) * torch.tensor([width, height])


def filaments(
    n: int,
    field_nm: tuple[float, float],
    generator: torch.Generator,
    *,
    spacing_nm: float = 8.0,
    radius_nm: float = 12.5,
    persistence_nm: float = 20_000.0,
) -> Tensor:
    """Return label sites on microtubule-like filaments that cross the field.

    Each filament is a worm-like chain through a random point of the field; labels sit on the wall of a tube
    seen from above, so that they scatter by at most `radius_nm` to either side.

    Parameters
    ----------
    n : int
        Number of filaments.
    field_nm : tuple of float
        Field (y, x) in nm; sites outside are dropped.
    generator : torch.Generator
        Source of randomness (CPU).
    spacing_nm : float
        Distance between label sites along the filament.
    radius_nm : float
        Radius of the tube (microtubule: 12.5 nm).
    persistence_nm : float
        Persistence length of the chain; smaller is more curved.

    Returns
    -------
    Tensor
        float32 (sites, 2), (x, y) in nm.
    """
    height, width = field_nm
    half = max(2, math.ceil(math.hypot(height, width) / spacing_nm))
    start = uniform(n, field_nm, generator)
    angle = torch.rand(n, 1, generator=generator) * math.tau
    sides = []
    for turn in (0.0, math.pi):
        # d<theta^2>/ds = 1/P in two dimensions makes the persistence length 2P in the plane.
        steps = torch.randn(n, half, generator=generator) * math.sqrt(spacing_nm / persistence_nm)
        heading = angle + turn + steps.cumsum(1)
        path = torch.stack((heading.cos(), heading.sin()), -1).cumsum(1) * spacing_nm
        wall = radius_nm * torch.cos(torch.rand(n, half, generator=generator) * math.tau)
        normal = torch.stack((-heading.sin(), heading.cos()), -1)
        sides.append(start[:, None] + path + wall[..., None] * normal)
    sites = torch.cat(sides, 1).reshape(-1, 2)
    inside = (sites >= 0).all(1) & (sites[:, 0] < width) & (sites[:, 1] < height)
    return sites[inside]
