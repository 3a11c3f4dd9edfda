"""Emitters: where light came from, in which frame, and how much of it."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Emitters:
    """A table of emitters, one row each time an emitter is seen in a frame.

    Attributes
    ----------
    frame : Tensor
        int64 (N,), 0-based frame number.
    x_nm, y_nm : Tensor
        float32 (N,), position in nm; the origin is the outer corner of the first pixel, x along columns.
    photons : Tensor
        float32 (N,), expected photons of this emitter in this frame.
    """

    frame: Tensor
    x_nm: Tensor
    y_nm: Tensor
    photons: Tensor

    def __post_init__(self) -> None:
        lengths = {f.name: tuple(getattr(self, f.name).shape) for f in fields(self)}
        if len(set(lengths.values())) != 1 or self.frame.ndim != 1:
            raise ValueError(f"expected four columns of one length, got {lengths}")

    def __len__(self) -> int:
        return self.frame.shape[0]

    def select(self, mask: Tensor) -> "Emitters":
        """Return the rows where the boolean or index tensor `mask` says so."""
        return Emitters(**{f.name: getattr(self, f.name)[mask] for f in fields(self)})

    @staticmethod
    def concatenate(tables: "list[Emitters]") -> "Emitters":
        """Return one table of all rows, in the order given."""
        if not tables:
            empty = torch.zeros(0)
            return Emitters(frame=empty.long(), x_nm=empty, y_nm=empty, photons=empty)
        return Emitters(**{f.name: torch.cat([getattr(t, f.name) for t in tables]) for f in fields(Emitters)})
