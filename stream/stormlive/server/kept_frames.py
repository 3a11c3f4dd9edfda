"""Frames that wait for others, as they are kept, given to the engine, and written down in a checkpoint."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from numpy.typing import NDArray

from stormlive.server.protocols import Canvas
from stormlive.wire.fields import Axes


@dataclass(kw_only=True, eq=False, slots=True)
class Kept:
    """A frame, but for its pixels.

    Attributes
    ----------
    offered_ns
        When the hook was handed it; None of one that did not come live.
    held
        Whether it is still to be computed.
    """

    seq: int
    axes: Axes
    canvas: Canvas
    replay: bool = False
    offered_ns: int | None = None
    held: bool = True


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Frames of a canvas that can be computed now.

    Attributes
    ----------
    frames
        Those that are to be computed, one after another.
    pixels
        (B, Y, X), theirs and their neighbours'.
    own
        Which of `pixels` are theirs.
    alone
        Numbers of those without a frame that belongs beside them.
    """

    canvas: Canvas
    frames: Sequence[Kept]
    pixels: NDArray[Any]
    own: slice
    alone: Collection[int]


class KeptFrame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frame in a checkpoint: it is in the picture, and one beside it is not."""

    seq: int
    canvas: int
    axes: dict[str, int | str]


class NeighboursMoment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is kept for frames to come, but for the pixels; `known` as ranges, both ends included."""

    known: list[tuple[int, int]]
    frames: list[KeptFrame]
