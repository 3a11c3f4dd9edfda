"""The kinds of structure that a sample can have, with their measures."""

from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from stormlive_sim.quantities import Amount, Density, Few, Positive
from stormlive_sim.structures import clusters, filaments, rings, uniform


class Structure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A kind of structure and its measures; several may share a sample."""

    def sites(self, field_nm: tuple[float, float], generator: torch.Generator) -> Tensor:
        """Return the labels over a field of (y, x) nm: float32 (sites, 2) as (x, y) in nm."""
        raise NotImplementedError


class Microtubules(Structure, frozen=True, kw_only=True, tag="microtubules"):
    """Single filaments that cross the field; see `filaments`.

    Attributes
    ----------
    per_um : float
        Filaments for each µm of the field's side, so that the length per area is the same for every field;
        at least three in all.
    """

    per_um: Density = 1.65
    spacing_nm: Annotated[float, Meta(ge=0.5, le=1000)] = 8.0
    radius_nm: Amount = 12.5
    persistence_um: Positive = 20.0

    def sites(self, field_nm: tuple[float, float], generator: torch.Generator) -> Tensor:
        """Return the labels; see `Structure.sites`."""
        return self._lines(field_nm, generator, strands=1, gap_nm=0.0)

    def _lines(self, field_nm: tuple[float, float], generator: torch.Generator, strands: int, gap_nm: float) -> Tensor:
        area_um2 = field_nm[0] * field_nm[1] / 1e6
        return filaments(
            max(3, round(self.per_um * area_um2**0.5)),
            field_nm,
            generator,
            spacing_nm=self.spacing_nm,
            radius_nm=self.radius_nm,
            persistence_nm=1000 * self.persistence_um,
            strands=strands,
            gap_nm=gap_nm,
        )


class Bundles(Microtubules, frozen=True, kw_only=True, tag="bundles"):
    """Bundles of filaments that run side by side, closer than the width of the PSF.

    Attributes
    ----------
    strands : int
        Filaments in a bundle.
    gap_nm : float
        Distance of the axes of neighbours.
    """

    per_um: Density = 0.6
    strands: Few = 3
    gap_nm: Amount = 60.0

    def sites(self, field_nm: tuple[float, float], generator: torch.Generator) -> Tensor:
        """Return the labels; see `Structure.sites`."""
        return self._lines(field_nm, generator, strands=self.strands, gap_nm=self.gap_nm)


class Rings(Structure, frozen=True, kw_only=True, tag="rings"):
    """Rings of a few corners, as of the nuclear pore; see `rings`."""

    per_um2: Density = 3.0
    diameter_nm: Amount = 107.0
    corners: Few = 8
    labels_per_corner: Few = 4
    scatter_nm: Amount = 5.0

    def sites(self, field_nm: tuple[float, float], generator: torch.Generator) -> Tensor:
        """Return the labels; see `Structure.sites`."""
        return rings(
            _number(self.per_um2, field_nm),
            field_nm,
            generator,
            diameter_nm=self.diameter_nm,
            corners=self.corners,
            labels_per_corner=self.labels_per_corner,
            scatter_nm=self.scatter_nm,
        )


class Clusters(Structure, frozen=True, kw_only=True, tag="clusters"):
    """Round clusters; see `clusters`."""

    per_um2: Density = 1.0
    sigma_nm: Amount = 40.0
    labels: Density = 100.0

    def sites(self, field_nm: tuple[float, float], generator: torch.Generator) -> Tensor:
        """Return the labels; see `Structure.sites`."""
        n = _number(self.per_um2, field_nm)
        return clusters(n, field_nm, generator, sigma_nm=self.sigma_nm, labels=self.labels)


class Uniform(Structure, frozen=True, kw_only=True, tag="uniform"):
    """Labels at random over the field."""

    per_um2: Density = 500.0

    def sites(self, field_nm: tuple[float, float], generator: torch.Generator) -> Tensor:
        """Return the labels; see `Structure.sites`."""
        return uniform(_number(self.per_um2, field_nm), field_nm, generator)


AnyStructure = Microtubules | Bundles | Rings | Clusters | Uniform
STRUCTURES: dict[str, type[AnyStructure]] = {
    "microtubules": Microtubules,
    "bundles": Bundles,
    "rings": Rings,
    "clusters": Clusters,
    "uniform": Uniform,
}


def _number(per_um2: float, field_nm: tuple[float, float]) -> int:
    return max(1, round(field_nm[0] * field_nm[1] / 1e6 * per_um2))
