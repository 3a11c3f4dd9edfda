"""Does anything grow with the frames? A sender, a server and a viewer for 200,000 frames, each in its own process.

The sender is a plain loop that waits where its outbox is full: the engine always has work, and frames go at the highest
rate that it takes. "null" is the product's server with an engine that computes nothing. The viewer fetches and draws
(without a screen) what the window would show; the first frames go slowly until it has drawn 100 pictures, since OpenGL
takes its memory then. Each figure is the median of the samples within 5 % of its point: "first" at 5 % of the frames,
"start" at 20 %. What is bounded fills meanwhile: drift's slabs by 27,000 frames, and the 64 stretches of the replay, up
to 0.5 MiB each for this canvas, more and more slowly. So memory is to be constant from the middle to the end, all else
from the start. "per frame" is the slope (Theil-Sen) over that part.

Exit status 1 when a process has grown by more than 8 MiB, has more handles or threads, or a frame is not in the
picture.
"""

import argparse
import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _report import report
from _rig import CALIBRATION, RunningServer, blinking_movie, livenet_server, null_server
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from scipy.stats import theilslopes

from stormlive.acquire.hook import StreamHook
from stormlive.acquire.stream import FrameStream
from stormlive.viewer.offscreen import offscreen_scene, render
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.view import EVERYTHING
from stormlive_sim.errors import InputError

RING = 64
OUTBOX_MB = 16
WARM_UP_PICTURES = 100
LOOK_S = 0.1
SAMPLE_S = 0.2
POINTS = {"first": 0.05, "start": 0.20, "middle": 0.50, "end": 0.95}
AROUND = 0.05
MOST_GROWTH_MIB = 8.0
MIB = 2**20

Sample = dict[str, float]


def send(address: str, side: int, frames: int, looked: Any, sent: Any, stop: Any, told: Any) -> None:  # noqa: ANN401
    """Be the sender's process: as many frames as are asked for, or until `stop`."""
    movie = blinking_movie(RING, side)
    hook = StreamHook(address, calibration=CALIBRATION, name="soak", mode="block", outbox_mb=OUTBOX_MB)
    with FrameStream(hook) as live:
        warming_up = 0
        while looked.value < WARM_UP_PICTURES:
            live.send(movie[warming_up % RING])
            warming_up += 1
            time.sleep(0.02)
        began = time.monotonic()
        for number in range(frames):
            live.send(movie[number % RING])
            sent.value = number + 1
            if number % RING == 0 and stop.is_set():
                break
    account = live.report
    assert account is not None
    told.put(
        {
            "frames": account.offered,
            "of them to warm up": warming_up,
            "live": account.live.count(),
            "replayed": account.replayed.count(),
            "missing": account.offered - account.live.count() - account.replayed.count(),
            "seconds": time.monotonic() - began,
        }
    )


def look(address: str, ready: Any, stop: Any, looked: Any, draws: Any) -> None:  # noqa: ANN401
    """Be the viewer's process: fetch what the window would, and draw it where that is possible."""
    scene = None
    with contextlib.suppress(InputError):
        scene = offscreen_scene()
    draws.value = scene is not None
    view = RemoteView(address)
    view(EVERYTHING)  # connects
    ready.set()
    while not stop.wait(LOOK_S):
        try:
            shown = view(EVERYTHING if scene is None else scene.visible())
        except ConnectionError:  # the machine is so busy that a picture took more than five seconds
            view.close()
            view = RemoteView(address)
            continue
        if shown is not None:
            if scene is not None:
                scene.show(shown)
                render(scene)
            looked.value += 1
    view.close()


def sample(process: psutil.Process) -> Sample:
    memory = process.memory_full_info()
    return {
        "RSS MiB": memory.rss / MIB,
        **({"PSS MiB": memory.pss / MIB} if hasattr(memory, "pss") else {}),  # on Linux
        "handles": process.num_handles() if sys.platform == "win32" else process.num_fds(),
        "threads": process.num_threads(),
    }


@contextlib.contextmanager
def server_of(engine: str, folder: Path) -> Iterator[RunningServer]:
    with null_server() if engine == "null" else livenet_server(folder / engine, engine) as server:
        yield server


