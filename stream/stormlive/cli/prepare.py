"""From what a person asks for to a session that can start, or to the reason why it cannot."""

from pathlib import Path

from stormlive.acquire.acquisition import AcquisitionSettings, check_roi
from stormlive.acquire.request import Microscope, Movie, RunRequest, Simulated
from stormlive.cli.live_run import Session
from stormlive.cli.movie_camera import movie_camera
from stormlive.wire.region import check_inside
from stormlive.wire.text import counted
from stormlive_sim.camera import MovieCamera
from stormlive_sim.errors import InputError
from stormlive_sim.recording import Recording

_USUAL_FRAMES = 500


def prepare(
    request: RunRequest,
    *,
    device: str,
    server: str | None = None,
    keys: Path | None = None,
    localizations: Path | None = None,
) -> Session:
    """Return the session for a request; what else a `Session` has is the caller's.

    Raises
    ------
    InputError
        When the movie is none that a camera could play, has fewer frames, this machine is too slow to simulate, or
        the ROI or the region to compute lies beyond the frames.
    """
    camera, frames, exposure_ms = None, request.n_frames, request.calibration.exposure_ms
    source = request.source
    sensor: tuple[int, int] | None = None
    if isinstance(source, Movie):
        with Recording.open(source.path) as movie:
            MovieCamera(movie)  # refuses what no camera can play, before anything starts
            if frames is not None and frames > len(movie):
                raise InputError(
                    f"{source.path} has {counted(len(movie), 'frame')}; choose --frames up to that, not {frames}"
                )
            frames = frames or len(movie)
            sensor = movie.shape[1], movie.shape[2]
        camera = movie_camera(source.path)
    elif isinstance(source, Simulated):
        sensor = source.shape
    # A microscope's own sensor is known when Micro-Manager has loaded it.
    if request.roi is not None:
        if sensor is not None:
            check_roi(request.roi, sensor)
        sensor = request.roi[3], request.roi[2]
    if sensor is not None:
        check_inside(request.region, sensor)  # refuses what lies beyond the frames
    if isinstance(source, Simulated):
        # Simulation takes torch, which takes longer to import than all else.
        from stormlive.cli.cameras import refuse_too_fast, sample, simulated_camera

        scene = sample(source, request.calibration)
        refuse_too_fast(scene, exposure_ms)
        camera = simulated_camera(scene)
    microscope = source if isinstance(source, Microscope) else None
    return Session(
        acquisition=AcquisitionSettings(
            n_frames=frames or _USUAL_FRAMES,
            exposure_ms=exposure_ms,
            camera=camera,
            mm_config=None if microscope is None else microscope.config,
            mm_dir=None if microscope is None else microscope.mm_dir,
            roi=request.roi,
            pixel_size_nm=request.calibration.pixel_size_nm,
            out=request.out if request.save_raw else None,
        ),
        calibration=request.calibration,
        model=request.model,
        device=device,
        server=server,
        keys=keys,
        localizations=localizations,
        stop_when_converged=request.stop_when_converged,
        region=request.region,
    )
