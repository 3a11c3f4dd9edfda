"""``stormlive reconstruct`` with workers: pictures from a Dask cluster."""

import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stormlive.cli.pictures import judge_picture, new_table, told_files, write_picture
from stormlive.cli.terminal import frame_progress, note
from stormlive.offline.cluster import existing_cluster, local_cluster
from stormlive.offline.picture import Picture
from stormlive.server.engine import Engine
from stormlive.server.run_table import RunTable
from stormlive.wire.calibration import Calibration
from stormlive.wire.text import counted
from stormlive_models.runtime import TORCH
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.offline.unfinished import Unfinished


def reconstruct_on_cluster(
    pictures: Sequence[Picture],
    calibration: Calibration,
    model: str,
    device: str,
    workers: int | None,
    scheduler: str | None,
) -> None:
    """Make the pictures with `workers` processes of this machine, or else those of the cluster of `scheduler`."""
    here = scheduler is None
    # Elsewhere the workers choose for themselves; this process only says which weights it is to be.
    engine = Engine(model, device if here else f"cpu:{TORCH}")
    if any(picture.table is not None for picture in pictures):
        engine.check_localizes()
    if here and engine.torch_device.type == "cpu":
        # All workers the same, found once: what each would time beside the others would be chance.
        device = f"cpu:{engine.runtime}"
    model = str(Path(model).absolute()) if Path(model).exists() else model
    troubles: list[str] = []
    started_at = datetime.now(UTC)
    with local_cluster(workers or 1) if scheduler is None else existing_cluster(scheduler) as client:
        from stormlive.offline.run import Farm

        farm = Farm(client, engine, calibration, model=model, device=device, threads=1 if here else None)
        n_frames = sum(len(picture.movie) for picture in pictures)
        started = time.perf_counter()
        name = pictures[0].movie.name if len(pictures) == 1 else f"{len(pictures)} pictures"
        with frame_progress() as bar:
            task = bar.add_task(name, total=n_frames, rate="")

            def show(done: int) -> None:
                rate = farm.computed / (time.perf_counter() - started)
                bar.update(task, completed=min(done, n_frames), rate=f"{rate:.0f} frames/s" if rate else "")

            try:
                with closing(farm.run(pictures, show)) as made:
                    for picture, unfinished in made:
                        where = f"{len(client.nthreads())} Dask workers"
                        troubles += _write(engine, picture, unfinished, calibration, where, started_at)
            except KeyboardInterrupt:
                note("stopped; what was done is kept: give the same command again to go on")
                raise
        seconds = time.perf_counter() - started
        n_workers = len(client.nthreads())
    for picture in pictures:
        shutil.rmtree(picture.folder, ignore_errors=True)
    note(f"{farm.computed} of {n_frames} frames in {seconds:.1f} s on {n_workers} workers, {engine.model_name}")
    if troubles:
        raise InputError("; ".join(troubles))


def _write(
    engine: Engine,
    picture: Picture,
    unfinished: "Unfinished",
    calibration: Calibration,
    where: str,
    started_at: datetime,
) -> list[str]:
    """Write a picture's files, and return what is wrong with them."""
    if unfinished.written:
        note(f"{picture.movie.name}: an earlier run has written {told_files(picture)}")
        return []
    n_frames, height, width = picture.movie.shape
    table = None
    if (opened := new_table(picture, calibration)) is not None:
        table = RunTable(opened)
        sink = table.sink(range(n_frames))
        for rows in unfinished.rows():
            sink(rows)
        table.close(n_frames)
    reconstruction = engine.open((height, width), calibration)
    reconstruction.restore(unfinished.total)
    emitters = write_picture(picture, reconstruction, calibration)
    unfinished.finish()
    note(
        f"{counted(n_frames, 'frame')} of {width}x{height} ({reconstruction.model_name}), {emitters:.0f} expected "
        f"emitters: {told_files(picture)}"
    )
    with picture.movie:
        judge_picture(picture, reconstruction, calibration, device=where, started_at=started_at)
    return [] if table is None or table.trouble is None else [table.trouble]
