"""The frame table of an NDTiff dataset folder, which is what Pycro-Manager saves."""

import json
import logging
import struct
import warnings
from pathlib import Path

import numpy as np

from stormlive_sim.errors import InputError
from stormlive_sim.frame_table import FrameTable, describe_frame

logger = logging.getLogger(__name__)

INDEX_NAME = "NDTiff.index"
_PIXELS = {0: "<u1", 1: "<u2", 3: "<u2", 4: "<u2", 5: "<u2", 6: "<u2"}


def ndtiff_table(folder: Path) -> FrameTable:
    """Read where the frames of an NDTiff dataset lie, in order of their one varying axis (time)."""
    index_path = folder / INDEX_NAME
    if not index_path.is_file():
        raise InputError(
            f"expected an NDTiff dataset (a folder with {INDEX_NAME}), got {folder}; "
            "give the dataset's own folder, or the TIFF files themselves"
        )
    entries = _entries(index_path)
    if not entries:
        raise InputError(f"expected an NDTiff dataset with frames, got an empty one: {folder}; record it anew")
    axis, entries = _ordered(entries, folder)
    first = entries[0][1]
    files: dict[str, int] = {}
    for axes, entry in entries:
        if entry.pixel_type not in _PIXELS:
            raise InputError(
                f"expected grey frames of 8 or 16 bit, got RGB or an unknown pixel type ({entry.pixel_type}) at "
                f"{axes} of {folder}; give the camera's own recording"
            )
        if _format(entry) != _format(first):
            raise InputError(
                f"expected frames of {describe_frame(*_format(first))} like the first, got "
                f"{describe_frame(*_format(entry))} at {axes} of {folder}; give a dataset of one movie only"
            )
        files.setdefault(entry.filename, len(files))
    shape, dtype = _format(first)
    table = FrameTable(
        files=tuple(folder / _plain_name(name, folder) for name in files),
        shape=shape,
        dtype=dtype,
        file_index=np.array([files[entry.filename] for _, entry in entries], np.int32),
        offset=np.array([entry.pix_offset for _, entry in entries], np.int64),
        compressed=np.zeros(len(entries), np.bool_),
    )
    _refuse_cut_short(table, folder)
    _warn_of_gaps(axis, entries, folder)
    return table


def _entries(index_path: Path) -> list[tuple[dict[str, int | str], "NDTiffIndexEntry"]]:  # type: ignore[name-defined]  # noqa: F821
    from ndstorage.ndtiff_index import NDTiffIndexEntry

    data = index_path.read_bytes()
    entries = []
    position = 0
    while position < len(data):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what ndstorage warns of comes back as None, handled below
                unpacked = NDTiffIndexEntry.unpack_single_index_entry(data, position)
        except (struct.error, UnicodeDecodeError, json.JSONDecodeError):
            unpacked = None
        if unpacked is None:
            # A writer that was killed leaves half an entry: all frames before it are whole.
            logger.warning("%s ends in the middle of an entry; its %d whole frames are used", index_path, len(entries))
            break
        position, axes, entry = unpacked
        entries.append((axes, entry))
    return entries
