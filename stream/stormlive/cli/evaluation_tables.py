"""The tables that `stormlive evaluate` is given, read and found to be tables."""

import contextlib
import csv
from pathlib import Path

from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError
from stormlive_sim.thunderstorm import read_table

_MOST_FRAMES = 10_000_000
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HDF5 = b"\x89HDF"


def is_picasso(path: Path) -> bool:
    """Return whether `path` is a table of Picasso, by its content: an HDF5 file."""
    return _start(path) == _HDF5


def read_any_table(path: Path, pixel_size_nm: float | None = None) -> Emitters:
    """Read a table of ThunderSTORM (CSV) or Picasso (HDF5).

    Parameters
    ----------
    path : Path
        The file; its content tells which.
    pixel_size_nm : float, optional
        Camera pixel in the sample, of a table of Picasso whose YAML file does not tell.

    Raises
    ------
    InputError
        When it is none, or has rows without a finite position or a frame number.
    """
    if _start(path) in _TIFF:
        raise InputError(
            f"{path} is a TIFF: a movie or a picture, and a table is expected (ThunderSTORM's CSV, Picasso's HDF5); "
            "`stormlive simulate --truth TRUTH.csv` writes that of the true emitters, "
            "`stormlive reconstruct --localizations FOUND.csv` that of what was found"
        )
    if is_picasso(path):
        # h5py costs memory and a moment, and the CSV does without.
        from stormlive.output.picasso_reader import read_picasso

        table, first, counts = read_picasso(path, pixel_size_nm), 0, "Picasso counts from 0"
    else:
        table, first, counts = _read_csv(path), 1, "ThunderSTORM counts from 1"
    for name, column in (("x [nm]", table.x_nm), ("y [nm]", table.y_nm)):
        bad = ~column.isfinite()
        if bad.any():
            raise InputError(f"{path}: row {int(bad.nonzero()[0]) + 1} has no finite {name}; remove such rows")
    # A NaN has become some whole number far away by now.
    strange = (table.frame < 0) | (table.frame >= _MOST_FRAMES)
    if strange.any():
        row, last = int(strange.nonzero()[0]) + 1, _MOST_FRAMES - 1 + first
        raise InputError(f"{path}: row {row} has no frame number from {first} to {last}; {counts}")
    return table


def _read_csv(path: Path) -> Emitters:
    try:
        return read_table(path)
    except InputError:
        raise
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of numbers ({error}); export it again") from error


def _start(path: Path) -> bytes:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(4)
    return b""
