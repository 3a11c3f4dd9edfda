"""References instead of pixels: Pycro-Manager's ``image_saved_fn``."""

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from ndstorage import NDTiffDataset

import fake_engine as fake
from served import Closed, script
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.outbox import Outbox
from stormlive.acquire.report import HookReport
from stormlive.acquire.saved import image_saved
from stormlive.acquire.spool import Spool
from stormlive.acquire.stock import Stock
from stormlive.ranges import Ranges
from stormlive.server.loop import Server
from stormlive.wire.transport import Waker

SCRIPT = Path(__file__).with_name("saved_scenario.py")
SHAPE = (24, 32)


def frame(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(90, 500, SHAPE).astype(np.uint16)


@contextmanager
def dataset_in(folder: Path) -> Iterator[NDTiffDataset]:
    dataset = NDTiffDataset(str(folder), summary_metadata={}, writable=True)
    try:
        yield dataset
    finally:
        if dataset.current_writer is not None:
            dataset.current_writer.reader.close()  # ndstorage forgets it
        dataset.finish()
        dataset.close()


def test_frames_of_the_real_engine(tmp_path: Path, server: Server, engine: fake.FakeEngine, closed: Closed) -> None:
    with script(SCRIPT, tmp_path, server.address, 1000) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        saved = json.loads(next(line for line in process.stdout if line.startswith("{")))
        engine.gate.clear()
        print("go on", file=process.stdin, flush=True)
        assert next(line for line in process.stdout if line.startswith("acquired")) == "acquired\n"
        engine.gate.set()
        backfilled = json.loads(next(line for line in process.stdout if line.startswith("{")))
        assert process.wait(60) == 0
    assert saved["error"] == backfilled["error"] == "None"
    assert saved["offered"] == saved["in the picture"] == 1000, saved["sentence"]
    assert backfilled["offered"] == backfilled["in the picture"] == 400, backfilled["sentence"]
    assert backfilled["replayed"] > 100  # outbox and spool hold 136, and the server has been given up to 128
    assert backfilled["dataset"] == str(tmp_path / "two  spaces" / "cell1_1")
    for (_, canvas), first, last in zip(closed.runs, (0, 1000), (1000, 1400), strict=True):
        expected = fake.direct_canvas(np.array([frame(i) for i in range(first, last)]))
        np.testing.assert_array_equal(canvas.canvas, expected)


def test_frames_are_read_while_the_dataset_is_written(tmp_path: Path, server: Server, closed: Closed) -> None:
    hook = StreamHook(server.address, calibration=fake.CALIBRATION, outbox_mb=1)
    saved = image_saved(hook)
    assert len(inspect.signature(saved).parameters) == 2  # pycromanager counts them
    with dataset_in(tmp_path / "raw") as dataset:
        for i in range(300):
            dataset.put_image({"time": i}, frame(i), {})
            saved({"time": i}, dataset)
    report = hook.close()
    assert report.complete, report.sentence
    assert report.live == closed.runs[0][0].ledger.live == Ranges([(0, 299)])
    np.testing.assert_array_equal(
        closed.runs[0][1].canvas, fake.direct_canvas(np.array([frame(i) for i in range(300)]))
    )


def test_references_stay_in_line_when_the_connection_is_lost() -> None:
    waker = Waker()
    outbox = Outbox(2**16, waker)
    stock = Stock(outbox, Spool(0))
    for i in range(100):
        outbox.refer({"time": i}, lambda: frame(0))
    assert stock.take() is None  # before REPORT told that the server sees the dataset
    stock.by_dataset = True

    def refer(most: int) -> tuple[list[int], bool]:
        parcel, replay = stock.take()
        run = stock.run_of_references(parcel, most, replay=replay)
        stock.sent(run, replay=replay)
        return [parcel.seq for parcel in run], replay

    assert refer(32) == ([*range(32)], False)
    assert refer(32) == ([*range(32, 64)], False)
    for seq in range(16):
        stock.acknowledge(seq, keep=True)
    stock.disconnected()
    assert refer(32) == ([*range(16, 48)], False)  # nothing that came later was sent on the way
    stock.bring_back(Ranges([(0, 15)]))  # of a server that was lost
    assert refer(100) == ([*range(48, 100)], False)
    assert refer(100) == ([*range(16)], True)
    waker.close()


def test_a_server_that_does_not_see_the_dataset_is_told_as_the_reason(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stormlive.server.dataset.DataRoots.find", lambda self, start: None)
    hook = StreamHook(server.address, calibration=fake.CALIBRATION, outbox_mb=1)
    with dataset_in(tmp_path / "raw") as dataset:
        for i in range(20):
            dataset.put_image({"time": i}, frame(i), {})
            image_saved(hook)({"time": i}, dataset)
    assert_all_missing(hook.close(), 20, "the server does not see the dataset or may not read it")


def test_a_dataset_in_memory_and_one_that_breaks(server: Server) -> None:
    class Broken:
        def read_image(self, **axes: int) -> np.ndarray:
            raise OSError("no such frame")

    hook = StreamHook(server.address, calibration=fake.CALIBRATION, outbox_mb=1)
    for i in range(3):
        image_saved(hook)({"time": i}, Broken())  # does not raise
    assert isinstance(hook.error, OSError)
    assert_all_missing(hook.close(timeout_s=1), 3, "the hook failed: OSError")


def test_a_path_that_is_too_long_costs_the_picture_and_not_the_account(server: Server) -> None:
    class Long:
        path = "/" + "x" * 1000

        def read_image(self, **axes: int) -> np.ndarray:
            return frame(0)

    hook = StreamHook(server.address, calibration=fake.CALIBRATION, outbox_mb=1)
    for i in range(3):
        image_saved(hook)({"time": i}, Long())
    assert "a path may have 1000 bytes" in str(hook.error)
    assert_all_missing(hook.close(), 3, "the server does not see the dataset or may not read it")


def assert_all_missing(report: HookReport, n: int, reason: str) -> None:
    assert {why: ranges.count() for why, ranges in report.missing.items()} == {reason: n}
