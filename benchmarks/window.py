"""Pictures per second of the window while it pans and zooms over a large canvas and the engine runs; or its memory.

Needs a screen: ``xvfb-run -a -s "-screen 0 1600x1200x24" python benchmarks/window.py``. The view is 1024 × 1024 pixels
of the screen. Counted is what is drawn, and how often a newer or finer picture came from the server. Where other
programs compete for the cores, `CPU ms/picture` tells more: all the time of the window's process, network and software
OpenGL included, for each picture that was drawn. Exit status 1 when less than 15 a second are drawn while it pans.

``--updates 36000`` is two hours' worth of a server's five updates a second, as fast as they can be drawn, through the
same window with its docks, the same network and a server that runs: exit status 1 when its process or the server's has
grown by more than 8 MiB, handles or threads. The sender and many more frames are soak.py's subject, what viewers cost
the engine that of viewers.py.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
from _report import report
from PySide6.QtCore import QTimer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from soak import MOST_GROWTH_MIB, Sample, rows_of, sample

from stormlive.viewer.live_window import LiveWindow
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.view import LiveView, Visible
from stormlive.viewer.window import INTERVAL_MS

SERVER = Path(__file__).with_name("_painted_server.py")
VIEW = 1024
LEAST_PER_S = 15.0
UPDATES_PER_S = 5
FAST_STATUS_S = 0.01
SAMPLES = 200
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
WAYS = {
    "whole field, still": (1.0, 0.0),
    "whole field / 1.7, panning": (1.7, 0.004),
    "8x, panning": (8.0, 0.004),
    "40x, panning": (40.0, 0.004),
}


class Measured:
    """A window that goes through `WAYS`, each for some seconds."""

    def __init__(self, address: str, seconds: float, bar: Progress) -> None:
        self.bar, self.task = bar, bar.add_task("ways", total=len(WAYS))
        self.view = RemoteView(address)
        self.fetch_s: list[float] = []
        self.live = LiveWindow(self.fetch, "benchmark", INTERVAL_MS)
        self.rows: list[dict[str, object]] = []
        self.seconds = seconds
        self.drawn: list[float] = []
        self.fetched = 0
        window = self.live.window
        window.scene.layout = "over"
        for dock in window.docks.values():
            dock.hide()
        window.resize(VIEW + 20, VIEW + 130)
        window.scene.canvas.events.draw.connect(lambda event: self.drawn.append(time.perf_counter()))
        self.plan = iter(WAYS.items())
        self.timer = QTimer()
        self.timer.timeout.connect(self.step)
        self.way, self.until, self.pan = "", 0.0, 0.0

    def fetch(self, visible: Visible) -> LiveView | None:
        """Fetch, and note how long it took."""
        began = time.perf_counter()
        shown = self.view(visible)
        if shown is not None:
            self.fetched += 1
            self.fetch_s.append(time.perf_counter() - began)
        return shown

    def step(self) -> None:
        """Pan on, or go on to the next of the ways."""
        scene = self.live.window.scene
        if scene.shown is None:
            return
        now = time.perf_counter()
        if now > self.until:
            self.note()
            self.way, (zoom, self.pan) = next(self.plan, ("", (0.0, 0.0)))
            if not self.way:
                self.live.window.close()
                return
            scene.show_whole_field()
            height, width = scene.shown.field_nm
            scene.zoom(zoom, width / 2, height / 2)
            self.until = now + self.seconds
            self.began, self.cpu, self.added = now, time.process_time(), self.frames()
            self.drawn, self.fetched, self.fetch_s = [], 0, []
        if self.pan:
            part = scene.visible()
            turn = 2 * np.pi * (self.until - now) / self.seconds
            scene.pan(self.pan * part.width_nm * np.cos(turn), self.pan * part.width_nm * np.sin(turn))

    def note(self) -> None:
        """Note what was measured on the way that has ended."""
        if not self.way:
            return
        seconds, cpu = time.perf_counter() - self.began, time.process_time() - self.cpu
        self.bar.advance(self.task)
        gaps = [b - a for a, b in pairwise(self.drawn)]
        self.rows.append(
            {
                "canvas": "",
                "view": self.way,
                "drawn/s": len(self.drawn) / seconds,
                "median gap, ms": 1e3 * float(np.median(gaps)) if gaps else None,
                "CPU ms/picture": 1e3 * cpu / max(1, len(self.drawn)),
                "new pictures/s": self.fetched / seconds,
                "median fetch, ms": 1e3 * float(np.median(self.fetch_s)) if self.fetch_s else None,
                "engine, frames/s": (self.frames() - self.added) / seconds,
            }
        )

    def frames(self) -> int:
        """Return how many frames were in the newest picture."""
        shown = self.live.window.scene.shown
        return 0 if shown is None or shown.report is None else shown.report.live

    def run(self) -> list[dict[str, object]]:
        """Go all ways."""
        self.timer.start(5)
        self.live.run()
        self.view.close()
        return self.rows


class Updated:
    """A window that gets so many updates, and what it and the server hold meanwhile."""

    def __init__(self, address: str, server_pid: int, updates: int, bar: Progress) -> None:
        self.view = RemoteView(address)
        self.live = LiveWindow(self.fetch, "benchmark", 1)
        # Software OpenGL takes time for each pixel of the screen, and memory for none: as small as a window gets.
        self.live.window.resize(1, 1)
        self.updates, self.fetched, self.drawn = updates, 0, 0
        self.bar, self.task = bar, bar.add_task("updates", total=updates)
        self.processes = {"window": psutil.Process(), "server": psutil.Process(server_pid)}
        self.samples: list[tuple[int, str, Sample]] = []
        self.live.window.scene.canvas.events.draw.connect(self.count)
        self.timer = QTimer()
        self.timer.timeout.connect(self.look)

    def fetch(self, visible: Visible) -> LiveView | None:
        """Fetch, and count what is new."""
        shown = self.view(visible)
        self.fetched += shown is not None
        return shown

    def count(self, event: object) -> None:
        """Count a picture that is drawn."""
        self.drawn += 1

    def look(self) -> None:
        """Take a sample where one is due, or close the window."""
        fetched = self.fetched
        taken = len(self.samples) // len(self.processes)
        if fetched >= self.updates * (taken + 1) / SAMPLES:
            self.samples += [(fetched, name, sample(process)) for name, process in self.processes.items()]
        self.bar.update(self.task, completed=fetched)
        if fetched >= self.updates:
            self.live.window.close()

    def run(self) -> None:
        """Take all updates."""
        self.timer.start(20)
        self.live.run()
        self.view.close()


@contextlib.contextmanager
def painted(side: int, frames: int, model: str, *arguments: str) -> Iterator[tuple[str, int]]:
    """Run the server; yield its address and process number."""
    command = [sys.executable, str(SERVER), str(side), str(frames), "--model", model, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip(), server.pid
        server.kill()


def frame_rates(options: argparse.Namespace, bar: Progress) -> bool:
    """Measure all ways over all canvases; return whether the aim is met."""
    rows = []
    for side in options.sides:
        with painted(side, options.frames, options.model) as (address, _):
            for row in Measured(address, options.seconds, bar).run():
                rows.append({**row, "canvas": f"{8 * side}²"})
    report("window", rows, {**vars(options), "view": f"{VIEW}² of the screen", "engine": "on the CPU, one thread"})
    return all(row["drawn/s"] >= LEAST_PER_S for row in rows if WAYS[row["view"]][1])


def memory(options: argparse.Namespace, bar: Progress) -> bool:
    """Take all updates; return whether nothing has grown."""
    began = time.monotonic()
    fast = str(FAST_STATUS_S)
    with painted(64, 10**9, "small", "--status-s", fast, "--frame-s", fast, "--judge-s", "1") as (address, pid):
        updated = Updated(address, pid, options.updates, bar)
        updated.run()
    minutes = (time.monotonic() - began) / 60
    rows = [
        {key.replace("frame", "update"): value for key, value in row.items() if key != "engine"}
        for row in rows_of("", updated.samples)
    ]
    notes = {
        "updates": updated.fetched,
        "drawn": updated.drawn,
        "hours' worth": updated.fetched / UPDATES_PER_S / 3600,
        "minutes": minutes,
        "most growth MiB": MOST_GROWTH_MIB,
    }
    report("window_memory", rows, notes)
    print(notes)
    return all(row["constant"] for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[512, 2048], help="the camera's; 8 times that are the canvas's"
    )
    parser.add_argument("--seconds", type=float, default=8, help="of each way over each canvas")
    parser.add_argument("--frames", type=int, default=10**9, help="1: the engine comes to rest")
    parser.add_argument("--model", default="small", help="of the engine; a view waits for its frame to end")
    parser.add_argument("--updates", type=int, metavar="N", help="instead: the memory over so many updates")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as settings,
        Progress(*COLUMNS, TimeElapsedColumn(), TimeRemainingColumn()) as bar,
    ):
        os.environ["XDG_CONFIG_HOME"] = settings  # those of whoever measures stay as they are
        good = frame_rates(options, bar) if options.updates is None else memory(options, bar)
    if not good:
        raise SystemExit(
            f"less than {LEAST_PER_S:g} pictures/s" if options.updates is None else "something grew with the updates"
        )


if __name__ == "__main__":
    main()
