"""A numpy engine for tests, and a server with it for processes of their own."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormlive.server import checkpoint, worker
from stormlive.server.closing import Closing
from stormlive.server.loop import Server
from stormlive.server.protocols import Canvas, Finish, FinishedRun
from stormlive.server.runs import Runs
from stormlive.server.shelf import Shelf
from stormlive.wire.calibration import Calibration
from stormlive.wire.fields import Region
from stormlive_sim.errors import InputError

UPSAMPLING = 2
CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10)


def direct_canvas(frames: NDArray) -> NDArray[np.float32]:
    """Return the canvas of frames (T, Y, X) without any server: what every run must end with."""
    photons = (np.asarray(frames, np.float64) - CALIBRATION.baseline_adu) * CALIBRATION.photons_per_adu
    return photons.sum(0).repeat(UPSAMPLING, 0).repeat(UPSAMPLING, 1).astype(np.float32)


def between(frames: NDArray) -> NDArray:
    """Return what an engine with context sees of frames (T, Y, X): each depends on both neighbours, not on order alone.

    A neighbour that is not there is dark.
    """
    whole = np.pad(frames.astype(np.int64), ((1, 1), (0, 0), (0, 0)))
    return (whole[1:-1] * (1 + whole[:-2] + 3 * whole[2:])) % 1021


class FakeReconstruction:
    """Adds frames nearest-upsampled; with context, what `between` makes of them."""

    def __init__(self, engine: "FakeEngine", shape: tuple[int, int]) -> None:
        self.engine = engine
        self.context = engine.context
        self.upsampling = UPSAMPLING
        self.model_name = engine.model_name
        self.canvas = np.zeros((shape[0] * UPSAMPLING, shape[1] * UPSAMPLING), np.float32)
        self.photons = np.zeros(shape, np.float32)
        self.newest = np.zeros(shape, np.float32)
        self.n = 0

    def add(
        self, frames: NDArray, sink: object = None, own: slice = slice(None), *, region: Region | None = None
    ) -> None:
        frames = (between(frames) if self.context else frames)[own]
        self.engine.gate.wait()
        time.sleep(self.engine.frame_s * len(frames))
        if self.engine.broken:
            raise RuntimeError("CUDA out of memory")
        self.engine.batches.append(len(frames))
        part = (slice(None), slice(None))
        if region is not None:
            x, y, width, height = region
            part = (slice(y, y + height), slice(x, x + width))
        fine = tuple(slice(*(edge and edge * UPSAMPLING for edge in (side.start, side.stop))) for side in part)
        self.canvas[fine] += direct_canvas(frames[:, *part])
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

    @property
    def fingerprint(self) -> str:
        return self.engine.model_name

    def snapshot(self) -> dict[str, NDArray]:
        arrays = {"canvas": self.canvas, "photons": self.photons, "newest": self.newest, "n": np.array([self.n])}
        return {name: array.copy() for name, array in arrays.items()}

    def restore(self, arrays: dict[str, NDArray]) -> None:
        self.canvas, self.photons, self.newest = arrays["canvas"], arrays["photons"], arrays["newest"]
        self.n = int(arrays["n"][0])


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
        self.context = 0
        self.most_canvases = 1000
        self.batches: list[int] = []

    def open(self, shape: tuple[int, int], calibration: Calibration, *, beside: int = 0) -> FakeReconstruction:
        if beside >= self.most_canvases:
            raise InputError("a canvas needs 8 GB, and there is less free")
        if calibration.pixel_size_nm != self.pixel_size_nm:
            raise InputError(f"the model needs 100 nm pixels, the camera has {calibration.pixel_size_nm:g} nm")
        return FakeReconstruction(self, shape)


def finish_in(shelf: Shelf) -> Finish:
    """Return what writes a run's canvases and as much of its record as a server reads back."""

    def finish(run: FinishedRun, canvases: Sequence[Canvas]) -> str:
        folder = shelf.folder(run.start)
        folder.mkdir(parents=True, exist_ok=True)
        for canvas in canvases:
            name = f"canvas_{canvas.name}.npy" if len(canvases) > 1 else "canvas.npy"
            np.save(folder / name, canvas.reconstruction.canvas)
        frames = {**run.ledger.as_dict(), "notices": list(run.notices)}
        record = {"run": str(run.start.run), "exit_status": run.exit_status, "summary": run.ledger.sentence()}
        (folder / "run.json").write_text(json.dumps({**record, "frames": frames, "seconds": run.duration_s}))
        return str(folder)

    return finish


def die_when(module: object, name: str, *, after: int = 0, before: bool = True) -> None:
    """Let the process be killed, as by kill -9, in the call of a function number `after`, or behind that call."""
    whole, calls = getattr(module, name), []

    def deadly(*args: object, **kwargs: object) -> object:
        calls.append(name)
        if before and len(calls) > after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = whole(*args, **kwargs)
        if len(calls) > after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, name, deadly)


POINTS: dict[str, Callable[[], None]] = {
    "never": lambda: None,
    "opening": lambda: die_when(FakeEngine, "open"),
    "before the first batch": lambda: die_when(FakeReconstruction, "add"),
    "in a batch": lambda: die_when(FakeReconstruction, "add", after=5, before=False),
    "before a batch": lambda: die_when(FakeReconstruction, "add", after=9),
    "writing the first checkpoint": lambda: die_when(checkpoint, "save_file", before=False),
    "writing a checkpoint": lambda: die_when(checkpoint, "save_file", after=1, before=False),
    "checkpoint written": lambda: die_when(checkpoint.Checkpoint, "write", after=1, before=False),
    "checkpoint told": lambda: die_when(worker.Worker, "_tell_kept", after=1, before=False),
    "asking for frames": lambda: die_when(worker, "_report", after=1),
    "before the files": lambda: die_when(Closing, "_write_files"),
    "files written": lambda: die_when(Closing, "_write_files", before=False),
    "checkpoint removed": lambda: die_when(checkpoint.Checkpoint, "remove", before=False),
    "closed": lambda: die_when(Runs, "closed", before=False),
}


def serve(
    told: Connection, bind: str, frame_s: float, out: Path | None, checkpoint_s: float, point: str, context: int
) -> None:
    """Tell the address and serve until the other end of `told` is closed, or to be killed at one of the `POINTS`.

    The runs' files and checkpoints lie in `out`; without it there are none.
    """
    options: dict[str, Any] = {"finish": lambda run, canvas: "folder"}
    if out is not None:
        shelf = Shelf(out, folder_per_run=True)
        options = {"finish": finish_in(shelf), "shelf": shelf, "checkpoint_s": checkpoint_s, "max_batch": 8}
        POINTS[point]()
    engine = FakeEngine(frame_s)
    engine.context = context
    with Server(engine, bind=bind, heartbeat_s=0.2, grace_s=5, **options) as server:
        told.send(server.address)
        with contextlib.suppress(EOFError):
            told.recv()
