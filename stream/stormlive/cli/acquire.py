"""``stormlive acquire``: a real Pycro-Manager acquisition with the live picture beside it."""

import datetime
from pathlib import Path
from typing import Annotated

import typer

from stormlive.cli import options
from stormlive.cli.terminal import note
from stormlive_sim.errors import InputError

_SIMULATED_FRAMES = 500


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
        typer.Option("--frames", min=1, max=10_000_000, help="Frames to acquire; by default all of a movie, else 500."),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="WIDTHxHEIGHT", help="Sensor of the simulated camera.")
    ] = "64x64",
    roi: Annotated[
        str | None,
        typer.Option("--roi", metavar="X,Y,WIDTH,HEIGHT", help="Region of the camera, in its pixels."),
    ] = None,
    stop_when_converged: Annotated[
        bool,
        typer.Option("--stop-when-converged", help="End early, when more frames would hardly improve the picture."),
    ] = False,
    headless: options.Headless = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Raw data, picture and record.")] = None,
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
    from stormlive.acquire.acquisition import AcquisitionSettings
    from stormlive.cli.cameras import demo_scene, movie_camera, refuse_too_fast, simulated_camera
    from stormlive.cli.session import Session, run_session
    from stormlive.viewer.screen import has_display
    from stormlive.wire.messages import Calibration
    from stormlive_sim.camera import MovieCamera
    from stormlive_sim.recording import Recording

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
    camera = None
    if camera_movie is not None:
        with Recording.open(camera_movie) as movie:
            MovieCamera(movie)  # refuses what no camera can play, before anything starts
            if frames is not None and frames > len(movie):
                raise InputError(f"{camera_movie} has {len(movie)} frames; choose --frames up to that, not {frames}")
            frames = frames or len(movie)
        camera = movie_camera(camera_movie)
    elif config is None:
        scene = demo_scene(options.image_size(size), calibration, seed=0)
        refuse_too_fast(scene, exposure_ms)
        camera = simulated_camera(scene)
    folder = out or Path(f"stormlive-run-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    session = Session(
        acquisition=AcquisitionSettings(
            n_frames=frames or _SIMULATED_FRAMES,
            exposure_ms=exposure_ms,
            camera=camera,
            mm_config=config,
            mm_dir=mm_dir,
            roi=None if roi is None else options.region(roi),
            pixel_size_nm=pixel_size_nm,
            out=folder,
        ),
        calibration=calibration,
        model=model,
        device=device,
        server=address,
        keys=keys,
        localizations=options.own_table(localizations, folder),
        window=not headless and has_display(),
        stop_when_converged=stop_when_converged,
    )
    outcome = run_session(session, folder)
    note(f"picture and record: {outcome.hook.folder}; raw data: {outcome.dataset}")
