"""The server is killed, as by kill -9, at every point of a run's course, and started again."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fake_engine as fake
from served import FRAME_BYTES, assert_every_frame_once, make_hook, movie, soon
from server_process import Servers
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.report import HookReport
from stormlive.ranges import Ranges
from stormlive.server.checkpoint import CHECKPOINT_DIR

pytestmark = pytest.mark.usefixtures("hurry")


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
