"""What viewers cost the engine: its rate with none, one and three of them.

The server is the product's with its network; a sender in this process keeps it busy. Each viewer is a process of its
own that fetches what a window of 1024 pixels shows of the whole field, at the window's pace; with --draw it draws that
too, without a screen, which takes another core wherever OpenGL is software. Rounds are interleaved: in each the same
viewers look and look away. A turn counts from one acknowledgement of frames to another, as far apart as --seconds says.
Where other programs run, "CPU ms/frame" tells more: the server's processor time, views included.

Exit status 1 when the engine's median rate with viewers is more than 5 % below that without.
"""

import argparse
import contextlib
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from _report import report
from _rig import CALIBRATION, RunningServer, livenet_server
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stormlive.acquire.hook import StreamHook
from stormlive.acquire.stream import FrameStream
from stormlive.cli.engine_times import dense_frames
from stormlive.viewer.offscreen import offscreen_scene, render
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.view import Visible
from stormlive.viewer.window import INTERVAL_MS

VIEWERS = (0, 1, 3)
VIEW = 1024
RING = 16
MOST_LOST = 0.05
PATIENCE_S = 180.0
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())


def look(address: str, number: int, side: int, draw: bool, looking: Any, ready: Any, stop: Any, looked: Any) -> None:  # noqa: ANN401
    """Be a viewer's process, which looks while more than `number` are to."""
    scene = offscreen_scene((VIEW, VIEW)) if draw else None
    side_nm = side * CALIBRATION.pixel_size_nm
    whole = Visible(x_nm=0, y_nm=0, width_nm=side_nm, height_nm=side_nm, nm_per_screen_px=side_nm / VIEW)
    view = RemoteView(address)
    view(whole)  # connects
    ready.release()
    while not stop.wait(INTERVAL_MS / 1000):
        if number >= looking.value:
            continue
        shown = view(whole)
        if shown is not None:
            if scene is not None:
                scene.show(shown)
                render(scene)
            with looked:
                looked.value += 1
    view.close()


@contextlib.contextmanager
def sending(address: str, side: int) -> Iterator[StreamHook]:
    """Send frames as fast as the server takes them."""
    frames, stop = dense_frames(side, RING if side < 512 else 2), threading.Event()
    outbox_mb = RING * frames[0].nbytes / 2**20
    hook = StreamHook(address, calibration=CALIBRATION, name="viewers", mode="block", outbox_mb=outbox_mb)
    live = FrameStream(hook, stop=stop)

    def send() -> None:
        number = 0
        with live:
            while not stop.is_set():
                live.send(frames[number % len(frames)])
                number += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield hook
    finally:
        stop.set()
        sender.join()


def next_acknowledgement(hook: StreamHook) -> tuple[float, int]:
    """Wait until more frames are in the picture; return when that was, and how many there are."""
    before, until = hook.progress.live, time.monotonic() + PATIENCE_S
    while (live := hook.progress.live) == before:
        if time.monotonic() > until:
            raise SystemExit(f"no frame came into the picture for {PATIENCE_S:g} s: {hook.progress}")
        time.sleep(0.002)
    return time.perf_counter(), live


def cpu_s(server: RunningServer) -> float:
    times = psutil.Process(server.pid).cpu_times()
    return float(times.user + times.system)


def measure(side: int, folder: Path, options: argparse.Namespace, bar: Progress) -> list[dict[str, Any]]:
    """Return a row for each number of viewers."""
    context = multiprocessing.get_context("spawn")
    looking, looked = context.Value("i", 0), context.Value("q", 0)
    ready, stop = context.Semaphore(0), context.Event()
    rates: dict[int, list[float]] = {n: [] for n in VIEWERS}
    costs: dict[int, list[float]] = {n: [] for n in VIEWERS}
    pictures: dict[int, list[float]] = {n: [] for n in VIEWERS}
    task = bar.add_task(f"{side}²", total=(options.rounds + 1) * len(VIEWERS))
    with livenet_server(folder / str(side), options.model) as server, ExitStack() as stack:
        shared = (looking, ready, stop, looked)
        viewers = [
            context.Process(target=look, args=(server.address, n, side, options.draw, *shared), daemon=True)
            for n in range(max(VIEWERS))
        ]
        for viewer in viewers:
            viewer.start()
        stack.callback(stop.set)
        if not all(ready.acquire(timeout=PATIENCE_S) for _ in viewers):
            raise SystemExit("a viewer did not start")
        hook = stack.enter_context(sending(server.address, side))
        next_acknowledgement(hook)
        for number in range(options.rounds + 1):
            for n in VIEWERS if number % 2 else VIEWERS[::-1]:
                looking.value = n
                next_acknowledgement(hook)
                began, first = next_acknowledgement(hook)
                cpu_began, views = cpu_s(server), looked.value
                time.sleep(options.seconds)
                ended, last = next_acknowledgement(hook)
                if number:  # the first round is for warming up
                    rates[n].append((last - first) / (ended - began))
                    costs[n].append(1000 * (cpu_s(server) - cpu_began) / (last - first))
                    pictures[n].append((looked.value - views) / (ended - began))
                bar.advance(task)
    rows = []
    for n in VIEWERS:
        median = statistics.median(rates[n])
        # Each round's ratio to the turn without a viewer of the same round: slow drifts of the machine cancel.
        ratios = [rate / alone for rate, alone in zip(rates[n], rates[0], strict=True)]
        rows.append(
            {
                "camera": f"{side}²",
                "viewers": n,
                "frames/s (median)": median,
                "lowest": min(rates[n]),
                "highest": max(rates[n]),
                "of the rate without (median)": statistics.median(ratios),
                "lowest ratio": min(ratios),
                "highest ratio": max(ratios),
                "CPU ms/frame": statistics.median(costs[n]),
                "pictures/s of all": statistics.median(pictures[n]),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 512], help="the camera's")
    parser.add_argument("--model", default="livenet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    parser.add_argument("--draw", action="store_true", help="viewers draw what they fetch, without a screen")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="stormlive-viewers-") as folder,
        Progress(*COLUMNS, TimeElapsedColumn(), TimeRemainingColumn()) as bar,
    ):
        rows = [row for side in options.sides for row in measure(side, Path(folder), options, bar)]
    report("viewers", rows, vars(options))
    if any(row["of the rate without (median)"] < 1 - MOST_LOST for row in rows):
        raise SystemExit(f"viewers cost the engine more than {MOST_LOST:.0%}")


if __name__ == "__main__":
    main()
