"""``stormlive reconstruct``: a recorded movie through the live engine."""

import time
from pathlib import Path
from typing import Annotated

import typer

from stormlive.cli import options
from stormlive.cli.terminal import frame_progress, note
from stormlive_sim.errors import InputError

_BLOCK = 32


def reconstruct(
    movies: Annotated[
        list[Path],
        typer.Argument(metavar="MOVIE…", help="TIFF stacks, in order, or one NDTiff dataset folder."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT.ome.tif", help="The image; a PNG preview goes beside it."),
    ],
    localizations: options.Localizations = None,
    model: options.Model = "livenet",
    device: options.Device = "auto",
    pixel_size_nm: options.PixelSize = options.DEFAULT_PIXEL_SIZE_NM,
    baseline_adu: options.Baseline = options.DEFAULT_BASELINE_ADU,
    photons_per_adu: options.PhotonsPerAdu = options.DEFAULT_PHOTONS_PER_ADU,
    exposure_ms: options.Exposure = options.DEFAULT_EXPOSURE_MS,
) -> None:
    """Reconstruct a recorded movie: the same engine as live, so the same frames give the same picture."""
    from stormlive.output.ome_tiff import write_image
    from stormlive.output.preview import write_preview
    from stormlive.output.tables import check_new_table, open_table
    from stormlive.server.engine import Engine
    from stormlive.server.run_table import RunTable
    from stormlive.wire.messages import Calibration
    from stormlive_sim.recording import Recording

    options.check_picture_name(output, movies)
    options.check_can_write(output)
    if localizations is not None:
        check_new_table(localizations)
        options.check_can_write(localizations)
    calibration = Calibration(
        pixel_size_nm=pixel_size_nm,
        baseline_adu=baseline_adu,
        photons_per_adu=photons_per_adu,
        exposure_ms=exposure_ms,
    )
    with Recording.open(movies) as movie:
        engine = Engine(model, device)
        n_frames, height, width = movie.shape
        reconstruction = engine.open((height, width), calibration)
        table = None
        if localizations is not None:
            engine.check_localizes()
            table = RunTable(open_table(localizations, shape=(height, width), pixel_size_nm=pixel_size_nm))
        started = time.perf_counter()
        with frame_progress() as bar:
            task = bar.add_task(movie.name, total=n_frames, rate="")
            for first, frames in movie.blocks(_BLOCK):
                done = first + len(frames)
                reconstruction.add(frames, None if table is None else table.sink(range(first, done)))
                bar.update(task, completed=done, rate=f"{done / (time.perf_counter() - started):.0f} frames/s")
    if table is not None:
        table.close(n_frames)
    seconds = time.perf_counter() - started
    canvas = reconstruction.canvas()
    sub_pixel_nm = pixel_size_nm / reconstruction.upsampling
    description = (
        f"Expected emitters per sub-pixel, {n_frames} frames of {movie.name}; model {reconstruction.model_name}, "
        f"weights sha256 {reconstruction.model.sha256}; baseline {baseline_adu:g} ADU, {photons_per_adu:g} photons/ADU"
    )
    write_image(output, canvas, sub_pixel_nm, name=movie.name, description=description)
    preview = output.with_name(output.name.removesuffix(output.suffix).removesuffix(".ome") + ".png")
    write_preview(preview, canvas, sub_pixel_nm)
    note(
        f"{n_frames} frames of {width}x{height} in {seconds:.1f} s ({n_frames / seconds:.0f} frames/s on "
        f"{engine.device}, {reconstruction.model_name}), {canvas.sum():.0f} expected emitters: {output}, {preview}"
        + (f", {localizations}" if table is not None else "")
    )
    if table is not None and table.trouble is not None:
        raise InputError(table.trouble)
