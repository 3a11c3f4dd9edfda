"""``stormlive simulate``: a movie with its truth."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from numpy.typing import NDArray

from stormlive.cli import options
from stormlive.cli.terminal import frame_progress, note
from stormlive_sim.errors import InputError


def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MOVIE.tif", help="The movie, 16-bit TIFF.")],
    truth: Annotated[
        Path,
        typer.Option("--truth", metavar="TRUTH.csv", help="Every emitter of every frame (ThunderSTORM table)."),
    ],
    frames: Annotated[int, typer.Option("--frames", min=1, max=10_000_000, help="Number of frames.")] = 1000,
    size: Annotated[str, typer.Option("--size", metavar="WIDTHxHEIGHT", help="Frame size in pixels.")] = "64x64",
    structure: Annotated[
        Literal["microtubules", "uniform"], typer.Option("--structure", help="Where the emitters sit.")
    ] = "microtubules",
    density: Annotated[
        float, typer.Option("--density", min=0, max=50, help="Emitters per µm² that are on at any moment.")
    ] = 1.0,
    photons: Annotated[
        float,
        typer.Option("--photons", min=1, max=1e6, help="Mean photons of an emitter that is on a whole frame."),
    ] = 1500.0,
    background: Annotated[
        float, typer.Option("--background", min=0, max=1e5, help="Background photons per pixel and frame.")
    ] = 20.0,
    psf_sigma_nm: Annotated[
        float, typer.Option("--psf-sigma-nm", min=20, max=1000, help="Width of the Gaussian PSF.")
    ] = 115.0,
    camera: Annotated[
        Literal["emccd", "scmos"],
        typer.Option("--camera", help="Noise of the camera: excess factor 2, or read noise."),
    ] = "emccd",
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same movie.")] = 0,
    pixel_size_nm: options.PixelSize = options.DEFAULT_PIXEL_SIZE_NM,
    baseline_adu: options.Baseline = options.DEFAULT_BASELINE_ADU,
    photons_per_adu: options.PhotonsPerAdu = options.DEFAULT_PHOTONS_PER_ADU,
    exposure_ms: options.Exposure = options.DEFAULT_EXPOSURE_MS,
) -> None:
    """Simulate a blinking sample under a camera: a movie, and the truth to judge a reconstruction by."""
    from stormlive_sim.blinking import Blinking
    from stormlive_sim.movie import Scene, SceneSettings
    from stormlive_sim.recording import write_movie
    from stormlive_sim.sensor import emccd, scmos
    from stormlive_sim.thunderstorm import table_writer

    options.check_picture_name(output, [])
    if output.absolute() == truth.absolute():
        raise InputError(f"movie and truth would both be {output}; give them names of their own")
    options.check_can_write(output)
    options.check_can_write(truth)
    scene = Scene(
        SceneSettings(
            shape=options.image_size(size),
            pixel_size_nm=pixel_size_nm,
            psf_sigma_nm=psf_sigma_nm,
            structure=structure,
            density_per_um2=density,
            blinking=Blinking(on_ms=1.3 * exposure_ms, photons_per_ms=photons / exposure_ms),
            background_photons_per_ms=background / exposure_ms,
            sensor={"emccd": emccd, "scmos": scmos}[camera](baseline_adu, photons_per_adu),
            seed=seed,
        )
    )
    # Both at once: the truth of a long movie does not fit in memory.
    with frame_progress() as bar, table_writer(truth, sigma_nm=psf_sigma_nm) as table:
        task = bar.add_task("simulating", total=frames, rate="")

        def images() -> Iterator[NDArray[Any]]:
            for image, emitters in scene.frames(frames, exposure_ms):
                table.append(emitters)
                bar.advance(task)
                yield image.numpy()

        write_movie(output, images(), pixel_size_nm=pixel_size_nm, exposure_ms=exposure_ms, n_frames=frames)
    note(f"{frames} frames: {output}; {table.n} emitters: {truth}")
