"""What tests of the whole path share: frames, patience, who keeps the finished runs, and the account at the end."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from ndstorage import NDTiffDataset

import fake_engine as fake
from children import killed_at_last
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.report import HookReport
from stormlive.ranges import Ranges
from stormlive.server.protocols import Canvas, FinishedRun

SHAPE = (12, 16)
FRAME_BYTES = 12 * 16 * 2


class Closed:
    """Takes the place of the writer of files and keeps what it was given."""

    def __init__(self) -> None:
        self.runs: list[tuple[FinishedRun, Any]] = []
        self.canvases: list[Sequence[Canvas]] = []
        self.trouble: Exception | None = None
        self.folder = "folder"

    def __call__(self, run: FinishedRun, canvases: Sequence[Canvas]) -> str:
        self.runs.append((run, canvases[0].reconstruction))
        self.canvases.append(canvases)
        if self.trouble is not None:
            raise self.trouble
        return self.folder


class Dataset:
    """An NDTiff dataset as Pycro-Manager writes it."""

    def __init__(self, folder: Path) -> None:
        self.writer = NDTiffDataset(str(folder), name="raw", writable=True)
        self.writer.initialize({})
        self.path = Path(self.writer.path)

    def write(self, frames: np.ndarray, first: int = 0) -> None:
        for n, frame in enumerate(frames, first):
            self.writer.put_image({"time": n}, frame, {"Exposure": 10})

    def finish(self) -> None:
        writer = self.writer.current_writer
        self.writer.finish()
        self.writer.close()
        if writer is not None:
            writer.reader.close()  # ndstorage forgets it


def script(path: str | Path, *arguments: object) -> AbstractContextManager[subprocess.Popen[str]]:
    """Start a script, which may be told to end by its stdin, and kill it at the end."""
    command = [sys.executable, str(path), *map(str, arguments)]
    return killed_at_last(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))


def movie(n: int, seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 500, (n, *shape)).astype(np.uint16)


def make_hook(address: str, **options: object) -> StreamHook:
    return StreamHook(address, **{"calibration": fake.CALIBRATION, "outbox_mb": 4, **options})


def soon(condition: Callable[[], bool], wait_s: float = 30.0) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def numbers(ranges: Ranges) -> list[int]:
    return [n for first, last in ranges for n in range(first, last + 1)]


def assert_every_frame_once(report: HookReport) -> None:
    classes = [report.live, report.replayed, *report.missing.values()]
    assert sorted(n for ranges in classes for n in numbers(ranges)) == list(range(report.offered))
