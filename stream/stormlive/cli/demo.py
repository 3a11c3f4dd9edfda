"""``stormlive demo``: everything at once, without a microscope."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stormlive.cli import options
from stormlive.cli.terminal import note

if TYPE_CHECKING:
    from stormlive.acquire.report import HookReport


def demo(
    headless: options.Headless = False,
    seconds: Annotated[
        float,
        typer.Option("--seconds", min=1, max=3600, metavar="SECONDS", help="How long the simulated camera runs."),
    ] = 20.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Folder for the files; by default a new one here, named after date and time."
        ),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="WIDTHxHEIGHT", help="Sensor of the simulated camera, in pixels.")
    ] = "64x64",
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Another number is another sample.")] = 0,
    model: options.Model = "livenet",
    device: options.Device = "auto",
    pixel_size_nm: options.PixelSize = options.DEFAULT_PIXEL_SIZE_NM,
    baseline_adu: options.Baseline = options.DEFAULT_BASELINE_ADU,
    photons_per_adu: options.PhotonsPerAdu = options.DEFAULT_PHOTONS_PER_ADU,
    exposure_ms: options.Exposure = options.DEFAULT_EXPOSURE_MS,
) -> None:
    """Watch simulated microtubules appear while a simulated camera runs in the real Micro-Manager core.

    Camera, Pycro-Manager acquisition, wire, network, live picture, files: the same path as with a microscope. When
    the camera has stopped, a picture of widefield, super-resolved and truth side by side is written.
    """
    from stormlive.acquire.acquisition import AcquisitionSettings
    from stormlive.cli.cameras import demo_scene, refuse_too_fast, simulated_camera
    from stormlive.cli.live_run import Session
    from stormlive.cli.session import run_session
    from stormlive.output.manifest import refuse_taken_folder
    from stormlive.output.ome_tiff import read_image
    from stormlive.output.preview import Panel, write_side_by_side
    from stormlive.viewer.screen import has_display
    from stormlive.wire.calibration import Calibration
    from stormlive.wire.text import counted
    from stormlive_models.zoo import CEL0, find_model
    from stormlive_sim.movie import Scene, truth_image

    calibration = Calibration(
        pixel_size_nm=pixel_size_nm,
        baseline_adu=baseline_adu,
        photons_per_adu=photons_per_adu,
        exposure_ms=exposure_ms,
    )
    scene = demo_scene(options.image_size(size), calibration, seed)
    refuse_too_fast(scene, exposure_ms)
    folder = out or Path(f"stormlive-demo-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    refuse_taken_folder(folder)
    if model != CEL0:
        find_model(model)
    window = not headless and has_display()
    n_frames = max(1, round(seconds * 1000 / exposure_ms))
    note(f"a simulated camera, {size} pixels, {counted(n_frames, 'frame')} of {exposure_ms:g} ms; files go to {folder}")
    if not window and not headless:
        note("there is no screen: running without the window")
    session = Session(
        acquisition=AcquisitionSettings(
            n_frames=n_frames,
            exposure_ms=exposure_ms,
            camera=simulated_camera(scene),
            pixel_size_nm=pixel_size_nm,
            out=folder,
        ),
        calibration=calibration,
        model=model,
        device=device,
    )

    def compare(report: "HookReport") -> None:
        canvas, sub_pixel_nm = read_image(folder / "superres.ome.tif")
        widefield, camera_nm = read_image(folder / "widefield.ome.tif")
        upsampling = round(camera_nm / sub_pixel_nm)
        truth = truth_image(Scene(scene), report.offered, exposure_ms, upsampling).numpy()
        picture = folder / "side_by_side.png"
        panels = [
            Panel(title="Widefield", image=widefield, pixel_size_nm=camera_nm, colormap="gray"),
            Panel(title="stormlive", image=canvas, pixel_size_nm=sub_pixel_nm),
            Panel(title="Truth", image=truth, pixel_size_nm=sub_pixel_nm),
        ]
        write_side_by_side(picture, panels)
        note(f"look at {picture}; the image with its scale is {folder / 'superres.ome.tif'}")

    run_session(session, folder, window=window, when_written=compare)
