"""The Dask section of scaling.py: one movie by this process, by one worker and by two.

What `stormlive reconstruct` does with --workers and without, from the open movie to the sum; starting the cluster and
writing the picture are not in the time. All compute with one thread. Turns are interleaved and medians taken, the first
turn is for warming up. A picture is equal when it differs by 1e-5 of the brightest sub-pixel at most: the order of the
sums is another one.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from _rig import CALIBRATION
from rich.progress import Progress

from stormlive.cli.engine_times import dense_frames
from stormlive.cli.pictures import pictures_of
from stormlive.offline.blocks import blocks
from stormlive.offline.cluster import local_cluster
from stormlive.offline.part import Partial
from stormlive.offline.picture import Picture
from stormlive.offline.run import Farm
from stormlive.server.engine import Engine
from stormlive_sim.movie_writer import write_movie

if TYPE_CHECKING:
    from distributed import Client

SIDE, RING, ROUNDS = 64, 64, 3
SAME = 1e-5
HERE = "this process"
MIB = 2**20


def by_this_process(engine: Engine, picture: Picture) -> tuple[float, Partial]:
    """Return seconds and sum."""
    with picture.movie as movie:
        began = time.perf_counter()
        reconstruction = engine.open(movie.shape[1:], CALIBRATION)
        for block in blocks(movie, reconstruction.context):
            reconstruction.add(block.frames, None, block.own)
        return time.perf_counter() - began, reconstruction.snapshot()


def by_cluster(client: "Client", engine: Engine, model: str, picture: Picture) -> tuple[float, Partial]:
    """Return seconds and sum."""
    farm = Farm(client, engine, CALIBRATION, model=model, device=f"cpu:{engine.runtime}", threads=1)
    began = time.perf_counter()
    with closing(farm.run([picture], lambda done: None)) as made:
        ((_, unfinished),) = made
    seconds = time.perf_counter() - began
    shutil.rmtree(picture.folder)
    return seconds, unfinished.total


def rss_mib() -> float:
    return float(psutil.Process().memory_info().rss / MIB)


def difference(total: Partial, expected: Partial) -> float:
    """Return the largest difference of two canvases as a share of the brightest sub-pixel."""
    return float(abs(total["grid"] - expected["grid"]).max() / expected["grid"].max())


def dask_rows(runtime: str, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a row for this process and for each cluster, and the ratios of their times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    engine = Engine(options.model, f"cpu:{runtime}")  # an engine keeps the number of threads with which it began
    times: dict[str, list[float]] = {}
    totals: dict[str, Partial] = {}
    memory = {HERE: 0.0}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stormlive-scaling-")))
        movie = folder / "movie.tif"
        ring = dense_frames(SIDE, RING)
        write_movie(movie, (ring[n % RING] for n in range(options.movie)), pixel_size_nm=100, n_frames=options.movie)
        (picture,) = pictures_of([movie], folder / "picture.ome.tif", None, each=False)
        clusters = {f"{n} worker{'s' * (n > 1)}": stack.enter_context(local_cluster(n)) for n in (1, 2)}
        bar = stack.enter_context(Progress(transient=True))
        task = bar.add_task("dask", total=(ROUNDS + 1) * (1 + len(clusters)))
        for turn in range(ROUNDS + 1):
            for name in (HERE, *clusters):
                if name == HERE:
                    seconds, totals[name] = by_this_process(engine, picture)
                else:
                    seconds, totals[name] = by_cluster(clusters[name], engine, options.model, picture)
                if turn:
                    times.setdefault(name, []).append(seconds)
                bar.advance(task)
        memory[HERE] = rss_mib()
        memory |= {name: max(client.run(rss_mib).values()) for name, client in clusters.items()}
    torch.set_num_threads(threads)
    expected = totals[HERE]
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    rows = []
    for name, taken in times.items():
        total = totals[name]
        apart = difference(total, expected)
        exact = all(np.array_equal(total[key], expected[key]) for key in ("counts", "sum", "last"))
        rows.append(
            {
                "by": name,
                "frames": int(total["counts"][0]),
                "seconds": medians[name],
                "quickest": min(taken),
                "slowest": max(taken),
                "frames/s": options.movie / medians[name],
                "times this process": medians[HERE] / medians[name],
                "RSS MiB of a process": memory[name],
                "largest difference": apart,
                "equal": exact and apart <= SAME,
            }
        )
    notes = {
        "one worker over this process": medians[HERE] / medians["1 worker"],
        "two workers over one": medians["1 worker"] / medians["2 workers"],
    }
    return rows, notes
