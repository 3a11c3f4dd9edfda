"""The chain of directories of a TIFF file and their raw entries; classic TIFF and BigTIFF."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stormlive_sim.errors import InputError

_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


class CutShortError(Exception):
    """The file ends before what its directories point to."""


class DamagedError(Exception):
    """The directories contradict themselves."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a directory: its TIFF type, number of values, and the values or their offset."""

    kind: int
    count: int
    value: bytes


class TiffDirectories:
    """The directories of one open TIFF file.

    Parameters
    ----------
    file
        The open file.
    path
        Its path, for messages.
    size
        Its size in bytes.
    """

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        if size == 0:
            raise InputError(f"expected a TIFF movie, got an empty file: {path}; copy or save it anew")
        magic = file.read(4)
        order = {b"II": "<", b"MM": ">"}.get(magic[:2])
        version = struct.unpack(order + "H", magic[2:])[0] if order and len(magic) == 4 else 0
        if order is None or version not in (42, 43):
            raise InputError(
                f"expected a TIFF movie, got a file that is not a TIFF: {path}; "
                "give a .tif file or an NDTiff dataset folder"
            )
        big = version == 43
        self.order = order
        self._file = file
        self._size = size
        self._first = 8 if big else 4
        self._offset = struct.Struct(order + ("Q" if big else "I"))
        self._count = struct.Struct(order + ("Q" if big else "H"))
        self._entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))

    def __iter__(self) -> Iterator[tuple[int, dict[int, Entry]]]:
        """Yield each directory's offset in the file and its entries by tag."""
        pointer = self.first_pointer
        seen: set[int] = set()
        while (found := self.read(pointer)) is not None:
            offset, entries, pointer = found
            if offset in seen:
                raise DamagedError
            seen.add(offset)
            yield offset, entries

    @property
    def first_pointer(self) -> int:
        """Where in the file the offset of the first directory stands."""
        return self._first

    def read(self, pointer: int) -> tuple[int, dict[int, Entry], int] | None:
        """Return the directory whose offset stands at `pointer`: its offset, its entries by tag, the next pointer.

        None when the chain ends at `pointer`.
        """
        offset = self._unpack(self._offset, pointer)
        if offset == 0:
            return None
        n_entries = self._unpack(self._count, offset)
        # An empty directory is what the zeros of a preallocated file look like whose writer was killed.
        if not 1 <= n_entries <= 4096:
            raise DamagedError
        start = offset + self._count.size
        raw = self._read(start, n_entries * self._entry.size)
        entries = {
            tag: Entry(kind=kind, count=count, value=value) for tag, kind, count, value in self._entry.iter_unpack(raw)
        }
        # Read now: a file that is cut short here has lost the rest of its chain, not come to its end.
        self._unpack(self._offset, start + len(raw))
        return offset, entries, start + len(raw)

    def integers(self, entry: Entry) -> tuple[int, ...]:
        """Return the values of an entry of whole numbers."""
        if entry.kind not in _TYPES or entry.count == 0:
            raise DamagedError
        code = _TYPES[entry.kind]
        # Read first, which checks the count against the file's size: a format takes no count above 63 bits.
        raw = self._values(entry, entry.count * struct.calcsize(self.order + code))
        return struct.unpack(f"{self.order}{entry.count}{code}", raw)

    def text(self, entry: Entry) -> str:
        """Return the value of a text entry."""
        return self._values(entry, entry.count).rstrip(b"\0").decode("utf-8", "replace")

    def _values(self, entry: Entry, n_bytes: int) -> bytes:
        if n_bytes <= len(entry.value):
            return entry.value[:n_bytes]
        return self._read(self._offset.unpack(entry.value)[0], n_bytes)

    def _unpack(self, field: struct.Struct, offset: int) -> int:
        value: int = field.unpack(self._read(offset, field.size))[0]
        return value

    def _read(self, offset: int, n_bytes: int) -> bytes:
        # Checked before the read: a damaged count must not allocate gigabytes.
        if offset + n_bytes > self._size:
            raise CutShortError
        self._file.seek(offset)
        return self._file.read(n_bytes)
