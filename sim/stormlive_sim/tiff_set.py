"""The files over which a program spreads one TIFF recording, since a classic TIFF ends at 4 GB."""

import itertools
from pathlib import Path

_SUFFIX = ".ome.tif"


def continuation(path: Path, number: int) -> Path | None:
    """Return the file in which a recording goes on that begins in `path`, as the `number`-th after it.

    Micro-Manager's only: ``x_MMStack_Pos0.ome.tif`` goes on in ``x_MMStack_Pos0_1.ome.tif``. Under other names a file
    with a number is as often a recording of its own.
    """
    if "MMStack" not in path.name or not path.name.endswith(_SUFFIX):
        return None
    return path.with_name(f"{path.name.removesuffix(_SUFFIX)}_{number}{_SUFFIX}")


def set_of(path: Path) -> list[Path]:
    """Return `path` and the files beside it in which its recording goes on."""
    files = [path]
    for number in itertools.count(1):
        following = continuation(path, number)
        if following is None or not following.is_file():
            return files
        files.append(following)
    return files
