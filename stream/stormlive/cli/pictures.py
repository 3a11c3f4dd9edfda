"""The pictures that `stormlive reconstruct` makes: which of which movie, and their files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stormlive.offline.picture import Picture

if TYPE_CHECKING:
    from stormlive.output.tables import Table
    from stormlive.server.reconstruction import Reconstruction
    from stormlive.wire.calibration import Calibration


def pictures_of(movies: list[Path], output: Path, localizations: Path | None, *, each: bool) -> list[Picture]:
    """Return the pictures to be made: of each movie or of all as one, and of each route of a recording.

    Parameters
    ----------
    output : Path
        Of the picture; of a folder with `each`.
    each : bool
        Whether each of `movies` is one of its own.

    Raises
    ------
    InputError
        When a movie cannot be opened.
    """
    from stormlive_sim.recording import Recording
    from stormlive_sim.routes import name_of

    pictures: list[Picture] = []
    taken: list[str] = []
    for paths in [[path] for path in movies] if each else [movies]:
        parts = Recording.open_each(paths)
        names: list[str] = []
        for route, movie in parts.items():
            names.append(name_of(route, names))
            path, table = output, localizations
            if each:
                taken.append(_free(movie.name.replace(" ", "_"), taken))
                path = output / f"{taken[-1]}.ome.tif"
                table = table if table is None else _named(table, taken[-1])
            elif len(parts) > 1:
                path = _named(output, names[-1])
                table = table if table is None else _named(table, names[-1])
            pictures.append(Picture(movie=movie, paths=paths, route=route, output=path, table=table))
    return pictures


def _free(name: str, taken: Sequence[str]) -> str:
    """Return a name that none of `taken` is, whatever the file system takes for the same."""
    used = {other.casefold() for other in taken}
    free, number = name, 2
    while free.casefold() in used:
        free, number = f"{name}~{number}", number + 1
    return free


def _named(path: Path, name: str) -> Path:
    suffix = ".ome" * path.name.endswith(f".ome{path.suffix}") + path.suffix
    return path.with_name(f"{path.name.removesuffix(suffix)}_{name}{suffix}")


def new_table(picture: Picture, calibration: "Calibration") -> "Table | None":
    """Create the picture's table of localizations, if one was asked for."""
    from stormlive.output.tables import open_table

    if picture.table is None:
        return None
    _, height, width = picture.movie.shape
    return open_table(picture.table, shape=(height, width), pixel_size_nm=calibration.pixel_size_nm)


def write_picture(picture: Picture, reconstruction: "Reconstruction", calibration: "Calibration") -> float:
    """Write the image and its preview; return how many emitters are expected in it."""
    from stormlive.output.ome_tiff import write_image
    from stormlive.output.preview import write_preview

    canvas = reconstruction.canvas()
    sub_pixel_nm = calibration.pixel_size_nm / reconstruction.upsampling
    movie = picture.movie
    description = (
        f"Expected emitters per sub-pixel, {len(movie)} frames of {movie.name}; model {reconstruction.model_name}, "
        f"weights sha256 {reconstruction.model.sha256}; baseline {calibration.baseline_adu:g} ADU, "
        f"{calibration.photons_per_adu:g} photons/ADU"
    )
    write_image(picture.output, canvas, sub_pixel_nm, name=movie.name, description=description)
    write_preview(_preview(picture.output), canvas, sub_pixel_nm)
    return float(canvas.sum())


def told_files(picture: Picture) -> str:
    """Return the names of the picture's files, for the user."""
    files = [picture.output, _preview(picture.output), picture.table]
    return ", ".join(str(file) for file in files if file is not None)


def _preview(output: Path) -> Path:
    return output.with_name(output.name.removesuffix(output.suffix).removesuffix(".ome") + ".png")
