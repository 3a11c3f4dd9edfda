"""ThunderSTORM tables: the CSV that most localization programs read (1-based frames, nm)."""

import csv
from collections.abc import Iterable
from pathlib import Path

import torch

from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError

HEADER = ("id", "frame", "x [nm]", "y [nm]", "sigma [nm]", "intensity [photon]")


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
    n = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        file.write(",".join(f'"{name}"' for name in HEADER) + "\n")
        for block in blocks:
            rows = zip(
                block.frame.tolist(),
                block.x_nm.tolist(),
                block.y_nm.tolist(),
                block.photons.tolist(),
                strict=True,
            )
            for frame, x, y, photons in rows:
                n += 1
                writer.writerow((n, frame + 1, f"{x:.2f}", f"{y:.2f}", f"{sigma_nm:.2f}", f"{photons:.1f}"))
    return n


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
