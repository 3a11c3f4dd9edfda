"""ThunderSTORM tables: the CSV that most localization programs read (1-based frames, nm)."""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import torch

from stormlive_sim.atomic import cannot_write, whole_file
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError

HEADER = ("id", "frame", "x [nm]", "y [nm]", "sigma [nm]", "intensity [photon]")


class TableWriter:
    """A ThunderSTORM CSV that is being written; made by `table_writer`.

    Attributes
    ----------
    n
        Rows written so far.
    """

    def __init__(self, path: Path, file: TextIO, sigma_nm: float) -> None:
        self.n = 0
        self._path = path
        self._sigma = f"{sigma_nm:.2f}"
        self._writer = csv.writer(file)
        file.write(",".join(f'"{name}"' for name in HEADER) + "\n")

    def append(self, block: Emitters) -> None:
        """Write the rows of one block."""
        columns = (block.frame.tolist(), block.x_nm.tolist(), block.y_nm.tolist(), block.photons.tolist())
        try:
            for frame, x, y, photons in zip(*columns, strict=True):
                self.n += 1
                self._writer.writerow((self.n, frame + 1, f"{x:.2f}", f"{y:.2f}", self._sigma, f"{photons:.1f}"))
        except OSError as error:
            # Here, for the caller may be in the middle of another file, which would be blamed.
            raise cannot_write(self._path, error) from error


@contextmanager
def table_writer(path: Path, *, sigma_nm: float) -> Iterator[TableWriter]:
    """Write a ThunderSTORM CSV block by block, in frame order; it appears under `path` when the block ends well.

    Parameters
    ----------
    path : Path
        The CSV to write.
    sigma_nm : float
        The Gaussian width written beside each row.
    """
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        yield TableWriter(path, file, sigma_nm)


def write_table(path: Path, blocks: Iterable[Emitters], *, sigma_nm: float) -> int:
    """Write emitters as a ThunderSTORM CSV and return how many rows were written.

    Parameters
    ----------
    path : Path
        The CSV to write.
    blocks : iterable of Emitters
        Rows in frame order; taken block by block so that long movies need no memory.
    sigma_nm : float
        The Gaussian width written beside each row.
    """
    with table_writer(path, sigma_nm=sigma_nm) as table:
        for block in blocks:
            table.append(block)
    return table.n


def read_table(path: Path) -> Emitters:
    """Read a ThunderSTORM CSV.

    Raises
    ------
    InputError
        When the file is missing or lacks one of the columns frame, x [nm], y [nm], intensity [photon].
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"frame", "x [nm]", "y [nm]", "intensity [photon]"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(
                    f"{path} is no ThunderSTORM table: columns {sorted(missing)} are missing, found "
                    f"{reader.fieldnames}; export it with 'frame', 'x [nm]', 'y [nm]', 'intensity [photon]'"
                )
            rows = [
                (float(r["frame"]), float(r["x [nm]"]), float(r["y [nm]"]), float(r["intensity [photon]"]))
                for r in reader
            ]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from error
    columns = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4).T
    return Emitters(
        frame=columns[0].long() - 1,
        x_nm=columns[1].float(),
        y_nm=columns[2].float(),
        photons=columns[3].float(),
    )
