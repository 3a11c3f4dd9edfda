"""The frame table of one TIFF file, from its directories alone.

tifffile compares only a few pages of a stack, skips directories that it cannot read and fills in zeros for
pixels that are not there. A movie must be complete or refused, so the directories are walked here, every one,
and tifffile decodes what is compressed.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stormlive_sim.errors import InputError
from stormlive_sim.frame_table import FrameTable, describe_frame
from stormlive_sim.tiff_description import Description, read_description

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _DESCRIPTION = 256, 257, 258, 259, 262, 270
_STRIP_OFFSETS, _SAMPLES, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES, _FORMAT = 273, 277, 279, 324, 325, 339
_TAGS = frozenset(
    (_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _SAMPLES, _STRIP_BYTES)
    + (_TILE_OFFSETS, _TILE_BYTES, _FORMAT)
)
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_PIXELS = {(1, 8): "u1", (1, 16): "u2", (2, 16): "i2", (3, 32): "f4", (3, 64): "f8"}
_COLOUR = {2: "RGB", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}


class _CutShortError(Exception):
    """The file ends before what its directories point to."""


class _DamagedError(Exception):
    """The directories contradict themselves."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Byte order and field widths of classic TIFF or BigTIFF."""

    order: str
    big: bool

    @property
    def offset(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "I"))

    @property
    def count(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def entry(self) -> struct.Struct:
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))


@dataclass(frozen=True, kw_only=True)
class _Page:
    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    offset: int
    end: int
    compressed: bool


def tiff_table(path: Path) -> tuple[FrameTable, Description]:
    """Read where the frames of one TIFF file lie, and what it says of its axes."""
    try:
        size = path.stat().st_size
        file = path.open("rb")
    except FileNotFoundError:
        raise InputError(f"expected a movie at {path}, but there is no such file; check the path") from None
    except OSError as error:
        raise InputError(f"could not open {path}: {error.strerror}; check the path and its permissions") from None
    with file:
        layout = _layout(file, path, size)
        return _walk(file, path, size, layout)


def _layout(file: BinaryIO, path: Path, size: int) -> _Layout:
    if size == 0:
        raise InputError(f"expected a TIFF movie, got an empty file (0 bytes): {path}; copy or save it anew")
    magic = file.read(4)
    order = {b"II": "<", b"MM": ">"}.get(magic[:2])
    version = struct.unpack(order + "H", magic[2:])[0] if order and len(magic) == 4 else 0
    if order is None or version not in (42, 43):
        raise InputError(
            f"expected a TIFF movie, got a file that is not a TIFF: {path}; "
            "give a .tif file or an NDTiff dataset folder"
        )
    return _Layout(order=order, big=version == 43)


def _walk(file: BinaryIO, path: Path, size: int, layout: _Layout) -> tuple[FrameTable, Description]:
    description = Description()
    first: _Page | None = None
    offsets: list[int] = []
    compressed: list[bool] = []
    try:
        for directory, tags in _directories(file, size, layout):
            try:
                if first is None:
                    description = read_description(_text(file, tags, layout, size), path)
                page = _page(file, tags, layout, size, f"frame {len(offsets)} of {path}")
            except struct.error:
                raise _DamagedError from None
            if first is None:
                first = page
            elif (page.shape, page.dtype) != (first.shape, first.dtype):
                raise InputError(
                    f"expected frames of {describe_frame(first.shape, first.dtype)} like the first, got frame "
                    f"{len(offsets)} of {describe_frame(page.shape, page.dtype)} in {path}; give one movie only"
                )
            if page.end > size:
                raise _CutShortError
            offsets.append(directory if page.compressed else page.offset)
            compressed.append(page.compressed)
        if first is None:
            raise InputError(f"expected a movie, got a TIFF without a single image: {path}; save it anew")
        if len(offsets) == 1 and description.one_directory and description.n_frames and not compressed[0]:
            frame_bytes = first.end - first.offset
            offsets = [first.offset + i * frame_bytes for i in range(description.n_frames)]
            compressed = [False] * len(offsets)
            if offsets[-1] + frame_bytes > size:
                raise _CutShortError
    except _CutShortError:
        promised = f" of {description.n_frames}" if description.n_frames else ""
        intact = _intact(first, len(offsets), description, size)
        raise InputError(
            f"the movie is cut short: {path} ends ({size} bytes) before the pixels that it lists; "
            f"{intact}{promised} frames are intact; copy the file again from its source"
        ) from None
    except _DamagedError:
        raise InputError(
            f"the movie is damaged: {path} has a TIFF directory that cannot be read after {len(offsets)} intact "
            "frames; copy the file again from its source"
        ) from None
    table = FrameTable(
        files=(path,),
        shape=first.shape,
        dtype=first.dtype,
        file_index=np.zeros(len(offsets), np.int32),
        offset=np.array(offsets, np.int64),
        compressed=np.array(compressed, np.bool_),
    )
    return table, description


