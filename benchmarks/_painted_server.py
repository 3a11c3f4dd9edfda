"""A stormlive server whose canvas is painted beforehand and whose engine runs: ``_painted_server.py SIDE FRAMES``.

SIDE is the camera's. Prints its address; FRAMES of shot noise go through the network. Ends when stdin closes.
"""

import sys
import threading

import numpy as np
import torch
from numpy.typing import NDArray

from stormlive.acquire.hook import StreamHook
from stormlive.acquire.stream import FrameStream
from stormlive.server.engine import Engine, Reconstruction
from stormlive.server.loop import Server
from stormlive.wire.messages import Calibration


class PaintedEngine(Engine):
    """The real engine, but for the canvas, which begins with filaments of a few sub-pixels' width."""

    def open(self, shape: tuple[int, int], calibration: Calibration, *, beside: int = 0) -> Reconstruction:
        """Return a canvas that has something to see."""
        opened = super().open(shape, calibration, beside=beside)
        paint(opened._canvas.numpy(), np.random.default_rng(1))
        wide = opened.view(3, 0, 0, shape[1], shape[0])
        opened._sum += torch.from_numpy(wide).double() * 20
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
    side, n_frames = map(int, sys.argv[1:])
    frames = np.random.default_rng(0).poisson(20, (4, side, side)).astype(np.uint16) + np.uint16(100)
    stop = threading.Event()
    torch.set_num_threads(1)
    with Server(PaintedEngine("livenet", "cpu"), finish=lambda run, canvases: None, bind="tcp://127.0.0.1:*") as server:
        hook = StreamHook(
            server.address, pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=30, mode="block",
            name="painted",
        )  # fmt: skip
        live = FrameStream(hook, stop=stop)

        def send() -> None:
            with live:
                for n in range(n_frames):
                    if stop.is_set():
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
