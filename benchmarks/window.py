"""Pictures per second of the window while it pans and zooms over a large canvas and the engine runs.

Needs a screen: ``xvfb-run -a -s "-screen 0 1600x1200x24" python benchmarks/window.py``. The view is 1024 × 1024 pixels
of the screen. Counted is what is drawn, and how often a newer or finer picture came from the server. Where other
programs compete for the cores, `CPU ms/picture` tells more: all the time of the window's process, network and software
OpenGL included, for each picture that was drawn.
"""

import argparse
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from _report import report
from PySide6.QtCore import QTimer

from stormlive.viewer.live_window import LiveWindow
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.view import LiveView, Visible
from stormlive.viewer.window import INTERVAL_MS

SERVER = Path(__file__).with_name("_painted_server.py")
VIEW = 1024
WAYS = {
    "whole field, still": (1.0, 0.0),
    "whole field / 1.7, panning": (1.7, 0.004),
    "8x, panning": (8.0, 0.004),
    "40x, panning": (40.0, 0.004),
}


class Measured:
    """A window that goes through `WAYS`, each for some seconds."""

    def __init__(self, address: str, seconds: float) -> None:
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
            self.began, self.cpu = now, time.process_time()
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
            }
        )

    def run(self) -> list[dict[str, object]]:
        """Go all ways."""
        self.timer.start(5)
        self.live.run()
        self.view.close()
        return self.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[512, 2048], help="the camera's; 8 times that are the canvas's"
    )
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--frames", type=int, default=10**9, help="1: the engine comes to rest")
    options = parser.parse_args()
    rows = []
    for side in options.sides:
        with subprocess.Popen(
            [sys.executable, SERVER, str(side), str(options.frames)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            assert server.stdout is not None
            assert server.stdin is not None
            address = server.stdout.readline().strip()
            for row in Measured(address, options.seconds).run():
                rows.append({**row, "canvas": f"{8 * side}²"})
                print(rows[-1], flush=True)
            server.kill()
    report("window", rows, {"view": f"{VIEW}² of the screen", "engine": "livenet on the CPU, one thread, running"})


if __name__ == "__main__":
    main()
