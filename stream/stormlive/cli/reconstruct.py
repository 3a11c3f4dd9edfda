"""``stormlive reconstruct``: recorded movies through the live engine, in this process or by many."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stormlive.cli import options
from stormlive.cli.pictures import (
    judge_picture,
    pictures_of,
    refuse_existing_files,
    telling_what_is_left,
    told_files,
    whole_table,
    write_picture,
)
from stormlive.cli.terminal import frame_progress, note
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.offline.picture import Picture
    from stormlive.server.engine import Engine
    from stormlive.wire.calibration import Calibration
    from stormlive.wire.fields import Region

_MANY = "Many movies, or very long ones"


def reconstruct(
    context: typer.Context,
    movies: Annotated[
        list[Path],
        typer.Argument(
            metavar="MOVIE", help="TIFF stacks, NDTiff dataset folders or Zarr folders; see -o for several."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.ome.tif|FOLDER",
            help="OUT.ome.tif: one picture; several TIFF stacks are the parts of one movie then, in order. FOLDER, "
            "made if need be: a picture of each MOVIE, under its name. A PNG preview goes beside each picture, and a "
            "record with the judgement (.run.json).",
        ),
    ],
    overwrite: options.Overwrite = False,
    localizations: options.Localizations = None,
    region: options.ComputedRegion = None,
    model: options.Model = "livenet",
    device: options.Device = "auto",
    pixel_size_nm: options.PixelSize = options.DEFAULT_PIXEL_SIZE_NM,
    baseline_adu: options.Baseline = options.DEFAULT_BASELINE_ADU,
    photons_per_adu: options.PhotonsPerAdu = options.DEFAULT_PHOTONS_PER_ADU,
    exposure_ms: options.Exposure = options.DEFAULT_EXPOSURE_MS,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            metavar="N",
            rich_help_panel=_MANY,
            help="Share the frames among N processes of this machine (Dask), at most one for each core; each needs the "
            "memory of seven canvases (7 GB for 2048x2048 pixels). Interrupted work is kept beside the picture, in "
            "OUT.ome.tif.unfinished: the same command goes on with it.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="tcp://HOST:PORT",
            rich_help_panel=_MANY,
            help="Share them among the workers of a running Dask cluster instead (`dask scheduler`, and on each "
            "machine `dask worker tcp://HOST:PORT --nworkers N --nthreads 1`). All of it needs the same stormlive, and "
            "must see the movies under the same path. Dask trusts whoever reaches it: use it in your own network only.",
        ),
    ] = None,
) -> None:
    """Reconstruct recorded movies: the same engine as live, so the same frames give the same picture.

    In the end it says whether the frames are like those that the model was trained on, and what to do if not. Of a
    recording of several channels, positions or z, each gets a picture of its own. With --workers or --scheduler the
    picture is the same but for the order of its sums (1e-5 of the brightest sub-pixel), and the table but for the last
    digits.
    """
    from stormlive.acquire.request import parse_region
    from stormlive.output.ome_tiff import refuse_own_picture
    from stormlive.output.tables import check_table_name, table_files
    from stormlive.server.engine import Engine
    from stormlive.wire.calibration import Calibration
    from stormlive.wire.region import check_inside, check_region

    part = None if region is None else check_region(parse_region(region))
    alone = workers is None and scheduler is None
    if part is not None and not alone:
        raise InputError("--region is for this process alone: leave out --workers and --scheduler")
    if workers is not None and scheduler is not None:
        raise InputError("--workers starts processes here, --scheduler uses those of a cluster: give one of them")
    each = output.is_dir() or not (output.suffix or output.exists())
    if not each:
        options.check_picture_name(output, movies)
    options.check_can_write(output / "picture" if output.is_dir() else output)
    if localizations is not None:
        check_table_name(localizations)
        options.check_can_write(localizations)
        if not each and alone:
            options.refuse_existing(table_files(localizations), overwrite=overwrite)
    calibration = Calibration(
        pixel_size_nm=pixel_size_nm,
        baseline_adu=baseline_adu,
        photons_per_adu=photons_per_adu,
        exposure_ms=exposure_ms,
    )
    for path in movies:
        if path.is_file():
            refuse_own_picture(path)
    pictures = pictures_of(movies, output, localizations, each=each, overwrite=overwrite)
    for picture in pictures:
        options.check_picture_name(picture.output, movies)
        check_inside(part, picture.movie.shape[1:])  # refuses what lies beyond the frames
        # What an interrupted run of the same command has written stays as it is.
        if alone or not picture.marker.exists():
            refuse_existing_files(picture)
    supposed = options.supposed_calibration(context)
    if supposed is not None:
        note(supposed)
    if each:
        output.mkdir(exist_ok=True)
    if alone:
        engine = Engine(model, device)
        if localizations is not None:
            engine.check_localizes()
        for picture in pictures:
            with picture.movie, telling_what_is_left(picture):
                _reconstruct(engine, picture, calibration, part)
        return
    from stormlive.cli.farm import reconstruct_on_cluster

    reconstruct_on_cluster(pictures, calibration, model, device, workers, scheduler)


def _reconstruct(engine: "Engine", picture: "Picture", calibration: "Calibration", part: "Region | None") -> None:
    from stormlive.offline.blocks import blocks
    from stormlive.wire.region import computed_region
    from stormlive.wire.text import counted

    movie = picture.movie
    n_frames = len(movie)
    _, height, width = movie.shape
    region = computed_region(part, (height, width))
    reconstruction = engine.open(movie.shape[1:], calibration)
    started_at, started = datetime.now(UTC), time.perf_counter()
    with whole_table(picture, calibration) as table, frame_progress() as bar:
        task = bar.add_task(movie.name, total=n_frames, rate="")
        for block in blocks(movie, reconstruction.context):
            sink = None if table is None else table.sink(range(block.first, block.end))
            reconstruction.add(block.frames, sink, block.own, region=region)
            bar.update(task, completed=block.end, rate=f"{block.end / (time.perf_counter() - started):.0f} frames/s")
    seconds = time.perf_counter() - started
    trouble = None if table is None else table.trouble
    if trouble is not None:
        trouble = f"{trouble}; {picture.table} was not written"
        picture = replace(picture, table=None)
    emitters = write_picture(picture, reconstruction, calibration)
    _, height, width = movie.shape
    note(
        f"{counted(n_frames, 'frame')} of {width}x{height} in {seconds:.1f} s ({n_frames / seconds:.0f} frames/s on "
        f"{engine.device}, {reconstruction.model_name}), {emitters:.0f} expected emitters: {told_files(picture)}"
    )
    judge_picture(
        picture,
        reconstruction,
        calibration,
        device=engine.device,
        started_at=started_at,
        seconds=seconds,
        region=region,
    )
    if trouble is not None:
        raise InputError(trouble)
