"""Pictures of which most pixels are nothing, kept as those that are something."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stormlive_models.judge.drift import Shift

_AT_ONCE = 2**20
"""Pixels whose places are worked out at once: bounds the memory for that."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sparse:
    """A picture (Y, X); the order of its pixels is that of reading.

    Attributes
    ----------
    shape : (int, int)
        At most 2³² pixels.
    places : ndarray
        uint32 (N,), of the pixels that are not 0, ascending.
    values : ndarray
        float32 (N,), theirs.
    """

    shape: tuple[int, int]
    places: NDArray[np.uint32]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, picture: NDArray[np.float32]) -> Self:
        """Return what is in a picture (Y, X)."""
        flat = picture.reshape(-1)
        places = np.flatnonzero(flat)
        height, width = picture.shape
        return cls(shape=(height, width), places=places.astype(np.uint32), values=flat[places].astype(np.float32))

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> Self:
        """Return a picture of nothing."""
        return cls(shape=shape, places=np.zeros(0, np.uint32), values=np.zeros(0, np.float32))

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.places.nbytes + self.values.nbytes

    def dense(self) -> NDArray[np.float32]:
        """Return the picture."""
        return summed((self,), self.shape)

    def cut(self, window: tuple[slice, slice]) -> Self:
        """Return the part of it in some rows and columns, as a picture of its own."""
        rows, columns = window
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if (height, width) == self.shape:
            return self
        # Rows follow each other, so those of the window are one piece.
        first, end = np.searchsorted(self.places, (rows.start * self.shape[1], rows.stop * self.shape[1]))
        row, column = np.divmod(self.places[first:end].astype(np.int64), self.shape[1])
        inside = (column >= columns.start) & (column < columns.stop)
        places = (row[inside] - rows.start) * width + column[inside] - columns.start
        return type(self)(shape=(height, width), places=places.astype(np.uint32), values=self.values[first:end][inside])

    def add_to(self, total: NDArray[np.float32], shift_px: Shift = (0.0, 0.0)) -> None:
        """Add it, moved by (x, y) pixels, to `total` of the same shape: each pixel is shared among four.

        What is moved over the edge is lost, nothing else is.
        """
        if not any(shift_px):
            total.reshape(-1)[self.places] += self.values
            return
        (left, right), (top, bottom) = (_shares(way) for way in shift_px)
        for first in range(0, len(self.places), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            rows, columns = np.divmod(self.places[part].astype(np.int64), self.shape[1])
            for row, weight_y in (top, bottom):
                for column, weight_x in (left, right):
                    if weight_x * weight_y:
                        weighted = np.float32(weight_x * weight_y) * self.values[part]
                        _add(total, rows + row, columns + column, weighted)


def summed(pictures: Iterable[Sparse], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the sum of pictures of one shape."""
    total = np.zeros(shape, np.float32)
    for picture in pictures:
        picture.add_to(total)
    return total


def _shares(way: float) -> tuple[tuple[int, float], tuple[int, float]]:
    """Return the two whole steps around a way, each with its share."""
    whole = math.floor(way)
    return (whole, 1 - (way - whole)), (whole + 1, way - whole)


def _add(
    total: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64], values: NDArray[np.float32]
) -> None:
    height, width = total.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    # No place comes twice, so nothing is lost by adding them all at once.
    total[rows[inside], columns[inside]] += values[inside]