def soak(
    engine: str, folder: Path, options: argparse.Namespace
) -> tuple[dict[str, Any], list[tuple[int, str, Sample]]]:
    """Return the account of a soak, and its samples: frames sent, process, figures."""
    context = multiprocessing.get_context("spawn")
    samples: list[tuple[int, str, Sample]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with server_of(engine, folder) as server, Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        sent, looked, draws = context.Value("q", 0), context.Value("q", 0), context.Value("b", 0)
        ready, stop, over, told = context.Event(), context.Event(), context.Event(), context.SimpleQueue()
        sending = (server.address, options.side, options.frames, looked, sent, over, told)
        sender = context.Process(target=send, args=sending, daemon=True)
        viewer = context.Process(target=look, args=(server.address, ready, stop, looked, draws), daemon=True)
        viewer.start()
        ready.wait(60)
        sender.start()
        processes = {"sender": sender.pid, "server": server.pid, "viewer": viewer.pid}
        began, seen = time.monotonic(), 0
        task = bar.add_task(engine, total=options.frames, rate="")
        while told.empty() and sender.is_alive() and viewer.is_alive():
            time.sleep(SAMPLE_S)
            seconds, number = time.monotonic() - began, sent.value
            if number > seen:  # while the sender closes its run, nothing is sent
                seen = number
                try:
                    samples += [(number, name, sample(psutil.Process(pid))) for name, pid in processes.items()]
                except psutil.NoSuchProcess as error:
                    if told.empty():
                        raise SystemExit(f"a process died: {error}") from error
            bar.update(task, completed=number, rate=f"{number / seconds:.0f} frames/s")
            if seconds > 60 * options.minutes:
                over.set()
        if told.empty():
            raise SystemExit(f"a process died: sender {sender.exitcode}, viewer {viewer.exitcode}")
        account = {**told.get(), "views": looked.value, "views drawn": bool(draws.value)}
        stop.set()
        sender.join(60)
        viewer.join(60)
        if viewer.exitcode != 0:
            raise SystemExit(f"the viewer ended with exit code {viewer.exitcode}")
    account["frames/s"] = (account["frames"] - account["of them to warm up"]) / account["seconds"]
    return account, samples


def rows_of(engine: str, samples: list[tuple[int, str, Sample]]) -> list[dict[str, Any]]:
    """Return one row for each quantity of each process."""
    rows, frames = [], samples[-1][0]
    for process in dict.fromkeys(name for _, name, _ in samples):
        own = [(number, figures) for number, name, figures in samples if name == process]
        for quantity in own[0][1]:
            series = np.array([(number, figures[quantity]) for number, figures in own])
            share = series[:, 0] / frames
            at = {point: float(np.median(series[abs(share - place) <= AROUND, 1])) for point, place in POINTS.items()}
            is_memory = quantity.endswith("MiB")
            since = "middle" if is_memory else "start"
            slope, _, low, high = theilslopes(*series[share >= POINTS[since]].T[::-1])
            unit = MIB if is_memory else 1
            rows.append(
                {
                    "engine": engine,
                    "process": process,
                    "quantity": quantity,
                    **at,
                    "per frame (95 %)": f"{unit * slope:.2g} ({unit * low:.2g} to {unit * high:.2g})"
                    + (" bytes" if is_memory else ""),
                    "constant": at["end"] - at[since] <= (MOST_GROWTH_MIB if is_memory else 0),
                }
            )
    return rows


def series_of(samples: list[tuple[int, str, Sample]]) -> dict[str, list[tuple[int, float]]]:
    """Return up to a hundred points of each process's memory: a step that is made once looks unlike a slope."""
    series = dict[str, list[tuple[int, float]]]()
    for number, name, figures in samples:
        series.setdefault(name, []).append((number, round(figures["RSS MiB"], 1)))
    return {name: points[:: 1 + len(points) // 100] for name, points in series.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--model", default="small")
    parser.add_argument("--null", action="store_true", help="only the engine that computes nothing: quick")
    parser.add_argument("--minutes", type=float, default=60.0, help="of each engine, whatever --frames says")
    options = parser.parse_args()
    rows, accounts = list[dict[str, Any]](), dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder:
        for engine in ["null"] if options.null else ["null", options.model]:
            account, samples = soak(engine, Path(folder), options)
            accounts[engine] = {**account, "RSS MiB": series_of(samples)}
            rows += rows_of(engine, samples)
    report("soak", rows, {**vars(options), "most growth MiB": MOST_GROWTH_MIB, "accounts": accounts})
    for engine, account in accounts.items():
        print(engine, {name: figure for name, figure in account.items() if name != "RSS MiB"})
    if any(account["missing"] for account in accounts.values()) or not all(row["constant"] for row in rows):
        raise SystemExit("frames are missing, or something grew")


if __name__ == "__main__":
    main()
