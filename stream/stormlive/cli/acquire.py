"""``stormlive acquire``: a real Pycro-Manager acquisition with the live picture beside it."""

import datetime
from pathlib import Path
from typing import Annotated

import typer

from stormlive.cli import options
from stormlive.cli.terminal import note
from stormlive_sim.errors import InputError


def acquire(
    context: typer.Context,
    camera_movie: Annotated[
        Path | None,
        typer.Option("--camera-movie", metavar="FILE.tif", help="Play this recorded movie through the camera."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE.cfg", help="A Micro-Manager configuration: your own microscope."),
    ] = None,
    mm_dir: Annotated[
        Path | None,
        typer.Option("--mm-dir", metavar="DIR", help="Micro-Manager's folder, with the device adapters of --config."),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            min=1,
            max=10_000_000,
            metavar="N",
            help="Frames to acquire; by default all of a movie, else 500.",
        ),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="WIDTHxHEIGHT", help="Sensor of the simulated camera, in pixels.")
    ] = "64x64",
    roi: Annotated[
        str | None,
        typer.Option(
            "--roi",
            metavar="X,Y,WIDTH,HEIGHT",
            help="The part of the camera to use, in its pixels (of binned ones, where it bins), 16 a side at least; by "
            "default all of it.",
        ),
    ] = None,
    region: options.ComputedRegion = None,
    stop_when_converged: Annotated[
        bool,
        typer.Option("--stop-when-converged", help="End early, when more frames would hardly improve the picture."),
    ] = False,
    headless: options.Headless = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder for raw data, picture and record; by default a new one here, named after date and time. With "
            "--server for the raw data alone: the server writes the others into its own --out.",
        ),
    ] = None,
    server: options.Server = None,
    keys: options.ClientKeysFolder = None,
    localizations: options.Localizations = None,
    model: options.Model = "livenet",
    device: options.Device = "auto",
    pixel_size_nm: options.PixelSize = options.DEFAULT_PIXEL_SIZE_NM,
    baseline_adu: options.Baseline = options.DEFAULT_BASELINE_ADU,
    photons_per_adu: options.PhotonsPerAdu = options.DEFAULT_PHOTONS_PER_ADU,
    exposure_ms: options.Exposure = options.DEFAULT_EXPOSURE_MS,
) -> None:
    """Acquire through Pycro-Manager and watch the super-resolved picture grow.

    By default with a simulated camera inside the real Micro-Manager core; with --camera-movie it plays a recorded
    TIFF stack, with --config it is your microscope. The raw data is saved as NDTiff whatever happens to the picture.
    """
    from stormlive.acquire.request import Microscope, Movie, RunRequest, Simulated, Source, parse_region
    from stormlive.cli.live import told_tables
    from stormlive.cli.prepare import prepare
    from stormlive.cli.session import run_session
    from stormlive.viewer.screen import has_display
    from stormlive.wire.calibration import Calibration
    from stormlive.wire.region import check_region

    address = options.check_server(server, keys, localizations=localizations)
    if camera_movie is not None and config is not None:
        raise InputError("--camera-movie plays a movie and --config runs a microscope; give one of them")
    if config is not None:
        options.require_calibration(context)
    calibration = Calibration(
        pixel_size_nm=pixel_size_nm,
        baseline_adu=baseline_adu,
        photons_per_adu=photons_per_adu,
        exposure_ms=exposure_ms,
    )
    source: Source = Simulated(shape=options.image_size(size))
    if camera_movie is not None:
        source = Movie(path=camera_movie)
    elif config is not None:
        source = Microscope(config=config, mm_dir=mm_dir)
    folder = out or Path(f"stormlive-run-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    request = RunRequest(
        source=source,
        calibration=calibration,
        n_frames=frames,
        roi=None if roi is None else parse_region(roi),
        model=model,
        out=folder,
        stop_when_converged=stop_when_converged,
        region=None if region is None else check_region(parse_region(region)),
    )
    table = options.own_table(localizations, folder)
    session = prepare(request, device=device, server=address, keys=keys, localizations=table)
    if config is None:
        simulated = f"a simulated camera of {size} pixels, with {options.told_calibration(context)}"
        told = simulated if camera_movie is None else options.supposed_calibration(context)
        if told is not None:
            note(told)
    outcome = run_session(session, folder, window=not headless and has_display())
    where = " (on the server)" if address is not None else ""
    note(f"picture and record: {outcome.hook.folder}{where}; raw data: {outcome.dataset}{told_tables(localizations)}")
