"""Movies in TIFF files, over several of which a program spreads a recording, since a classic TIFF ends at 4 GB."""

import itertools
from pathlib import Path

from stormlive_sim.errors import InputError
from stormlive_sim.frame_table import FrameTable, concatenate
from stormlive_sim.routes import Route
from stormlive_sim.tiff_stack import tiff_tables

_SUFFIX = ".ome.tif"


def continuation(path: Path, number: int) -> Path | None:
    """Return the file in which a recording goes on that begins in `path`, as the `number`-th after it.

    Micro-Manager's only: ``x_MMStack_Pos0.ome.tif`` goes on in ``x_MMStack_Pos0_1.ome.tif``. Under other names a file
    with a number is as often a recording of its own.
    """
    if "MMStack" not in path.name or not path.name.endswith(_SUFFIX):
        return None
    return path.with_name(f"{path.name.removesuffix(_SUFFIX)}_{number}{_SUFFIX}")


def _set_of(path: Path) -> list[Path]:
    """Return `path` and the files beside it in which its recording goes on."""
    files = [path]
    for number in itertools.count(1):
        following = continuation(path, number)
        if following is None or not following.is_file():
            return files
        files.append(following)
    return files


def movies_in(paths: list[Path], *, several: bool) -> dict[Route, FrameTable]:
    """Read where the frames of TIFF files lie that are one movie, or one of each route; one file stands for its set.

    Raises
    ------
    InputError
        When frames, files or what they say of themselves are missing, or frames differ.
    """
    for path in paths:
        if path.is_dir():
            raise InputError(f"expected TIFF files, got the folder {path} among them; give one NDTiff folder alone")
    tables, description = tiff_tables(paths[0], several=several)
    if len(paths) > 1:
        return _joined([tables, *(tiff_tables(path, several=several)[0] for path in paths[1:])], paths[0])
    if description.siblings:
        # One file of an OME set stands for the whole set, in the order that its metadata gives.
        siblings = [paths[0].with_name(Path(name).name) for name in description.siblings]
        absent = [path.name for path in siblings if not path.exists()]
        if absent:
            raise InputError(
                f"{paths[0]} belongs to a set of {len(siblings)} files, of which {absent[0]} is "
                "missing beside it; put all files of the set into one folder"
            )
        tables = _joined([tiff_tables(path, several=several)[0] for path in siblings], paths[0])
    elif description.n_frames is None:
        # A recording that was stopped early has not got that metadata: the names tell.
        rest = [tiff_tables(path, several=several)[0] for path in _set_of(paths[0])[1:]]
        tables = _joined([tables, *rest], paths[0])
    held = sum(map(len, tables.values()))
    if description.n_frames is not None and held < description.n_frames:
        raise InputError(
            f"{paths[0]} promises {description.n_frames} frames and holds {held}; copy the file again, "
            "or save the movie anew if its recording was stopped early (Fiji: File > Save As > Tiff)"
        )
    return _joined([tables], paths[0])


def _joined(files: list[dict[Route, FrameTable]], path: Path) -> dict[Route, FrameTable]:
    """Join what several files have of each route."""
    routes = list(dict.fromkeys(route for tables in files for route in tables))
    if () in routes and len(routes) > 1:
        raise InputError(
            f"{path} and what belongs to it do not tell of every frame of which channel, position or z it is; "
            "save each of these as a movie of its own"
        )
    return {route: concatenate([tables[route] for tables in files if route in tables]) for route in routes}
