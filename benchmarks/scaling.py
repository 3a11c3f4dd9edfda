"""How time and memory grow with the pixels of a frame (linearly, at most) and with the number of frames (not at all).

Pixels: `stormlive bench`'s frames through the engine, in its batches; turns of all sizes are interleaved and medians
taken, the first turn is for warming up. Memory is that of a process of its own for each size: what it holds (RSS) after
three batches, beyond what it held before its canvas was opened.

Frames: one run of many small frames; a row for each tenth of it. Its figures are of the engine alone, in one process;
the whole way from the camera to the viewer over 200,000 frames is soak.py's subject.

The processor's time (CPU) is the figure to trust where other programs run; that of several threads adds up. Exit status
1 when it grows faster than pixels to the power of 1.1, that of a frame by more than a tenth from the first half of the
run to the second, or memory by more than 8 MiB from the first tenth to the last.
"""

import argparse
import math
import multiprocessing
import os
import statistics
import time
from typing import Any

import numpy as np
import psutil
import torch
from _report import report
from _rig import CALIBRATION
from rich.progress import Progress

# The frames of the command: as dense on any side.
from stormlive.cli.bench import _frames
from stormlive.server.engine import Engine

_BATCH_PIXELS = 2**16
_POINTS = 10
_MOST_EXPONENT, _MOST_SLOWER, _MOST_GROWTH_MIB = 1.1, 1.1, 8.0
MIB = 2**20
Row = dict[str, Any]


def batch_of(side: int) -> int:
    """Return how many frames go through the network at once on a CPU."""
    return max(1, _BATCH_PIXELS // side**2)


def row(what: str, side: int, frames: int, wall: list[float], cpu: list[float], rss_mib: float) -> Row:
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
    }


def hold(model: str, side: int, threads: int, told: Any) -> None:  # noqa: ANN401
    """Be a process that reconstructs frames of one size: tell its memory beyond that of the engine."""
    torch.set_num_threads(threads)
    engine, frames = Engine(model, "cpu"), _frames(side, batch_of(side))
    process = psutil.Process()
    before = process.memory_info().rss
    reconstruction = engine.open((side, side), CALIBRATION)
    for _ in range(3):
        reconstruction.add(frames)
    told.put((process.memory_info().rss - before) / MIB)


def memory_of(model: str, side: int, threads: int) -> float:
    context = multiprocessing.get_context("spawn")
    told = context.SimpleQueue()
    process = context.Process(target=hold, args=(model, side, threads, told))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"the process with {side}x{side} pixels ended with {process.exitcode}")
    return float(told.get())


def against_pixels(engine: Engine, sides: list[int], options: argparse.Namespace) -> list[Row]:
    works = {side: (engine.open((side, side), CALIBRATION), _frames(side, batch_of(side))) for side in sides}
    wall: dict[int, list[float]] = {side: [] for side in sides}
    cpu: dict[int, list[float]] = {side: [] for side in sides}
    for turn in range(options.rounds + 1):
        for side, (reconstruction, frames) in works.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            reconstruction.add(frames)
            if turn:
                wall[side].append((time.perf_counter() - began) / len(frames))
                cpu[side].append((time.process_time() - cpu_began) / len(frames))
    return [
        row("pixels", side, batch_of(side), wall[side], cpu[side], memory_of(options.model, side, options.threads))
        for side in sides
    ]


def against_frames(engine: Engine, options: argparse.Namespace) -> tuple[list[Row], list[tuple[int, float, float]]]:
    """Return a row for each tenth of the run, and frames, CPU seconds per frame and RSS in MiB at many points of it."""
    side = options.side
    frames = _frames(side, batch_of(side))
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
        rows.append(row("frames", side, numbers[-1], [walls[i] for i in part], [*cpus], statistics.median(memory)))
    return rows, samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small")
    parser.add_argument("--sides", default="64,128,256,512,1024", metavar="A,B,…")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=32, help="of the many frames")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=8.0, help="of the many frames, whatever --frames says")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    engine = Engine(options.model, "cpu")
    sides = [int(side) for side in options.sides.split(",")]
    many, samples = against_frames(engine, options)  # first: before large canvases have come and gone
    pixels = against_pixels(engine, sides, options)
    logarithms = np.log([(one["side"] ** 2, one["CPU ms/frame"]) for one in pixels])
    exponent = float(np.polyfit(logarithms[:, 0], logarithms[:, 1], 1)[0])
    small, large = pixels[0], pixels[-1]
    bytes_per_pixel = MIB * (large["RSS MiB"] - small["RSS MiB"]) / (large["side"] ** 2 - small["side"] ** 2)
    halves = [statistics.median(cpu for _, cpu, _ in half) for half in np.array_split(np.array(samples), 2)]
    growth = many[-1]["RSS MiB"] - many[0]["RSS MiB"]
    notes = {
        **vars(options),
        "runtime": engine.runtime,
        "load after": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "CPU time grows with pixels to the power of": exponent,
        "bytes per camera pixel": bytes_per_pixel,
        "CPU time of a frame, second half of the run over the first": halves[1] / halves[0],
        "growth from the first tenth to the last, MiB": growth,
        "frames reached": samples[-1][0],
    }
    report("scaling", pixels + many, notes)
    for name in list(notes)[-5:]:
        print(f"{name}: {notes[name]:.4g}")
    if samples[-1][0] < options.frames:
        print(f"stopped after {options.minutes:g} minutes, short of {options.frames} frames")
    if exponent > _MOST_EXPONENT or halves[1] > _MOST_SLOWER * halves[0] or growth > _MOST_GROWTH_MIB:
        raise SystemExit("something grows that must not")


if __name__ == "__main__":
    main()
