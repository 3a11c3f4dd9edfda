"""The server is killed, as by kill -9, at every point of a run's course, and started again."""

import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stormlive.acquire import connection, sender
from stormlive.acquire.hook import HookReport, StreamHook
from stormlive.ranges import Ranges
from stormlive.server.checkpoint import CHECKPOINT_DIR

FAKE = Path(__file__).with_name("fake_engine.py")
_spec = importlib.util.spec_from_file_location("stormlive_fake_engine", FAKE)
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

SHAPE = (12, 16)
FRAME_BYTES = 12 * 16 * 2


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.5)
    monkeypatch.setattr(sender, "LONGEST_PAUSE_S", 0.3)


def movie(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 500, (n, *SHAPE)).astype(np.uint16)


def soon(condition: Callable[[], bool], wait_s: float = 30.0) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Servers:
    """Servers in processes of their own, one after the other, on one port and one output folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.address = "tcp://127.0.0.1:*"
        self.process: subprocess.Popen[str] | None = None

    def start(self, point: str = "never", *, checkpoint_s: float = 0.05, frame_s: float = 0.0) -> "Servers":
        self.close()
        argv = ["x", self.address, str(frame_s), str(self.out), str(checkpoint_s), point]
        code = f"import sys, runpy; sys.path[:0] = {sys.path!r}; sys.argv = {argv!r}; "
        self.process = subprocess.Popen(
            [sys.executable, "-c", code + f"runpy.run_path({str(FAKE)!r}, run_name='__main__')"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self.process.stdout.readline().strip()
        assert self.address
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def wait_until_dead(self) -> None:
        assert self.process.wait(30) == -9

    def close(self) -> None:
        if self.process is not None:
            self.kill()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path / "runs")
    yield servers
    servers.close()


def make_hook(address: str, **options: object) -> StreamHook:
    return StreamHook(address, **{"calibration": fake.CALIBRATION, "outbox_mb": 4, "name": "cell", **options})


def numbers(ranges: Ranges) -> list[int]:
    return [n for first, last in ranges for n in range(first, last + 1)]


def assert_every_frame_once(report: HookReport) -> None:
    classes = [report.live, report.replayed, *report.missing.values()]
    assert sorted(n for ranges in classes for n in numbers(ranges)) == list(range(report.offered))


def assert_whole(out: Path, report: HookReport, frames: np.ndarray) -> dict[str, Any]:
    """Check that every frame is in the picture once, on disk as in the account; return the record."""
    assert_every_frame_once(report)
    assert report.complete, report.sentence
    assert report.failed is None
    folder = Path(report.folder)
    np.testing.assert_array_equal(np.load(folder / "canvas.npy"), fake.direct_canvas(frames))
    record = json.loads((folder / "run.json").read_text())
    assert record["run"] == str(report.run)
    live, replayed = Ranges(record["frames"]["live"]), Ranges(record["frames"]["replayed"])
    assert live.union(replayed) == Ranges([(0, len(frames) - 1)])
    assert not live.intersect(replayed)
    assert not list(out.glob(f"*/{CHECKPOINT_DIR}"))
    assert len(list(out.glob("*/run.json"))) == 1
    return record


def acquire(hook: StreamHook, frames: np.ndarray) -> None:
    """Offer frames as fast as the sender finds room for them."""
    for n, frame in enumerate(frames):
        soon(lambda: hook._outbox.has_room)
        hook(frame, {"Axes": {"time": n}})


AT_THE_END = ("before the files", "files written", "checkpoint removed", "closed")
MEANWHILE = [point for point in fake.POINTS if point not in ("never", "asking for frames", *AT_THE_END)]


@pytest.mark.parametrize("point", MEANWHILE)
def test_killed_in_a_run_and_started_again_the_canvas_is_the_offline_one(point: str, servers: Servers) -> None:
    frames = movie(200)
    hook = make_hook(servers.start(point, frame_s=0.002).address, outbox_mb=50 * FRAME_BYTES / 2**20)
    acquire(hook, frames)  # more than the outbox holds: the others wait on disk
    servers.wait_until_dead()
    servers.start()
    assert_whole(servers.out, hook.close(30), frames)


@pytest.mark.parametrize("point", AT_THE_END)
def test_killed_at_the_end_the_run_is_closed_once(point: str, servers: Servers) -> None:
    frames = movie(60)
    hook = make_hook(servers.start(point).address)
    acquire(hook, frames)
    closing = threading.Thread(target=hook.close, args=(30,))
    closing.start()
    servers.wait_until_dead()
    servers.start()
    closing.join(60)
    assert_whole(servers.out, hook.report, frames)


def test_killed_while_it_asks_for_frames_it_asks_again(servers: Servers) -> None:
    frames = movie(60)
    hook = make_hook(servers.start("asking for frames").address)
    for n, frame in enumerate(frames):
        hook(frame if n != 7 else np.zeros((3, 3), np.uint16), None)
    closing = threading.Thread(target=hook.close, args=(30,))
    closing.start()
    servers.wait_until_dead()
    servers.start()
    closing.join(60)
    report = hook.report
    assert_every_frame_once(report)
    ((reason, ranges),) = report.missing.items()
    assert "differs from the run's first frame" in reason
    assert ranges == Ranges([(7, 7)])
    kept = np.delete(frames, 7, axis=0)
    np.testing.assert_array_equal(np.load(Path(report.folder) / "canvas.npy"), fake.direct_canvas(kept))
