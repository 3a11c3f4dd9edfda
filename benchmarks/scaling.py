"""How time and memory grow with the pixels of a frame (linearly, at most), the number of frames (not at all), workers.

Pixels: `stormlive bench`'s frames through the engine, in its batches; turns of all sizes are interleaved and medians
taken, the first turn is for warming up. Memory is that of a process of its own for each size: what it holds (RSS) after
three batches, beyond what it held before its canvas was opened, and the most that it ever held.

Frames: one run of many small frames; a row for each tenth of it. Its figures are of the engine alone, in one process;
the whole way from the camera to the viewer over 200,000 frames is soak.py's subject.

Dask: one movie by this process and by clusters of one and two workers, as `stormlive reconstruct --workers` does it;
see `_scaling_dask.py`.

The processor's time (CPU) is the figure to trust where other programs run; that of several threads adds up. Exit status
1 when it grows faster than pixels to the power of 1.1, that of a frame by more than a tenth from the first half of the
run to the second, or memory by more than 8 MiB from the first tenth to the last, or by more than 600 bytes a camera
pixel (a canvas has 256); or when Dask's picture is another one, or two workers are not 1.5 times faster than one.
"""

import argparse
import math
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from _report import machine, report
from _rig import CALIBRATION
from _scaling_dask import dask_rows
from rich.progress import Progress

# The frames of the command: as dense on any side.
from stormlive.cli.engine_times import dense_frames
from stormlive.server.engine import Engine

_BATCH_PIXELS = 2**16
_POINTS = 10
_MOST_EXPONENT, _MOST_SLOWER, _MOST_GROWTH_MIB, _MOST_BYTES_PER_PIXEL = 1.1, 1.1, 8.0, 600.0
_LEAST_GAIN = 1.5
_SECTIONS = ("pixels", "frames", "dask")
MIB = 2**20
Row = dict[str, Any]
Outcome = tuple[list[Row], dict[str, Any], bool]
"""Rows, notes, and whether something is short of its aim."""


def batch_of(side: int) -> int:
    """Return how many frames go through the network at once on a CPU."""
    return max(1, _BATCH_PIXELS // side**2)


def row(what: str, side: int, frames: int, wall: list[float], cpu: list[float], rss_mib: float, peak_mib: float) -> Row:
    """Return a row; times are seconds per frame."""
    median = statistics.median(cpu)
    return {
        "against": what,
        "side": side,
        "frames so far": frames,
        "frames/s": 1 / statistics.median(wall),
        "CPU ms/frame": 1000 * median,
        "± %": 50 * (max(cpu) - min(cpu)) / median,
        "CPU ns/pixel": 1e9 * median / side**2,
        "RSS MiB": rss_mib,
        "peak RSS MiB": peak_mib,
    }


def peak_rss_mib() -> float:
    """Return the most that this process has held since it began; NaN where the system does not tell."""
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # on Windows
        return float(memory.peak_wset / MIB)
    try:
        # Not `getrusage`, which begins with what the process that started this one held.
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def hold(model: str, side: int, threads: int, told: Any) -> None:  # noqa: ANN401
    """Be a process that reconstructs frames of one size: tell its memory beyond that of the engine, and its peak."""
    torch.set_num_threads(threads)
    engine, frames = Engine(model, "cpu"), dense_frames(side, batch_of(side))
    process = psutil.Process()
    before = process.memory_info().rss
    reconstruction = engine.open((side, side), CALIBRATION)
    for _ in range(3):
        reconstruction.add(frames)
    told.put(((process.memory_info().rss - before) / MIB, peak_rss_mib()))


def memory_of(model: str, side: int, threads: int) -> tuple[float, float]:
    context = multiprocessing.get_context("spawn")
    told = context.SimpleQueue()
    process = context.Process(target=hold, args=(model, side, threads, told))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"the process with {side}x{side} pixels ended with {process.exitcode}")
    beyond, peak = told.get()
    return beyond, peak


def against_pixels(engine: Engine, options: argparse.Namespace) -> Outcome:
    """Return a row for each size."""
    sides = [int(side) for side in options.sides.split(",")]
    wall: dict[int, list[float]] = {side: [] for side in sides}
    cpu: dict[int, list[float]] = {side: [] for side in sides}
    with Progress(transient=True) as bar:
        works = {side: (engine.open((side, side), CALIBRATION), dense_frames(side, batch_of(side))) for side in sides}
        task = bar.add_task("pixels", total=(options.rounds + 1) * len(works) + len(works))
        for turn in range(options.rounds + 1):
            for side, (reconstruction, frames) in works.items():
                began, cpu_began = time.perf_counter(), time.process_time()
                reconstruction.add(frames)
                if turn:
                    wall[side].append((time.perf_counter() - began) / len(frames))
                    cpu[side].append((time.process_time() - cpu_began) / len(frames))
                bar.advance(task)
        del works, reconstruction  # their canvases leave room for those of the processes
        rows = []
        for side in sides:
            memory = memory_of(options.model, side, options.threads)
            rows.append(row("pixels", side, batch_of(side), wall[side], cpu[side], *memory))
            bar.advance(task)
    logarithms = np.log([(one["side"] ** 2, one["CPU ms/frame"]) for one in rows])
    exponent = float(np.polyfit(logarithms[:, 0], logarithms[:, 1], 1)[0]) if len(rows) > 1 else math.nan
    small, large = rows[0], rows[-1]
    pixels = max(1, large["side"] ** 2 - small["side"] ** 2)
    bytes_per_pixel = MIB * (large["RSS MiB"] - small["RSS MiB"]) / pixels
    notes = {
        "CPU time grows with pixels to the power of": exponent,
        "bytes per camera pixel": bytes_per_pixel,
        "bytes per camera pixel at the peak": MIB * (large["peak RSS MiB"] - small["peak RSS MiB"]) / pixels,
    }
    return rows, notes, exponent > _MOST_EXPONENT or bytes_per_pixel > _MOST_BYTES_PER_PIXEL


