"""The frame table of one TIFF file, from its directories alone.

tifffile compares only a few pages of a stack, skips directories that it cannot read and fills in zeros for
pixels that are not there. A movie must be complete or refused, so the directories are walked here, every one,
and tifffile decodes what is compressed.
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stormlive_sim.errors import InputError
from stormlive_sim.frame_table import FrameTable, describe_frame
from stormlive_sim.routes import Route, name_of, route_of
from stormlive_sim.tiff_description import Description, read_description, read_plane
from stormlive_sim.tiff_directories import CutShortError, DamagedError, Entry, TiffDirectories

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
_PLANE = 51123  # Micro-Manager's JSON
_STRIP_OFFSETS, _SAMPLES, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES, _FORMAT = 273, 277, 279, 324, 325, 339
_PIXELS = {(1, 8): "u1", (1, 16): "u2", (2, 16): "i2", (3, 32): "f4", (3, 64): "f8"}
_COLOUR = {2: "RGB", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}


@dataclass(frozen=True, kw_only=True)
class Page:
    """One frame as its directory describes it: where its pixels begin and end."""

    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    offset: int
    end: int
    compressed: bool


def tiff_tables(path: Path, *, several: bool) -> tuple[dict[Route, FrameTable], Description]:
    """Read where the frames of one TIFF file lie, one table for each route, and what it says of its axes.

    Unless `several`, it must be one movie, whose route is then empty.
    """
    try:
        size = path.stat().st_size
        file = path.open("rb")
    except FileNotFoundError:
        raise InputError(f"expected a movie at {path}, but there is no such file; check the path") from None
    except OSError as error:
        raise InputError(f"could not open {path}: {error.strerror}; check its permissions") from None
    with file:
        tables, description = _walk(TiffDirectories(file, path, size), path, size, several=several)
    if several:
        return tables, description
    if len(tables) > 1:
        names = ", ".join(name_of(route) for route in itertools.islice(tables, 8))
        raise InputError(f"expected a movie with time as its only axis, got {names} in {path}; save one of them alone")
    return {(): next(iter(tables.values()))}, description


def _walk(
    directories: TiffDirectories, path: Path, size: int, *, several: bool
) -> tuple[dict[Route, FrameTable], Description]:
    description = Description()
    first: Page | None = None
    offsets: list[int] = []
    compressed: list[bool] = []
    routes: list[Route] = []
    try:
        for offset, entries in directories:
            page = read_page(directories, entries, f"frame {len(offsets)} of {path}")
            if first is None and DESCRIPTION in entries:
                description = read_description(directories.text(entries[DESCRIPTION]), path, several=several)
            first = first or page
            if (page.shape, page.dtype) != (first.shape, first.dtype):
                raise InputError(
                    f"expected frames of {describe_frame(first.shape, first.dtype)} like the first, got "
                    f"{describe_frame(page.shape, page.dtype)} at frame {len(offsets)} of {path}; "
                    "give a file with one movie only"
                )
            if page.end > size:
                raise CutShortError
            try:
                axes = frame_axes(directories, entries, description, len(offsets))
            except json.JSONDecodeError:
                axes = description.axes(len(offsets))
            routes.append(route_of(axes))
            offsets.append(offset if page.compressed else page.offset)
            compressed.append(page.compressed)
        if first is None:
            raise InputError(f"expected a movie, got a TIFF without a single image: {path}; save it anew")
        promised = description.n_frames
        if len(offsets) == 1 and description.one_directory and promised and not first.compressed:
            n_bytes = first.end - first.offset
            if first.offset + promised * n_bytes > size:
                raise CutShortError
            offsets = [first.offset + i * n_bytes for i in range(promised)]
            compressed = [False] * promised
            routes = [route_of(description.axes(i)) for i in range(promised)]
    except CutShortError:
        promised_text = f" of {description.n_frames}" if description.n_frames else ""
        raise InputError(
            f"the movie is cut short: {path} ends (at {size} bytes) before the pixels that it lists; "
            f"{_intact(first, len(offsets), description, size)}{promised_text} frames are intact; "
            "copy the file again from its source"
        ) from None
    except DamagedError:
        raise InputError(
            f"the movie is damaged: {path} has a TIFF directory that makes no sense after {len(offsets)} "
            "intact frames; copy the file again from its source"
        ) from None
    table = FrameTable(
        files=(path,),
        shape=first.shape,
        dtype=first.dtype,
        file_index=np.zeros(len(offsets), np.int32),
        offset=np.array(offsets, np.int64),
        compressed=np.array(compressed, np.bool_),
    )
    return _dealt_out(table, routes), description


def _dealt_out(table: FrameTable, routes: list[Route]) -> dict[Route, FrameTable]:
    numbers: dict[Route, list[int]] = {}
    for number, route in enumerate(routes):
        numbers.setdefault(route, []).append(number)
    return {route: table.select(np.array(some)) for route, some in numbers.items()}


def frame_axes(
    directories: TiffDirectories, entries: dict[int, Entry], description: Description, number: int
) -> dict[str, int | str]:
    """Return the axes of frame `number`; JSONDecodeError where they are not (yet) written as they should be."""
    own = read_plane(directories.text(entries[_PLANE])) if _PLANE in entries else {}
    return own or description.axes(number)


def _intact(first: Page | None, read: int, description: Description, size: int) -> int:
    """Count the complete frames of a file that was cut short.

    ImageJ writes the directories behind the pixels, where a cut takes them first; there the pixels count.
    """
    if first is None or first.compressed or not description.frames_adjoin:
        return read
    frames = max(0, size - first.offset) // (first.end - first.offset)
    return max(read, min(frames, description.n_frames or frames))


def read_page(directories: TiffDirectories, entries: dict[int, Entry], where: str) -> Page:
    """Interpret a directory.

    Raises
    ------
    InputError
        Not grey, or pixels that no camera delivers; `where` names the frame.
    CutShortError, DamagedError
        The directory contradicts the file or itself.
    """

    def values(tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        return directories.integers(entries[tag]) if tag in entries else default

    samples = values(_SAMPLES, (1,))[0]
    photometric = values(_PHOTOMETRIC, (1,))[0]
    if samples != 1 or photometric in _COLOUR:
        raise InputError(
            f"expected grey frames, one sample per pixel, got {samples} samples "
            f"({_COLOUR.get(photometric, 'not colour')}) in {where}; give the camera's own recording, "
            "or convert it to 16-bit grey (Fiji: Image > Type > 16-bit)"
        )
    tiled = _TILE_OFFSETS in entries
    starts = values(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    counts = values(_TILE_BYTES if tiled else _STRIP_BYTES)
    width, height = values(_WIDTH, (0,))[0], values(_HEIGHT, (0,))[0]
    # A strip of zero bytes stands for "no data here", which a reader would have to invent.
    if not starts or len(starts) != len(counts) or 0 in counts or width < 1 or height < 1:
        raise DamagedError
    dtype = _dtype(values(_FORMAT, (1,))[0], values(_BITS, (1,))[0], directories.order, where)
    ends = [start + count for start, count in zip(starts, counts, strict=True)]
    plain = not tiled and values(_COMPRESSION, (1,))[0] == 1
    frame_bytes = width * height * dtype.itemsize
    if plain and sum(counts) < frame_bytes:
        raise DamagedError
    adjoin = plain and all(end == start for end, start in zip(ends[:-1], starts[1:], strict=True))
    return Page(
        shape=(height, width),
        dtype=dtype,
        offset=starts[0],
        end=starts[0] + frame_bytes if adjoin else max(ends),
        compressed=not adjoin,
    )


def _dtype(sample_format: int, bits: int, order: str, where: str) -> np.dtype[np.generic]:
    # Format 4 is "undefined", which some writers use for plain integers.
    code = _PIXELS.get((1 if sample_format == 4 else sample_format, bits))
    if code is None:
        kinds = {1: "unsigned integer", 2: "signed integer", 3: "float", 5: "complex", 6: "complex"}
        raise InputError(
            f"expected pixels of uint8, uint16, int16, float32 or float64, got {bits}-bit "
            f"{kinds.get(sample_format, 'unknown')} in {where}; convert it to 16-bit (Fiji: Image > Type)"
        )
    return np.dtype(order + code)
