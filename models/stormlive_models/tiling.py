"""Frames go through a network in parts that fit the memory; where it runs out, in smaller ones, and so from then on."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
Span: TypeAlias = tuple[int, int]

STEP_PX = 8
"""Tiles begin at multiples of it: that keeps the pooling of every network in step."""
_LEAST_PX = 32
_ALL = 2**31


@dataclass(kw_only=True)
class Portion:
    """How much goes through a network at once.

    Attributes
    ----------
    side_px : int
        Longest side of a tile in camera pixels, without its halo: a multiple of `STEP_PX`.
    frames : int
        Most frames.
    """

    side_px: int
    frames: int = _ALL

    def shrink(self, part: "Part") -> bool:
        """Be less than a part for which there was no memory; return False where it cannot be any less."""
        first, end = part.frames
        side = max(part.rows[1] - part.rows[0], part.columns[1] - part.columns[0])
        if end - first > 1:
            self.frames = (end - first) // 2
        elif side > _LEAST_PX:
            self.side_px = -(-side // (2 * STEP_PX)) * STEP_PX
        else:
            return False
        _log.warning("memory ran out: at most %d frames and %d pixels a side at once now", self.frames, self.side_px)
        return True


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some frames of a batch and a rectangle of each: (first, end) of frames, rows and columns."""

    frames: Span
    rows: Span
    columns: Span

    def cut(self, portion: Portion) -> "list[Part]":
        """Return parts that are no larger than a portion; together they are this one."""
        side = portion.side_px
        return [
            Part(frames=frames, rows=rows, columns=columns)
            for frames in _cut(self.frames, portion.frames)
            for rows in _cut(self.rows, side)
            for columns in _cut(self.columns, side)
        ]

    def window(self, halo_px: int) -> tuple[slice, slice, slice]:
        """Return (frames, rows, columns) with a halo, as far as the frame reaches at its upper left."""
        (first, end), (top, bottom), (left, right) = self.frames, self.rows, self.columns
        rows = slice(max(0, top - halo_px), bottom + halo_px)
        return slice(first, end), rows, slice(max(0, left - halo_px), right + halo_px)

    def core(self, halo_px: int) -> tuple[slice, slice]:
        """Return (rows, columns) of the rectangle itself in its window."""
        _, rows, columns = self.window(halo_px)
        (top, bottom), (left, right) = self.rows, self.columns
        return slice(top - rows.start, bottom - rows.start), slice(left - columns.start, right - columns.start)


def in_parts(shape: tuple[int, int, int], portion: Portion, compute: Callable[[Part], _T]) -> Iterator[_T]:
    """Yield what is computed of each part of frames (B, Y, X); a part for which there is no memory is cut.

    What has been yielded is not computed again. Memory that does not suffice for the smallest part is an error.
    """
    n, height, width = shape
    todo = deque([Part(frames=(0, n), rows=(0, height), columns=(0, width))])
    while todo:
        part, *rest = todo.popleft().cut(portion)
        todo.extendleft(reversed(rest))
        try:
            computed = compute(part)
        except RuntimeError as error:
            if not out_of_memory(error) or not portion.shrink(part):
                raise
            # Again outside of the handler, where the failed attempt's memory is free.
            todo.appendleft(part)
            continue
        yield computed


def in_halves(n: int, work: Callable[[slice], None]) -> None:
    """Do work on n rows, which does all or nothing, in halves where there is no memory for more."""
    todo = deque([(0, n)])
    while todo:
        first, end = todo.popleft()
        try:
            work(slice(first, end))
        except RuntimeError as error:
            if not out_of_memory(error) or end - first < 2:
                raise
            middle = (first + end) // 2
            todo.extendleft([(middle, end), (first, middle)])


def out_of_memory(error: RuntimeError) -> bool:
    """Return whether it is memory that is missing: a GPU's, or the machine's own where the system refuses it."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _cut(span: Span, most: int) -> list[Span]:
    first, end = span
    return [(at, min(at + most, end)) for at in range(first, end, most)]
