"""A numpy engine for tests, and a server with it as a script: prints its address, ends when stdin closes."""

import sys
import threading
import time

import numpy as np
from numpy.typing import NDArray

from stormlive.server.loop import Server
from stormlive.wire.messages import Calibration
from stormlive_sim.errors import InputError

UPSAMPLING = 2
CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10)


def direct_canvas(frames: NDArray) -> NDArray[np.float32]:
    """Return the canvas of frames (T, Y, X) without any server: what every run must end with."""
    photons = (np.asarray(frames, np.float64) - CALIBRATION.baseline_adu) * CALIBRATION.photons_per_adu
    return photons.sum(0).repeat(UPSAMPLING, 0).repeat(UPSAMPLING, 1).astype(np.float32)


class FakeReconstruction:
    """Adds frames nearest-upsampled."""

    def __init__(self, engine: "FakeEngine", shape: tuple[int, int]) -> None:
        self.engine = engine
        self.upsampling = UPSAMPLING
        self.model_name = engine.model_name
        self.canvas = np.zeros((shape[0] * UPSAMPLING, shape[1] * UPSAMPLING), np.float32)
        self.photons = np.zeros(shape, np.float32)
        self.newest = np.zeros(shape, np.float32)
        self.n = 0

    def add(self, frames: NDArray) -> None:
        self.engine.gate.wait()
        time.sleep(self.engine.frame_s * len(frames))
        if self.engine.broken:
            raise RuntimeError("CUDA out of memory")
        self.engine.batches.append(len(frames))
        self.canvas += direct_canvas(frames)
        photons = ((frames - np.float32(CALIBRATION.baseline_adu)) * CALIBRATION.photons_per_adu).astype(np.float32)
        self.photons += photons.sum(0)
        self.newest = photons[-1]
        self.n += len(frames)

    def view(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.float32]:
        size = 2**level
        rows, columns = (-(-side // size) for side in self.canvas.shape)
        padded = np.zeros((rows * size, columns * size), np.float32)
        padded[: self.canvas.shape[0], : self.canvas.shape[1]] = self.canvas
        pooled = padded.reshape(rows, size, columns, size).sum((1, 3))
        return pooled[y : y + h, x : x + w]

    def widefield(self) -> NDArray[np.float32]:
        return self.photons / max(1, self.n)

    def last(self) -> NDArray[np.float32]:
        return self.newest


class FakeEngine:
    """Computes only while `gate` is set; fails while `broken`."""

    def __init__(self, frame_s: float = 0.0) -> None:
        self.model_name = "fake"
        self.pixel_size_nm = 100.0
        self.camera_pixels_nm = ((100.0, 100.0),)
        self.device = "cpu"
        self.frame_s = frame_s
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False
        self.batches: list[int] = []

    def open(self, shape: tuple[int, int], calibration: Calibration) -> FakeReconstruction:
        if calibration.pixel_size_nm != self.pixel_size_nm:
            raise InputError(f"the model needs 100 nm pixels, the camera has {calibration.pixel_size_nm:g} nm")
        return FakeReconstruction(self, shape)


def main() -> None:
    bind, frame_s = sys.argv[1], float(sys.argv[2])
    with Server(FakeEngine(frame_s), finish=lambda run, canvas: "folder", bind=bind, heartbeat_s=0.2) as server:
        print(server.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
