"""Structures: where the labels of a sample sit."""

import math

import torch
from scipy.spatial import KDTree
from torch import Tensor

from stormlive_sim.errors import InputError

_MOST_SITES = 30_000_000


def uniform(n: int, field_nm: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Return n sites at random over a field of (y, x) nm: float32 (n, 2) as (x, y)."""
    check_sites(n)
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
    strands: int = 1,
    gap_nm: float = 0.0,
) -> Tensor:
    """Return label sites on microtubule-like filaments that cross the field.

    Each filament is a worm-like chain through a random point of the field; labels sit on the wall of a tube
    seen from above, so that they scatter by at most `radius_nm` to either side.

    Parameters
    ----------
    n : int
        Number of filaments, or of bundles.
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
    strands : int
        Filaments that follow the same chain side by side.
    gap_nm : float
        Distance between the axes of neighbouring strands.

    Returns
    -------
    Tensor
        float32 (sites, 2), (x, y) in nm.
    """
    height, width = field_nm
    half = max(2, math.ceil(math.hypot(height, width) / spacing_nm))
    check_sites(2 * n * half * strands)
    start = uniform(n, field_nm, generator)
    angle = torch.rand(n, 1, generator=generator) * math.tau
    sides = []
    for turn in (0.0, math.pi):
        # d<theta^2>/ds = 1/P in two dimensions makes the persistence length 2P in the plane.
        steps = torch.randn(n, half, generator=generator) * math.sqrt(spacing_nm / persistence_nm)
        heading = angle + turn + steps.cumsum(1)
        path = torch.stack((heading.cos(), heading.sin()), -1).cumsum(1) * spacing_nm
        normal = torch.stack((-heading.sin(), heading.cos()), -1)
        for strand in range(strands):
            wall = radius_nm * torch.cos(torch.rand(n, half, generator=generator) * math.tau)
            across = wall + (strand - (strands - 1) / 2) * gap_nm
            sides.append(start[:, None] + path + across[..., None] * normal)
    return _inside(torch.cat(sides, 1).reshape(-1, 2), field_nm)


def rings(
    n: int,
    field_nm: tuple[float, float],
    generator: torch.Generator,
    *,
    diameter_nm: float = 107.0,
    corners: int = 8,
    labels_per_corner: int = 4,
    scatter_nm: float = 5.0,
) -> Tensor:
    """Return label sites on rings that lie flat and do not overlap.

    The measures are those of Nup96 in the nuclear pore, eight corners of four copies each on a diameter of 107 nm
    (Thevathasan et al., Nature Methods 16, 1045, 2019).

    Parameters
    ----------
    n : int
        Number of rings; their centres are at least 1.25 diameters apart.
    field_nm : tuple of float
        Field (y, x) in nm; sites outside are dropped.
    generator : torch.Generator
        Source of randomness (CPU).
    diameter_nm : float
        Diameter of the circle through the corners.
    corners, labels_per_corner : int
        Corners of a ring, and label sites at each.
    scatter_nm : float
        Standard deviation, along each axis, of the sites about their corner.

    Returns
    -------
    Tensor
        float32 (sites, 2), (x, y) in nm.

    Raises
    ------
    InputError
        When so many rings do not fit into the field.
    """
    check_sites(n * corners * labels_per_corner)
    centre = _apart(n, field_nm, 1.25 * diameter_nm, generator)
    angle = torch.rand(n, 1, generator=generator) * math.tau + torch.arange(corners) * (math.tau / corners)
    corner = centre[:, None] + torch.stack((angle.cos(), angle.sin()), -1) * (diameter_nm / 2)
    scatter = torch.randn(n, corners, labels_per_corner, 2, generator=generator) * scatter_nm
    return _inside((corner[:, :, None] + scatter).reshape(-1, 2), field_nm)


def clusters(
    n: int,
    field_nm: tuple[float, float],
    generator: torch.Generator,
    *,
    sigma_nm: float = 40.0,
    labels: float = 100.0,
) -> Tensor:
    """Return label sites in round Gaussian clusters at random places (a Thomas process).

    Parameters
    ----------
    n : int
        Number of clusters.
    field_nm : tuple of float
        Field (y, x) in nm; sites outside are dropped.
    generator : torch.Generator
        Source of randomness (CPU).
    sigma_nm : float
        Standard deviation of a cluster along each axis.
    labels : float
        Mean number of sites in a cluster (Poisson).

    Returns
    -------
    Tensor
        float32 (sites, 2), (x, y) in nm.
    """
    check_sites(round(n * labels))
    size = torch.poisson(torch.full((n,), float(labels)), generator).long()
    centre = uniform(n, field_nm, generator).repeat_interleave(size, 0)
    return _inside(centre + torch.randn(centre.shape, generator=generator) * sigma_nm, field_nm)


def check_sites(n: int) -> None:
    """Raise an InputError for more label sites, also those drawn beyond the field, than a computer's memory holds."""
    if n > _MOST_SITES:
        raise InputError(
            f"expected a sample of at most {_MOST_SITES:,} label sites, got {n:,}; choose a smaller field (size, "
            "pixel_size_nm), fewer structures (per_um, per_um2) or fewer labels on each (spacing_nm, labels)"
        )


def _inside(sites: Tensor, field_nm: tuple[float, float]) -> Tensor:
    height, width = field_nm
    return sites[(sites >= 0).all(1) & (sites[:, 0] < width) & (sites[:, 1] < height)]


def _apart(n: int, field_nm: tuple[float, float], distance_nm: float, generator: torch.Generator) -> Tensor:
    """Return n random points no two of which are closer than a distance."""
    points = torch.zeros(0, 2)
    for _ in range(30):
        points = torch.cat((points, uniform(n, field_nm, generator)))
        # Of each pair that is too close the later goes, so that those of earlier rounds stay.
        pairs = KDTree(points.numpy()).query_pairs(distance_nm, output_type="ndarray")
        keep = torch.ones(len(points), dtype=torch.bool)
        keep[torch.from_numpy(pairs[:, 1])] = False
        points = points[keep][:n]
        if len(points) == n:
            return points
    raise InputError(
        f"expected room for {n} rings {distance_nm:.0f} nm apart, only {len(points)} fit into the field; ask for fewer "
        "rings per µm² or smaller ones"
    )
