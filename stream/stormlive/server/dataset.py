"""The acquisition's own dataset, from which the server reads frames that did not come over the wire."""

import time
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormlive.wire.axes import carried_axes
from stormlive.wire.frame import WIRE_DTYPES
from stormlive.wire.messages import Start
from stormlive_sim.errors import InputError
from stormlive_sim.ndtiff_table import INDEX_NAME, Entry, check_entry, parse_index, pixel_dtype

# Reading the index of a dataset that is being written.
_MOST_INDEX_BYTES = 16 * 2**20
_FIRST_STACK = "NDTiffStack.tif"


class DataRoots:
    """The folders below which datasets may be read: START names one, and with keys a client of another machine does.

    Parameters
    ----------
    folders
        Those folders; None for any.
    """

    def __init__(self, folders: tuple[Path, ...] | None) -> None:
        self._any = folders is None
        self._folders = tuple(folder.resolve() for folder in folders or ())
        # Windows would ask the machine that a path of another drive names, so these are not even looked at.
        self._drives = {folder.drive.lower() for folder in (*(folders or ()), *self._folders)}

    def find(self, start: Start) -> "Dataset | None":
        """Return the dataset that START names, if it may be read, this machine sees it, and it is one."""
        if start.dataset is None:
            return None
        try:
            folder = Path(start.dataset)
            if not folder.is_absolute() or not (self._any or folder.drive.lower() in self._drives):
                return None
            folder = folder.resolve()
            may_read = self._any or any(folder.is_relative_to(root) for root in self._folders)
            return Dataset(folder, start) if may_read and _is_dataset(folder) else None
        except (OSError, ValueError, RuntimeError):
            return None


class Dataset:
    """An NDTiff folder, perhaps still being written: frames by their axes. In the engine thread only.

    Attributes
    ----------
    grew_at
        `time.monotonic` when its index was last seen to grow.
    """

    def __init__(self, folder: Path, start: Start) -> None:
        self._folder = folder
        self._shape = start.shape
        self._dtype = WIRE_DTYPES[start.dtype]
        self._places: dict[frozenset[tuple[str, int | str]], Entry] = {}
        self._read_bytes = 0
        self.grew_at = time.monotonic()

    def frame(self, axes: Mapping[str, int | str]) -> NDArray[Any] | None:
        """Return the frame with these axes, (Y, X) in the run's pixel type; None when it is not there (yet).

        Raises
        ------
        InputError
            When it is there, but not a frame of this run, or cannot be read.
        """
        entry = self._find(axes)
        if entry is None:
            return None
        try:
            with self._open(entry.filename) as file:
                file.seek(entry.offset)
                data = file.read(entry.shape[0] * entry.shape[1] * self._dtype.itemsize)
        except OSError as error:
            raise InputError(f"the dataset cannot be read: {error.strerror or error}") from error
        if len(data) < entry.shape[0] * entry.shape[1] * self._dtype.itemsize:
            return None
        return np.frombuffer(data, self._dtype).reshape(entry.shape)

    def has(self, axes: Mapping[str, int | str]) -> bool:
        """Return whether the index names a frame with these axes now; raises as `frame`, but does not read it."""
        return self._find(axes) is not None

    def _find(self, axes: Mapping[str, int | str]) -> Entry | None:
        place = _place(axes)
        if place not in self._places:
            self._look()
        entry = self._places.get(place)
        if entry is None:
            return None
        check_entry(entry, entry, self._folder)
        if entry.shape != self._shape or pixel_dtype(entry).newbyteorder("<") != self._dtype:
            raise InputError(f"the dataset has {entry.shape} {pixel_dtype(entry)} there, not this run's frames")
        return entry

    def _look(self) -> None:
        """Take in what the index has gained."""
        try:
            with self._open(INDEX_NAME) as file:
                file.seek(self._read_bytes)
                entries, n_bytes = parse_index(file.read(_MOST_INDEX_BYTES))
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"the dataset cannot be read: {error.strerror or error}") from error
        if n_bytes:
            self._read_bytes += n_bytes
            self.grew_at = time.monotonic()
        for entry in entries:
            self._places[_place(entry.axes)] = entry

    def _open(self, name: str) -> BufferedReader:
        """Open a file of the folder; a link must not lead out of it, nor to what is not a file."""
        try:
            path = (self._folder / name).resolve(strict=True)
            safe = path.is_relative_to(self._folder) and path.is_file()
        except (ValueError, RuntimeError):  # a name that is none, links in a circle
            safe = False
        if not safe:
            raise InputError(f"the dataset cannot be read: its {name} is not a file in its folder")
        return path.open("rb")


def _place(axes: Mapping[str, int | str]) -> frozenset[tuple[str, int | str]]:
    # As the wire carries them: what is too long or too large for it came as another text than the index has.
    return frozenset(carried_axes(axes).items())


def _is_dataset(folder: Path) -> bool:
    """Return whether a folder is an NDTiff dataset: by its files, or empty, as one is before its first frame.

    Of any other the sender would let frames go that nobody has saved there.
    """
    names = [path.name for path in folder.iterdir()]
    # Its writers begin with the first stack: the index may come a moment later.
    return not names or INDEX_NAME in names or any(name.endswith(_FIRST_STACK) for name in names)
