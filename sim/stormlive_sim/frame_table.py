"""Where each frame of a recorded movie lies: file, offset, layout."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormlive_sim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class FrameTable:
    """The frames of one recorded movie, in order; a few bytes per frame, never the pixels.

    Attributes
    ----------
    files
        The files that hold the frames.
    shape
        ``(Y, X)`` in pixels, the same for all frames.
    dtype
        Type of the pixels in the file, byte order included.
    file_index
        ``(T,)`` int32: which of `files` holds the frame.
    offset
        ``(T,)`` int64: first byte of the frame's pixels; with `compressed`, of its TIFF directory.
    compressed
        ``(T,)`` bool: the frame's pixels are not one plain run of bytes and must be decoded.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    file_index: NDArray[np.int32]
    offset: NDArray[np.int64]
    compressed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.offset)

    def select(self, numbers: NDArray[np.intp]) -> "FrameTable":
        """Return the table of some of the frames."""
        return replace(
            self,
            file_index=self.file_index[numbers],
            offset=self.offset[numbers],
            compressed=self.compressed[numbers],
        )

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


def describe_frame(shape: tuple[int, int], dtype: np.dtype[np.generic]) -> str:
    """Return ``"64 × 48 pixels of uint16"`` (X × Y, as microscopes and Fiji name it)."""
    return f"{shape[1]} × {shape[0]} pixels of {dtype.name}"


def concatenate(tables: list[FrameTable]) -> FrameTable:
    """Join the tables of several files into one movie; all must agree in shape and pixel type."""
    first = tables[0]
    for table in tables[1:]:
        if table.shape != first.shape or table.dtype.newbyteorder("=") != first.dtype.newbyteorder("="):
            raise InputError(
                f"expected files that all hold frames of {describe_frame(first.shape, first.dtype)} like "
                f"{first.files[0]}, got {describe_frame(table.shape, table.dtype)} in {table.files[0]}; "
                "give only the files of one movie"
            )
        if table.dtype != first.dtype:
            raise InputError(
                f"expected files of one byte order, got both in {first.files[0]} and {table.files[0]}; "
                "save them anew with one program"
            )
    starts = np.cumsum([0, *(len(table.files) for table in tables)])
    return FrameTable(
        files=tuple(path for table in tables for path in table.files),
        shape=first.shape,
        dtype=first.dtype,
        file_index=np.concatenate(
            [table.file_index + start for table, start in zip(tables, starts, strict=False)]
        ).astype(np.int32),
        offset=np.concatenate([table.offset for table in tables]),
        compressed=np.concatenate([table.compressed for table in tables]),
    )
