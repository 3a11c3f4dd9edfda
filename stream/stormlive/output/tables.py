"""Tables of localizations that grow while the run goes on: ThunderSTORM CSV and Picasso HDF5.

What reads them, and what it asks for (looked up in ThunderSTORM's DLMImportExport, Picasso 0.11's io module and SMAP's
import settings): ThunderSTORM and SMAP take any columns by name; Picasso refuses a CSV without the PSF's width and the
background, and asks an HDF5 file for frame, x, y, lpx and lpy only. stormlive measures neither width nor background,
so in the CSV both are 0, and the HDF5 file is without.
"""

import errno
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)

LOCALIZATION = np.dtype(
    [
        ("frame", "<i8"),
        ("x_nm", "<f4"),
        ("y_nm", "<f4"),
        ("photons", "<f4"),
        ("sigma_x_nm", "<f4"),
        ("sigma_y_nm", "<f4"),
        ("probability", "<f4"),
    ]
)
"""A localization: 0-based frame, position from the outer corner of the first pixel, its standard deviation."""

Rows: TypeAlias = NDArray[np.void]
"""(N,) of `LOCALIZATION`."""

Sink: TypeAlias = Callable[[Rows], None]
"""Takes localizations, and owns them."""

Mark: TypeAlias = Mapping[str, int]
"""How far a table had been written, for `open_table`."""

SUFFIXES = (".csv", ".hdf5")

_CSV_COLUMNS = (
    ("id", "%d"),
    ("frame", "%d"),
    ("x [nm]", "%.2f"),
    ("y [nm]", "%.2f"),
    ("sigma [nm]", "%d"),
    ("intensity [photon]", "%.1f"),
    ("offset [photon]", "%d"),
    ("uncertainty_xy [nm]", "%.2f"),
    ("uncertainty_x [nm]", "%.2f"),
    ("uncertainty_y [nm]", "%.2f"),
    ("probability", "%.3f"),
)
_CSV_ROW = ",".join(form for _, form in _CSV_COLUMNS) + "\n"
_CSV_BLOCK = 8192


class Table(Protocol):
    """A file that takes localizations as they come."""

    def append(self, rows: Rows) -> None:
        """Write rows; on return every reader of the file finds them there."""

    def mark(self) -> dict[str, int]:
        """Return how far the file has been written."""

    def sync(self) -> None:
        """Have on disk what was written; from any thread."""

    def close(self, n_frames: int) -> None:
        """Close the file, and tell it how many frames the acquisition had."""


def check_table_name(path: Path) -> None:
    """Raise an InputError unless the suffix is one that tells a format."""
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"expected a table of localizations named *.csv (ThunderSTORM) or *.hdf5 (Picasso), got {path.name!r}"
        )


def check_new_table(path: Path) -> None:
    """Raise an InputError unless `path` names a table that can be written: known suffix, nothing there yet."""
    check_table_name(path)
    for file in table_files(path):
        if file.exists():
            raise InputError(f"{file} exists already; choose another name for the localizations or move that one")


def open_table(path: Path, *, shape: tuple[int, int], pixel_size_nm: float, mark: Mark | None = None) -> Table:
    """Create a table, or go on with one; the suffix decides which.

    Parameters
    ----------
    path : Path
        ``.csv`` for ThunderSTORM's format, ``.hdf5`` for Picasso's, which gets a ``.yaml`` beside it.
    shape : tuple of int
        (Y, X) of the camera's frames, in pixels.
    pixel_size_nm : float
        Camera pixel in the sample.
    mark : Mark or None
        Go on with a table from where it had been written to then; what was written since is cut off.

    Raises
    ------
    InputError
        When the suffix is another one, the file exists or cannot be created, or is shorter than at `mark`.
    """
    if mark is None:
        check_new_table(path)
    try:
        if path.suffix == ".csv":
            return CsvTable(path, mark)
        # h5py costs memory and a moment, and the CSV does without.
        from stormlive.output.picasso import PicassoTable

        return PicassoTable(path, shape, pixel_size_nm, mark)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot create {path}: {reason}; choose another place for the localizations") from error


class CsvTable:
    """ThunderSTORM's CSV: 1-based frames, nm, photons.

    Rows go to the operating system unbuffered and as a whole: whoever opens the file finds complete rows, and a
    process that is killed leaves all that it was given, but for the end of the one write that it was killed in.
    ``uncertainty_xy`` is the root mean square of the uncertainties in x and y.
    """

    def __init__(self, path: Path, mark: Mark | None = None) -> None:
        if mark is not None:
            self._file, self._n = reopen(path, mark["bytes"]), mark["rows"]
            return
        self._file = path.open("xb", buffering=0)
        header = ",".join(f'"{name}"' for name, _ in _CSV_COLUMNS) + "\n"
        append_whole(self._file, header.encode())
        self._n = 0

    def append(self, rows: Rows) -> None:
        """Write rows."""
        for first in range(0, len(rows), _CSV_BLOCK):
            part = rows[first : first + _CSV_BLOCK]
            sigma_x, sigma_y = part["sigma_x_nm"], part["sigma_y_nm"]
            zero = np.zeros(len(part))
            columns = (
                np.arange(self._n + 1, self._n + 1 + len(part)),
                part["frame"] + 1,
                part["x_nm"],
                part["y_nm"],
                zero,
                part["photons"],
                zero,
                np.sqrt((sigma_x**2 + sigma_y**2) / 2),
                sigma_x,
                sigma_y,
                part["probability"],
            )
            # One format of all rows: a csv.writer would take several times as long.
            text = (_CSV_ROW * len(part)) % tuple(np.column_stack(columns).ravel().tolist())
            append_whole(self._file, text.encode())
            self._n += len(part)

    def mark(self) -> dict[str, int]:
        """Return how far the file has been written."""
        return {"rows": self._n, "bytes": self._file.tell()}

    def sync(self) -> None:
        """Have on disk what was written."""
        os.fsync(self._file.fileno())

    def close(self, n_frames: int) -> None:
        """Close the file; it has no place for the number of frames."""
        self._file.close()


def table_files(path: Path) -> list[Path]:
    """Return the files of the table at `path`, itself first."""
    return [path] if path.suffix == ".csv" else [path, path.with_suffix(".yaml")]


def rename_table(path: Path, new: Path) -> Path:
    """Give a table that is closed another name, and return where it lies then: where it was if that cannot be."""
    moved: list[tuple[Path, Path]] = []
    try:
        for file, new_file in zip(table_files(path), table_files(new), strict=True):
            if new_file.exists():
                raise FileExistsError(errno.EEXIST, "it is there already", str(new_file))
            file.rename(new_file)
            moved.append((file, new_file))
    except OSError as error:
        _log.warning("%s keeps its name: %s", path, error)
        for file, new_file in moved:
            with suppress(OSError):
                new_file.rename(file)
        return path
    return new


def reopen(path: Path, n_bytes: int) -> FileIO:
    """Open a file that was written before, and cut it off after `n_bytes`."""
    file = path.open("r+b", buffering=0)
    if file.seek(0, os.SEEK_END) < n_bytes:
        file.close()
        raise InputError(f"{path} has fewer than the {n_bytes} bytes that had been written to it")
    file.truncate(n_bytes)
    file.seek(n_bytes)
    return file


def append_whole(file: FileIO, data: bytes) -> None:
    """Append all of `data` to an unbuffered file, or nothing if the disk is full."""
    end, left = file.seek(0, os.SEEK_END), memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        file.truncate(end)
        raise