def against_frames(engine: Engine, options: argparse.Namespace) -> Outcome:
    """Return a row for each tenth of the run."""
    side = options.side
    frames = dense_frames(side, batch_of(side))
    reconstruction = engine.open((side, side), CALIBRATION)
    process, samples, walls = psutil.Process(), list[tuple[int, float, float]](), list[float]()
    # A sample each thousandth of the run, of at least ten batches: the clock of the CPU is coarse on some systems.
    each = max(10, math.ceil(options.frames / 1000 / len(frames)))
    began = time.perf_counter()
    with Progress(transient=True) as bar:
        task = bar.add_task("frames", total=options.frames)
        while reconstruction.n_frames < options.frames and time.perf_counter() - began < 60 * options.minutes:
            wall_began, cpu_began = time.perf_counter(), time.process_time()
            for _ in range(each):
                reconstruction.add(frames)
            cpu, wall = time.process_time() - cpu_began, time.perf_counter() - wall_began
            walls.append(wall / each / len(frames))
            samples.append((reconstruction.n_frames, cpu / each / len(frames), process.memory_info().rss / MIB))
            bar.update(task, completed=reconstruction.n_frames)
    rows = []
    for part in np.array_split(np.arange(len(samples)), min(_POINTS, len(samples))):
        numbers, cpus, memory = zip(*(samples[i] for i in part), strict=True)
        # Systems take back pages of a program's files and give them again: the median is what lasts.
        rss = statistics.median(memory)
        rows.append(row("frames", side, numbers[-1], [walls[i] for i in part], [*cpus], rss, peak_rss_mib()))
    halves = [statistics.median(cpu for _, cpu, _ in half) for half in np.array_split(np.array(samples), 2)]
    growth = rows[-1]["RSS MiB"] - rows[0]["RSS MiB"]
    notes = {
        "CPU time of a frame, second half of the run over the first": halves[1] / halves[0],
        "growth from the first tenth to the last, MiB": growth,
        "frames reached": samples[-1][0],
    }
    if samples[-1][0] < options.frames:
        print(f"stopped after {options.minutes:g} minutes, short of {options.frames} frames")
    return rows, notes, halves[1] > _MOST_SLOWER * halves[0] or growth > _MOST_GROWTH_MIB


def against_workers(engine: Engine, options: argparse.Namespace) -> Outcome:
    """Return a row for this process and for each cluster."""
    rows, notes = dask_rows(engine.runtime, options)
    # Two workers on one core have nothing to gain.
    slow = machine()["cores of this run"] > 1 and notes["two workers over one"] < _LEAST_GAIN
    return rows, notes, slow or not all(one["equal"] for one in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(_SECTIONS), metavar="SECTION,…", help=f"of {', '.join(_SECTIONS)}")
    parser.add_argument("--model", default="small")
    parser.add_argument("--sides", default="64,128,256,512,1024,2048", metavar="A,B,…")
    parser.add_argument("--rounds", type=int, default=7, help="of the sizes; Dask takes three")
    parser.add_argument("--side", type=int, default=32, help="of the many frames")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=8.0, help="of the many frames, whatever --frames says")
    parser.add_argument("--movie", type=int, default=6144, metavar="FRAMES", help="of 64x64 pixels, for Dask")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="Dask's processes take one each")
    options = parser.parse_args()
    only = options.only.split(",")
    if unknown := set(only) - set(_SECTIONS):
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(_SECTIONS)}")
    torch.set_num_threads(options.threads)
    engine = Engine(options.model, "cpu")
    # The many frames first: before large canvases have come and gone.
    sections = {"frames": against_frames, "pixels": against_pixels, "dask": against_workers}
    short = []
    for name, section in sections.items():
        if name not in only:
            continue
        rows, notes, missed = section(engine, options)
        load = os.getloadavg() if hasattr(os, "getloadavg") else None
        report(f"scaling_{name}", rows, {**vars(options), "runtime": engine.runtime, "load after": load, **notes})
        for key, value in notes.items():
            print(f"{key}: {value:.4g}")
        short += [name] if missed else []
    if short:
        raise SystemExit(f"something grows that must not, or is short of its aim: {', '.join(short)}")


if __name__ == "__main__":
    main()
