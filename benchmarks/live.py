"""Does the picture keep up with the camera? Ten minutes of the real acquisition at 30 frames/s, on this machine.

    python benchmarks/live.py --picture docs/images/live.png

Pycro-Manager's Python engine (it spins on one core) acquires from the simulated camera in Micro-Manager's core, saves
NDTiff and calls the hook; the product's server reconstructs and judges; this process looks at the status, as a terminal
does. One after the other: `small` at 128x128 pixels, `livenet` at the largest field that it sustains, and the demo
(64x64 pixels, 30 ms). The largest field is found by short acquisitions, from what the server takes without a camera
downwards, unless --side gives it: the first that keeps up with the server's core busy for 85 % at most, since who has
nothing to spare never makes up for what once held it up.

"waiting" are frames between camera and canvas: in Micro-Manager's buffer, with the hook, on the way and at the server;
the median of the second tenth of the run ("early") and of the last ("late"). Latency is hook to canvas, ms. The
server's percentiles are those of its last 1024 frames: "p50" and "p99" are medians over such windows one after the
other, "worst" is the p99 of the worst one. "CPU" is in percent of one core and RSS in MiB, from a tenth of the run to
its end; the acquisition's share holds the simulated camera.

Exit status 1 when more frames wait in the last tenth of a run than in the second one (by more than a tenth of a
second's), a frame is not in the picture, or the latency's p99 is not below 50 ms.
"""

import argparse
import contextlib
import math
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
from _live_picture import draw
from _report import report
from _rig import CALIBRATION, RunningServer, acquire, livenet_server
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stormlive.acquire.acquisition import AcquisitionProgress, AcquisitionReport
from stormlive.acquire.rates import measure_rate
from stormlive.cli.cameras import demo_scene, simulated_camera
from stormlive.cli.options import DEFAULT_EXPOSURE_MS
from stormlive.wire.client import LiveClient

CASES = ("small", "livenet", "demo")
SMALL_SIDE, DEMO_SIDE = 128, 64
STEP, LEAST_SIDE = 16, 32
WINDOW = 1024
LOOK_S = 0.5
MOST_GROWTH_S = 0.1
MOST_BUSY = 85.0
AIM_MS = 50.0
MIB = 2**20
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[waiting]}"))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A look at a run; CPU seconds and MiB of each process."""

    seconds: float
    frames: int
    waiting: int
    p50_ms: float | None
    p99_ms: float | None
    cpu_s: dict[str, float]
    rss_mib: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Course:
    """What was seen of an acquisition."""

    title: str
    fps: float
    samples: list[Sample]
    report: AcquisitionReport

    def tenth(self, number: int) -> list[Sample]:
        """Return the samples of a tenth of the run, or those nearest to it."""
        end = self.samples[-1].seconds
        some = [one for one in self.samples if number / 10 <= one.seconds / end <= (number + 1) / 10]
        return some or [min(self.samples, key=lambda one: abs(one.seconds / end - (number + 0.5) / 10))]

    def waiting(self, number: int) -> float:
        """Return how many frames waited in a tenth of the run."""
        return statistics.median(one.waiting for one in self.tenth(number))

    @property
    def keeps_up(self) -> bool:
        """Whether all frames came into the picture as the camera gave them, and no more waited in the end."""
        hook = self.report.hook
        grown = self.waiting(9) - self.waiting(1)
        return hook is not None and hook.live.count() == hook.offered and grown <= MOST_GROWTH_S * self.fps

    def cpu_share(self, name: str) -> float:
        """Return what a process took of a core, %, from a tenth of the run to its end."""
        steady, end = self.tenth(1)[0], self.samples[-1]
        return 100 * (end.cpu_s[name] - steady.cpu_s[name]) / max(end.seconds - steady.seconds, 1e-3)

    def windows(self) -> list[Sample]:
        """Return the samples whose percentiles are those of one window of frames after the other."""
        known = [one for one in self.samples if one.p99_ms is not None]
        ends = range(WINDOW, known[-1].frames + 1, WINDOW)
        return [next(one for one in known if one.frames >= end) for end in ends] or known[-1:]


def run(
    title: str, server: RunningServer, side: int, exposure_ms: float, seconds: float, folder: Path, bar: Progress
) -> Course:
    """Acquire for a while, and look at all processes meanwhile."""
    samples: list[Sample] = []
    n_frames = max(1, round(1000 * seconds / exposure_ms))
    task = bar.add_task(title, total=n_frames, waiting="")
    scene = demo_scene((side, side), msgspec.structs.replace(CALIBRATION, exposure_ms=exposure_ms), seed=0)
    began, looked = 0.0, 0.0
    with LiveClient(server.address) as client, tempfile.TemporaryDirectory(dir=folder) as out:

        def look(progress: AcquisitionProgress, pid: int) -> None:
            nonlocal began, looked
            now = time.monotonic()
            if progress.phase != "acquiring" or not progress.seen or progress.hook is None or now - looked < LOOK_S:
                return
            began, looked = began or now, now
            status = client.status(0.0)
            if status is not None and status.state != "running":
                status = None  # of the run before
            waiting = progress.backlog + progress.hook.backlog
            bar.update(task, completed=progress.seen, waiting=f"{waiting} waiting")
            pids = {"acquires": pid, "server": server.pid, "this": os.getpid()}
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                processes = {name: psutil.Process(number) for name, number in pids.items()}
                times = {name: process.cpu_times() for name, process in processes.items()}
                samples.append(
                    Sample(
                        seconds=now - began,
                        frames=progress.hook.live,
                        waiting=waiting,
                        p50_ms=None if status is None else status.latency_p50_ms,
                        p99_ms=None if status is None else status.latency_p99_ms,
                        cpu_s={name: spent.user + spent.system for name, spent in times.items()},
                        rss_mib={name: process.memory_info().rss / MIB for name, process in processes.items()},
                    )
                )

        account = acquire(
            side=side,
            n_frames=n_frames,
            exposure_ms=exposure_ms,
            camera=simulated_camera(scene),
            out=Path(out),
            address=server.address,
            on_progress=look,
        )
    bar.remove_task(task)
    if not any(one.p99_ms is not None for one in samples):
        raise SystemExit(f"{title}: no latency was told; give it more time")
    return Course(title=title, fps=1000 / exposure_ms, samples=samples, report=account)