def _intact(first: _Page | None, read: int, description: Description, size: int) -> int:
    """Count the complete frames of a file that was cut short.

    Where the directories lie behind the pixels, as ImageJ writes them, they go first: there the pixels count.
    """
    if first is None or first.compressed or not description.frames_adjoin:
        return read
    frames = max(0, size - first.offset) // (first.end - first.offset)
    return max(read, min(frames, description.n_frames or frames))


def _directories(
    file: BinaryIO, size: int, layout: _Layout
) -> Iterator[tuple[int, dict[int, tuple[int, int, bytes]]]]:
    """Yield offset and wanted entries (type, count, raw value) of every directory of the chain."""
    offset_field, count_field, entry_field = layout.offset, layout.count, layout.entry
    file.seek(8 if layout.big else 4)
    offset = _unpack(offset_field, file)
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise _DamagedError
        seen.add(offset)
        file.seek(offset)
        n_entries = _unpack(count_field, file)
        # An empty directory is what the zeros of a preallocated file look like whose writer was killed.
        if n_entries == 0 or n_entries > 4096:
            raise _DamagedError
        raw = file.read(n_entries * entry_field.size)
        if len(raw) < n_entries * entry_field.size:
            raise _CutShortError
        tags = {tag: (kind, count, value) for tag, kind, count, value in entry_field.iter_unpack(raw)}
        following = _unpack(offset_field, file)
        yield offset, tags
        offset = following


def _unpack(field: struct.Struct, file: BinaryIO) -> int:
    raw = file.read(field.size)
    if len(raw) < field.size:
        raise _CutShortError
    value: int = field.unpack(raw)[0]
    return value


def _raw(
    file: BinaryIO, entry: tuple[int, int, bytes], item_bytes: int, layout: _Layout, size: int
) -> bytes:
    _, count, value = entry
    n_bytes = count * item_bytes
    if n_bytes <= len(value):
        return value[:n_bytes]
    start = layout.offset.unpack(value)[0]
    if start + n_bytes > size:
        raise _CutShortError
    file.seek(start)
    return file.read(n_bytes)


def _text(file: BinaryIO, tags: dict[int, tuple[int, int, bytes]], layout: _Layout, size: int) -> str:
    if _DESCRIPTION not in tags:
        return ""
    return _raw(file, tags[_DESCRIPTION], 1, layout, size).rstrip(b"\0").decode("utf-8", "replace")


def _page(
    file: BinaryIO, tags: dict[int, tuple[int, int, bytes]], layout: _Layout, size: int, where: str
) -> _Page:
    def values(tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        if tag not in tags:
            return default
        kind, count, _ = tags[tag]
        if kind not in _TYPES or count == 0:
            raise _DamagedError
        code = _TYPES[kind]
        raw = _raw(file, tags[tag], struct.calcsize("=" + code), layout, size)
        return struct.unpack(f"{layout.order}{count}{code}", raw)

    samples = values(_SAMPLES, (1,))[0]
    photometric = values(_PHOTOMETRIC, (1,))[0]
    if samples != 1 or photometric in _COLOUR:
        colour = _COLOUR.get(photometric, "several")
        raise InputError(
            f"expected grey frames with one sample per pixel, got {samples} ({colour}) in {where}; "
            "give the camera's own recording, or convert it to 16-bit grey (Fiji: Image > Type > 16-bit)"
        )
    tiled = _TILE_OFFSETS in tags
    starts = values(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    counts = values(_TILE_BYTES if tiled else _STRIP_BYTES)
    width, height = values(_WIDTH), values(_HEIGHT)
    if not (starts and width and height) or min(width[0], height[0]) < 1 or len(starts) != len(counts):
        raise _DamagedError
    shape = (height[0], width[0])
    dtype = _dtype(values(_FORMAT, (1,))[0], values(_BITS, (1,))[0], layout.order, where)
    # Zero bytes stand for "no data here", which a reader would have to invent.
    if 0 in counts:
        raise _DamagedError
    frame_bytes = shape[0] * shape[1] * dtype.itemsize
    plain = not tiled and values(_COMPRESSION, (1,))[0] == 1
    if plain and sum(counts) < frame_bytes:
        raise _DamagedError
    ends = [start + count for start, count in zip(starts, counts, strict=True)]
    if plain and (len(starts) == 1 or ends[:-1] == list(starts[1:])):
        return _Page(
            shape=shape, dtype=dtype, offset=starts[0], end=starts[0] + frame_bytes, compressed=False
        )
    return _Page(shape=shape, dtype=dtype, offset=starts[0], end=max(ends), compressed=True)


def _dtype(sample_format: int, bits: int, order: str, where: str) -> np.dtype[np.generic]:
    # Format 4 is "undefined", which writers use for plain integers.
    code = _PIXELS.get((1 if sample_format == 4 else sample_format, bits))
    if code is None:
        kind = {1: "unsigned integer", 2: "signed integer", 3: "float", 5: "complex", 6: "complex"}
        raise InputError(
            f"expected pixels of uint8, uint16, int16, float32 or float64, got {bits}-bit "
            f"{kind.get(sample_format, 'unknown')} in {where}; convert the movie to 16-bit (Fiji: Image > Type)"
        )
    return np.dtype(order + code)
