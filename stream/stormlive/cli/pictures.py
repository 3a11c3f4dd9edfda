"""The pictures that `stormlive reconstruct` makes: which of which movie, and their files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stormlive.cli.options import refuse_existing
from stormlive.cli.terminal import note, show_judgement
from stormlive.offline.picture import Picture

if TYPE_CHECKING:
    from stormlive.output.tables import Table
    from stormlive.server.reconstruction import Reconstruction
    from stormlive.server.run_table import RunTable
    from stormlive.wire.calibration import Calibration
    from stormlive.wire.fields import Region


def pictures_of(
    movies: list[Path], output: Path, localizations: Path | None, *, each: bool, overwrite: bool = False
) -> list[Picture]:
    """Return the pictures to be made: of each movie or of all as one, and of each route of a recording.

    Parameters
    ----------
    output : Path
        Of the picture; of a folder with `each`.
    each : bool
        Whether each of `movies` is one of its own.
    overwrite : bool
        Whether they may replace files that exist.

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
            pictures.append(
                Picture(movie=movie, paths=paths, route=route, output=path, table=table, overwrite=overwrite)
            )
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


def files_of(picture: Picture) -> list[Path]:
    """Return the files that a picture leaves: image, preview, record, and those of the table of localizations."""
    from stormlive.output.tables import table_files

    tables = [] if picture.table is None else table_files(picture.table)
    return [picture.output, _beside(picture.output, ".png"), record_of(picture.output), *tables]


def refuse_existing_files(picture: Picture) -> None:
    """Raise an InputError where a file of the picture exists that it may not replace."""
    refuse_existing(files_of(picture), overwrite=picture.overwrite)


def new_table(picture: Picture, calibration: "Calibration") -> "Table | None":
    """Create the picture's table of localizations, if one was asked for."""
    from stormlive.output.tables import open_table, table_files

    if picture.table is None:
        return None
    if picture.overwrite:
        for file in table_files(picture.table):
            file.unlink(missing_ok=True)
    _, height, width = picture.movie.shape
    return open_table(picture.table, shape=(height, width), pixel_size_nm=calibration.pixel_size_nm)


@contextmanager
def whole_table(picture: Picture, calibration: "Calibration") -> "Iterator[RunTable | None]":
    """Yield the picture's table of localizations, if one was asked for, which is there only once the block ended well.

    Until then it lies beside its place, where an earlier one stays. One that is not complete is removed.
    """
    from stormlive.output.tables import table_files
    from stormlive.server.run_table import RunTable

    if picture.table is None:
        yield None
        return
    part = picture.table.with_stem(f"{picture.table.stem}.part")
    table = RunTable(new_table(replace(picture, table=part, overwrite=True), calibration))
    try:
        try:
            yield table
        finally:
            table.close(len(picture.movie))
        if table.trouble is None:
            for file, name in zip(table_files(part), table_files(picture.table), strict=True):
                file.replace(name)
    finally:
        for file in table_files(part):
            with suppress(OSError):
                file.unlink(missing_ok=True)


@contextmanager
def telling_what_is_left(picture: Picture) -> Iterator[None]:
    """Tell, where the block fails or is stopped, what there is of the picture's files."""
    before = _stamps(picture)
    try:
        yield
    except BaseException:
        after = _stamps(picture)
        whole = [str(file) for file, stamp in after.items() if stamp is not None and stamp != before[file]]
        if whole:
            note(f"{picture.output} is not finished; whole are {', '.join(whole)}: --overwrite makes all of them anew")
        else:
            kept = any(stamp is not None for stamp in after.values())
            stays = ", what an earlier run wrote stays as it was" if kept else ""
            note(f"{picture.output} is not finished: nothing half written is left{stays}")
        raise


def _stamps(picture: Picture) -> dict[Path, int | None]:
    """Return when each of the picture's files was written."""
    return {file: file.stat().st_mtime_ns if file.exists() else None for file in files_of(picture)}


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
    write_preview(_beside(picture.output, ".png"), canvas, sub_pixel_nm)
    return float(canvas.sum())


def judge_picture(
    picture: Picture,
    reconstruction: "Reconstruction",
    calibration: "Calibration",
    *,
    device: str,
    started_at: datetime,
    seconds: float | None = None,
    region: "Region | None" = None,
) -> None:
    """Tell whether a picture that is written is to be trusted, and write its record; see `write_offline_record`."""
    from stormlive.offline.judging import judged, sampled
    from stormlive.offline.record import write_offline_record

    judgement = judged(reconstruction, picture.movie, calibration, region)
    if judgement is None:
        note("the picture could not be judged")
    else:
        n_frames = len(picture.movie)
        n_seen = sum(map(len, sampled(n_frames)))
        show_judgement(judgement, "" if n_seen == n_frames else f"{n_seen} of {n_frames} frames were looked at")
    write_offline_record(
        record_of(picture.output),
        picture,
        reconstruction,
        calibration,
        files=files_of(picture),
        device=device,
        started_at=started_at,
        seconds=seconds,
        region=region,
        judgement=judgement,
    )


def told_files(picture: Picture) -> str:
    """Return the names of the picture's files, for the user."""
    files = [picture.output, _beside(picture.output, ".png"), record_of(picture.output), picture.table]
    return ", ".join(str(file) for file in files if file is not None)


def record_of(output: Path) -> Path:
    """Return where the record of the picture `output` lies."""
    return _beside(output, ".run.json")


def _beside(output: Path, suffix: str) -> Path:
    return output.with_name(output.name.removesuffix(output.suffix).removesuffix(".ome") + suffix)
