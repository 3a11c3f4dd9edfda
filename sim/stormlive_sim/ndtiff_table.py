"""The frame table of an NDTiff dataset folder, which is what Pycro-Manager saves.

The index is read here and not by ndstorage: that prints to the terminal, warns, and pulls in dask.
"""

import json
import logging
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stormlive_sim.errors import InputError
from stormlive_sim.frame_table import FrameTable, describe_frame
from stormlive_sim.routes import Route, route_of

logger = logging.getLogger(__name__)

INDEX_NAME = "NDTiff.index"
_LENGTH = struct.Struct("<I")
# Offset, width, height, type and compression of the pixels; offset, length, compression of the metadata.
_FIELDS = struct.Struct("<8I")
_PIXELS = {0: "<u1", 1: "<u2", 3: "<u2", 4: "<u2", 5: "<u2", 6: "<u2"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One frame in the index; `end` is the first byte of its file behind everything that belongs to it."""

    axes: dict[str, int | str]
    filename: str
    offset: int
    shape: tuple[int, int]
    pixel_type: int
    compression: int
    end: int


def ndtiff_table(folder: Path) -> FrameTable:
    """Read where the frames of an NDTiff dataset lie, in the order of their one varying axis (time)."""
    return _table(_in_order(_entries(_index(folder)), folder), folder)


def ndtiff_tables(folder: Path) -> dict[Route, FrameTable]:
    """Read where the frames of an NDTiff dataset lie, one table for each route.

    Where more than one axis varies within a route, its frames are in the order in which they were written.
    """
    routes: dict[Route, list[Entry]] = {}
    for entry in _entries(_index(folder)):
        routes.setdefault(route_of(entry.axes), []).append(entry)
    tables = {}
    for route, entries in routes.items():
        varying = _varying(entries)
        ordered = len(varying) < 2 and all(isinstance(place, int) for places in varying.values() for place in places)
        written = {frozenset(entry.axes.items()): entry for entry in entries}
        tables[route] = _table(_in_order(entries, folder) if ordered else list(written.values()), folder)
    return tables


def _table(entries: list[Entry], folder: Path) -> FrameTable:
    first = entries[0]
    files: dict[str, int] = {}
    for entry in entries:
        check_entry(entry, first, folder)
        files.setdefault(entry.filename, len(files))
    table = FrameTable(
        files=tuple(folder / name for name in files),
        shape=first.shape,
        dtype=pixel_dtype(first),
        file_index=np.array([files[entry.filename] for entry in entries], np.int32),
        offset=np.array([entry.offset for entry in entries], np.int64),
        compressed=np.zeros(len(entries), np.bool_),
    )
    _refuse_cut_short(table, folder)
    return table


def _index(folder: Path) -> Path:
    index = folder / INDEX_NAME
    if not index.is_file():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{INDEX_NAME}"))
        if inside:
            raise InputError(f"{folder} holds a dataset, it is none itself: give {folder / inside[0]}")
        raise InputError(
            f"expected an NDTiff dataset (a folder with {INDEX_NAME}), got {folder}; "
            "give the dataset's own folder, or the TIFF files themselves"
        )
    return index


def check_entry(entry: Entry, first: Entry, folder: Path) -> None:
    """Raise an InputError for a frame that does not belong to a grey movie with `first` as its first frame."""
    if entry.pixel_type not in _PIXELS or entry.compression != 0:
        raise InputError(
            f"expected uncompressed grey frames of 8 or 16 bit, got pixel type {entry.pixel_type} "
            f"(RGB or unknown) at {entry.axes} of {folder}; give the camera's own recording"
        )
    if (entry.shape, entry.pixel_type) != (first.shape, first.pixel_type):
        raise InputError(
            f"expected frames of {_describe(first)} like the first, got {_describe(entry)} at "
            f"{entry.axes} of {folder}; give a dataset of one movie only"
        )
    # The index comes from a file: it must not lead out of its folder.
    if Path(entry.filename).name != entry.filename or entry.filename == "..":
        raise InputError(f"the index of {folder} names a file outside its folder: {entry.filename!r}")


def pixel_dtype(entry: Entry) -> np.dtype[np.generic]:
    """Return the type of an entry's pixels, which `check_entry` has let pass."""
    return np.dtype(_PIXELS[entry.pixel_type])


def _entries(index: Path) -> list[Entry]:
    data = index.read_bytes()
    entries, whole = parse_index(data)
    if whole < len(data):
        # A writer that was killed leaves half an entry behind; the frames before it are whole.
        logger.warning("%s breaks off in an entry; its %d whole frames are used", index, len(entries))
    if not entries:
        raise InputError(f"expected an NDTiff dataset with frames, got none in {index}; record it anew")
    return entries


def parse_index(data: bytes) -> tuple[list[Entry], int]:
    """Return the whole entries at the start of an index, and the number of bytes that they take."""
    entries: list[Entry] = []
    whole = 0
    try:
        while whole < len(data):
            axes, position = _string(data, whole)
            filename, position = _string(data, position)
            fields = _FIELDS.unpack_from(data, position)
            offset, width, height, pixel_type, compression, metadata_offset, metadata_length, _ = fields
            entries.append(
                Entry(
                    axes=_axes(axes),
                    filename=filename,
                    offset=offset,
                    shape=(height, width),
                    pixel_type=pixel_type,
                    compression=compression,
                    end=metadata_offset + metadata_length,
                )
            )
            whole = position + _FIELDS.size
    except (struct.error, ValueError, RecursionError):
        pass  # half an entry, or none at all
    return entries, whole


def _axes(text: str) -> dict[str, int | str]:
    axes = json.loads(text)
    if not isinstance(axes, dict) or not all(isinstance(value, int | float | str) for value in axes.values()):
        raise ValueError("no axes")
    # Such as a z in micrometres: a name like any other, for it separates pictures and counts nothing.
    return {axis: str(value) if isinstance(value, float) else value for axis, value in axes.items()}


def _string(data: bytes, position: int) -> tuple[str, int]:
    (length,) = _LENGTH.unpack_from(data, position)
    start, end = position + _LENGTH.size, position + _LENGTH.size + length
    if length == 0 or end > len(data):
        raise ValueError("no whole string")
    return data[start:end].decode(), end


def _in_order(entries: list[Entry], folder: Path) -> list[Entry]:
    """Sort by the one axis that varies; refuse several axes, name gaps."""
    varying = _varying(entries)
    if len(varying) > 1:
        axes = ", ".join(f"{axis} ({len(found)})" for axis, found in sorted(varying.items()))
        raise InputError(
            f"expected a dataset with time as its only axis, got {axes} in {folder}; "
            "save one channel, slice or position alone"
        )
    if not varying:
        return entries[-1:]  # of frames at the same place the last one counts, as in ndstorage
    axis, found = varying.popitem()
    numbers = {value for value in found if isinstance(value, int)}
    if len(numbers) < len(found):
        raise InputError(
            f"expected a dataset with time as its only axis, got {len(found)} values of {axis!r} in "
            f"{folder}; save one of them alone"
        )
    missing = max(numbers) - min(numbers) + 1 - len(numbers)
    if missing:
        logger.warning("%s lacks %d frames between its first and its last; those after a gap move up", folder, missing)
    by_number = {entry.axes[axis]: entry for entry in entries if axis in entry.axes}
    return [by_number[number] for number in sorted(numbers)]


def _varying(entries: list[Entry]) -> dict[str, set[int | str]]:
    """Return the axes on which frames differ, and their places there."""
    values: dict[str, set[int | str]] = {}
    for entry in entries:
        for axis, value in entry.axes.items():
            values.setdefault(axis, set()).add(value)
    return {axis: found for axis, found in values.items() if len(found) > 1}


def _describe(entry: Entry) -> str:
    return describe_frame(entry.shape, np.dtype(_PIXELS.get(entry.pixel_type, "V1")))


def _refuse_cut_short(table: FrameTable, folder: Path) -> None:
    for number, path in enumerate(table.files):
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise InputError(
                f"the NDTiff dataset {folder} lacks {path.name}, which its index lists; copy the whole folder again"
            ) from None
        beyond = (table.file_index == number) & (table.offset + table.frame_bytes > size)
        if beyond.any():
            raise InputError(
                f"the movie is cut short: {path} ends ({size} bytes) before the pixels that its index lists; "
                f"{int(np.argmax(beyond))} of {len(table)} frames are intact; copy the folder again"
            )
