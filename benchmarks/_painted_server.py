"""A stormlive server whose canvas is painted beforehand and whose engine runs; its status may come more often.

Prints its address; frames of shot noise go through the network. Ends when stdin closes.
"""

import argparse
import sys
import threading

import numpy as np
import torch
from numpy.typing import NDArray

from stormlive.acquire.hook import StreamHook
from stormlive.acquire.stream import FrameStream
from stormlive.server import front
from stormlive.server.engine import Engine
from stormlive.server.loop import Server
from stormlive.server.reconstruction import Reconstruction
from stormlive.wire.calibration import Calibration


class PaintedEngine(Engine):
    """The real engine, but for the canvas, which begins with filaments of a few sub-pixels' width."""

    def open(self, shape: tuple[int, int], calibration: Calibration, *, beside: int = 0) -> Reconstruction:
        """Return a canvas that has something to see."""
        opened = super().open(shape, calibration, beside=beside)
        arrays = opened.snapshot()
        paint(arrays["grid"], np.random.default_rng(1))
        u = opened.upsampling
        arrays["sum"] += 20.0 * arrays["grid"].reshape(shape[0], u, shape[1], u).sum((1, 3))
        opened.restore(arrays)
        return opened


def paint(canvas: NDArray[np.float32], draw: np.random.Generator) -> None:
    """Add localizations along bent filaments to a canvas (Y, X)."""
    rows, columns = canvas.shape
    length = max(canvas.shape)
    for _ in range(length // 150):
        n = 8 * length // 10
        angle = draw.uniform(0, 2 * np.pi) + np.cumsum(draw.normal(0, 0.6 / np.sqrt(length), n))
        along = np.stack([np.cumsum(np.sin(angle)), np.cumsum(np.cos(angle))])
        place = draw.uniform(0, 1, (2, 1)) * np.array([[rows], [columns]]) + along
        for _repeat in range(3):
            y, x = np.round(place + draw.normal(0, 1.2, place.shape)).astype(int)
            inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns) & (draw.random(n) < 0.5)
            np.add.at(canvas, (y[inside], x[inside]), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", type=int, help="of the camera")
    parser.add_argument("frames", type=int)
    parser.add_argument("--model", default="livenet")
    parser.add_argument("--status-s", type=float, default=front.STATUS_S, help="from one status to the next")
    parser.add_argument("--frame-s", type=float, default=0.0, help="from one frame to the next; 0: as the engine can")
    parser.add_argument("--judge-s", type=float, default=0.0, help="between two judgements; 0: none")
    options = parser.parse_args()
    side, front.STATUS_S = options.side, options.status_s
    frames = np.random.default_rng(0).poisson(20, (4, side, side)).astype(np.uint16) + np.uint16(100)
    stop = threading.Event()
    torch.set_num_threads(1)
    engine = PaintedEngine(options.model, "cpu")
    with Server(engine, finish=lambda run, canvases: None, bind="tcp://127.0.0.1:*", judge_s=options.judge_s) as server:
        hook = StreamHook(
            server.address, pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=30, mode="block",
            name="painted", outbox_mb=max(16, 4 * frames[0].nbytes / 2**20),
        )  # fmt: skip
        live = FrameStream(hook, stop=stop)

        def send() -> None:
            with live:
                for n in range(options.frames):
                    if stop.wait(options.frame_s):
                        return
                    live.send(frames[n % len(frames)])
                stop.wait()

        thread = threading.Thread(target=send)
        thread.start()
        print(server.address, flush=True)
        sys.stdin.read()
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