def largest_side(model: str, fps: float, seconds: float, folder: Path, bar: Progress) -> tuple[int, list[str]]:
    """Return the largest field that a model sustains in short acquisitions, and what was tried."""
    with livenet_server(folder / "search", model) as server:
        calibration = msgspec.structs.replace(CALIBRATION, exposure_ms=1000 / fps)
        rate = measure_rate(server.address, (SMALL_SIDE, SMALL_SIDE), calibration, 3.0)
        tried = [f"without a camera {rate:.0f} frames/s of {SMALL_SIDE}²"]
        first = int(SMALL_SIDE * math.sqrt(rate / fps)) // STEP * STEP
        for side in range(first, LEAST_SIDE - 1, -STEP):
            course = run(f"{model}, {side}², a trial", server, side, 1000 / fps, seconds, folder, bar)
            busy = course.cpu_share("server")
            tried.append(
                f"{side}²: {course.waiting(1):g} waiting, then {course.waiting(9):g}; server {busy:.0f} % busy"
            )
            bar.print(tried[-1])
            if course.keeps_up and busy <= MOST_BUSY:
                return side, tried
    raise SystemExit(f"{model} does not sustain {fps:g} frames/s at any field: {'; '.join(tried)}")


def row_of(course: Course) -> dict[str, Any]:
    result, hook = course.report.result, course.report.hook
    assert result is not None
    assert hook is not None
    windows = course.windows()
    p99 = statistics.median(one.p99_ms or 0.0 for one in windows)
    steady, end = course.tenth(1)[0], course.samples[-1]
    return {
        "conditions": course.title,
        "minutes": result.seconds / 60,
        "camera/s": result.frames_per_s,
        "live": f"{hook.live.count()} of {hook.offered}",
        "waiting early": course.waiting(1),
        "late": course.waiting(9),
        "most": max(one.waiting for one in course.samples),
        "p50 ms": statistics.median(one.p50_ms or 0.0 for one in windows),
        "p99 ms": p99,
        "worst": max(one.p99_ms or 0.0 for one in windows),
        **{f"CPU % {name}": course.cpu_share(name) for name in end.cpu_s},
        **{f"RSS {name}": f"{steady.rss_mib[name]:.0f} → {end.rss_mib[name]:.0f}" for name in list(end.rss_mib)[:2]},
        "keeps up": course.keeps_up,
        f"p99 < {AIM_MS:g} ms": p99 < AIM_MS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each of the conditions")
    parser.add_argument("--fps", type=float, default=30.0, help="of the camera; the demo has its own")
    parser.add_argument("--side", type=int, help="of livenet's field, instead of the search for the largest")
    parser.add_argument("--trial", type=float, default=20.0, metavar="S", help="seconds of each trial of that search")
    parser.add_argument("--only", default=",".join(CASES), metavar="CASE,…", help=f"of {', '.join(CASES)}")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="waiting frames and latency over time (PNG)")
    options = parser.parse_args()
    cases = options.only.split(",")
    if unknown := set(cases) - set(CASES):
        parser.error(f"there is no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    courses, tried = list[Course](), list[str]()
    with (
        tempfile.TemporaryDirectory(prefix="stormlive-live-") as name,
        Progress(*COLUMNS, TimeElapsedColumn(), TimeRemainingColumn()) as bar,
    ):
        folder = Path(name)
        for case in cases:
            model, side, exposure_ms = "livenet", DEMO_SIDE, DEFAULT_EXPOSURE_MS
            if case != "demo":
                model, side, exposure_ms = case, options.side or SMALL_SIDE, 1000 / options.fps
            if case == "small":
                side = SMALL_SIDE
            elif case == "livenet" and options.side is None:
                side, tried = largest_side(model, options.fps, options.trial, folder, bar)
            title = f"{model}, {side}², {1000 / exposure_ms:.3g}/s" + (" (demo)" if case == "demo" else "")
            with livenet_server(folder / case, model) as server:
                courses.append(run(title, server, side, exposure_ms, 60 * options.minutes, folder, bar))
    rows = [row_of(course) for course in courses]
    points = {
        course.title: [
            (round(one.seconds, 1), one.waiting, one.p50_ms, one.p99_ms)
            for one in course.samples[:: 1 + len(course.samples) // 300]
        ]
        for course in courses
    }
    notes = {
        **{key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()},
        "search": tried,
        "load after": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "seconds, waiting, p50 and p99 in ms": points,
    }
    report("live" if set(cases) == set(CASES) else f"live_{'_'.join(cases)}", rows, notes)
    if options.picture is not None:
        draw(points, options.picture, AIM_MS)
        print(f"written to {options.picture}")
    short = [row["conditions"] for row in rows if not (row["keeps up"] and row[f"p99 < {AIM_MS:g} ms"])]
    if short:
        raise SystemExit("short of the aim: " + "; ".join(short))


if __name__ == "__main__":
    main()
