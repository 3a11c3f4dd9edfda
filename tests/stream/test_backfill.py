"""What the live path could not take gets into the picture all the same."""

import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

import fake_engine as fake
from cable import Cable
from served import Closed, Dataset, movie, soon
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.report import HookReport
from stormlive.acquire.spool import Spool
from stormlive.ranges import Ranges
from stormlive.server import run as run_module
from stormlive.server.loop import Server
from stormlive.server.runs import Runs

FRAME_MB = 12 * 16 * 2 / 2**20


def make_hook(server: Server, **options: object) -> StreamHook:
    return StreamHook(server.address, **{"calibration": fake.CALIBRATION, "outbox_mb": 20 * FRAME_MB, **options})


def acquire(hook: StreamHook, frames: np.ndarray, *, patiently: bool = False) -> None:
    for n, frame in enumerate(frames):
        if patiently:
            soon(lambda: hook._outbox.has_room)
        hook(frame, {"Axes": {"time": n}})


def assert_account(report: HookReport, closed: Closed, frames: np.ndarray, missing: Ranges | None = None) -> None:
    """Check that sender and server agree, and the canvas is that of the frames that they account for."""
    ((run, canvas),) = closed.runs
    ledger = run.ledger
    assert (ledger.live, ledger.replayed) == (report.live, report.replayed)
    gone = Ranges().union(*report.missing.values())
    assert gone == (missing or Ranges())
    assert report.live.count() + report.replayed.count() + gone.count() == report.offered == len(frames)
    assert ledger.sentence() == report.sentence
    there = [n for n in range(len(frames)) if n not in gone]
    np.testing.assert_array_equal(canvas.canvas, fake.direct_canvas(frames[there]))


def test_what_the_outbox_could_not_hold_is_read_from_the_dataset(
    server: Server, engine: fake.FakeEngine, closed: Closed, tmp_path: Path
) -> None:
    frames = movie(300)
    dataset = Dataset(tmp_path)
    dataset.write(frames)
    dataset.finish()
    engine.gate.clear()
    hook = make_hook(server, dataset=str(dataset.path))
    acquire(hook, frames)
    missing = hook.progress.missing
    assert missing > 100
    engine.gate.set()
    soon(lambda: hook.progress.live == 300)  # when idle, before the end
    assert hook.progress.missing == 0
    report = hook.close()
    assert report.replayed.count() >= missing
    assert report.complete
    assert_account(report, closed, frames)
    assert "replayed" in report.sentence


def test_a_folder_that_is_no_dataset_costs_no_frame(
    server: Server, engine: fake.FakeEngine, closed: Closed, tmp_path: Path
) -> None:
    frames = movie(120)
    (tmp_path / "notes.txt").touch()
    engine.gate.clear()
    hook = make_hook(server, dataset=str(tmp_path))
    acquire(hook, frames, patiently=True)  # which takes the spool: the outbox holds twenty
    engine.gate.set()
    assert_account(hook.close(), closed, frames)


def test_a_dataset_that_is_still_being_written_is_waited_for(
    server: Server, engine: fake.FakeEngine, closed: Closed, tmp_path: Path
) -> None:
    frames = movie(200)
    dataset = Dataset(tmp_path)
    engine.gate.clear()
    hook = make_hook(server, dataset=str(dataset.path))
    acquire(hook, frames)
    engine.gate.set()
    closing = threading.Thread(target=hook.close)
    closing.start()
    soon(lambda: hook._account.state == "backfill" or hook._sender._stock._referred > 0)
    dataset.write(frames[:150])
    dataset.write(frames[150:], first=150)
    dataset.finish()
    closing.join(30)
    assert_account(hook.report, closed, frames)
    assert hook.report.complete


def test_frames_that_nobody_saved_are_missing_and_say_so(
    server: Server, engine: fake.FakeEngine, closed: Closed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "DATASET_PATIENCE_S", 0.2)
    frames = movie(60)
    dataset = Dataset(tmp_path)
    dataset.write(frames[:50])
    dataset.finish()
    engine.gate.clear()
    hook = make_hook(server, dataset=str(dataset.path))
    acquire(hook, frames)
    engine.gate.set()
    assert_account(hook.close(), closed, frames, Ranges([(50, 59)]))
    assert hook.report.replayed


def test_axes_of_any_length_are_referred_to(
    server: Server, engine: fake.FakeEngine, closed: Closed, tmp_path: Path
) -> None:
    frames, long = movie(60), {f"axis {n}": "µ" * 25 for n in range(14)}
    dataset = Dataset(tmp_path)
    engine.gate.clear()
    hook = make_hook(server, dataset=str(dataset.path))
    for n, frame in enumerate(frames):
        axes = {"time": n, **(long if n % 7 else {})}
        dataset.writer.put_image(axes, frame, {})
        hook(frame, {"Axes": axes})
    dataset.finish()
    engine.gate.set()
    report = hook.close()
    assert report.complete
    assert report.replayed.count() >= 40
    (canvases,) = closed.canvases  # such axes separate
    total = sum(canvas.reconstruction.canvas for canvas in canvases)
    np.testing.assert_array_equal(total, fake.direct_canvas(frames))


def test_a_dataset_of_other_frames_is_not_taken(
    server: Server, engine: fake.FakeEngine, closed: Closed, tmp_path: Path
) -> None:
    frames = movie(40)
    dataset = Dataset(tmp_path)
    dataset.write(np.zeros((40, 5, 5), np.uint16))
    dataset.finish()
    engine.gate.clear()
    hook = make_hook(server, dataset=str(dataset.path))
    acquire(hook, frames)
    engine.gate.set()
    report = hook.close()
    gone = Ranges().union(*report.missing.values())
    assert Ranges([(20, 39)]).subtract(gone) == Ranges()
    assert_account(report, closed, frames, gone)


@pytest.mark.parametrize("dataset", [None, "/nowhere/on/this/machine"])
def test_what_nothing_saves_waits_on_disk(
    server: Server, engine: fake.FakeEngine, closed: Closed, dataset: str | None
) -> None:
    frames = movie(300)
    engine.gate.clear()
    hook = make_hook(server, dataset=dataset)
    acquire(hook, frames, patiently=True)
    assert hook.progress.missing == 0
    assert hook._sender._stock.spool.size_bytes > 200 * 384
    engine.gate.set()
    soon(lambda: hook.progress.live == 300)
    report = hook.close()
    assert report.complete
    assert report.replayed.count() > 100
    assert_account(report, closed, frames)


def test_the_spool_is_bounded_and_its_places_are_used_again(
    server: Server, engine: fake.FakeEngine, closed: Closed
) -> None:
    frames = movie(200)
    hook = make_hook(server, spool_mb=50 * FRAME_MB)
    for part in (frames[:100], frames[100:]):
        engine.gate.clear()
        for frame in part:
            soon(lambda: hook._outbox.has_room or len(hook._sender._stock.later) == 50)
            hook(frame, None)
        assert hook._sender._stock.spool.size_bytes == 50 * 384
        engine.gate.set()
        soon(lambda: hook.progress.backlog == 0)
    report = hook.close()
    (reason,) = report.missing
    assert reason == "outbox full"
    assert_account(report, closed, frames, report.missing[reason])
    assert report.live.count() + report.replayed.count() >= 140


def test_a_disk_that_is_full_ends_the_spool_and_not_the_run(
    server: Server, engine: fake.FakeEngine, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    engine.gate.clear()
    frames = movie(100)
    hook = make_hook(server)
    acquire(hook, frames)
    soon(lambda: hook._sender._stock.spool.trouble is not None)
    engine.gate.set()
    report = hook.close()
    assert hook._sender._stock.spool.trouble == "frames cannot wait on disk: No space left on device"
    assert_account(report, closed, frames, report.missing["outbox full"])


def test_a_spool_gives_back_what_it_was_given(tmp_path: Path) -> None:
    spool, frames = Spool(10 * 384, tmp_path), movie(12)
    places = [spool.put(frame) for frame in frames]
    assert places == [*range(10), None, None]
    for place, frame in zip(places[:10], frames, strict=False):
        np.testing.assert_array_equal(spool.get(place, frame), frame)
    spool.release(3)
    assert spool.put(frames[11]) == 3
    np.testing.assert_array_equal(spool.get(3, frames[0]), frames[11])
    assert spool.size_bytes == 10 * 384
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_preview_shows_the_newest_and_catches_up_on_nothing(
    server: Server, engine: fake.FakeEngine, closed: Closed
) -> None:
    frames = movie(100)
    engine.gate.clear()
    hook = make_hook(server, mode="latest")
    acquire(hook, frames)
    engine.gate.set()
    report = hook.close()
    assert 99 in report.live
    assert not report.replayed
    assert list(report.missing) == ["a newer frame came"]
    assert_account(report, closed, frames, report.missing["a newer frame came"])


def test_who_may_wait_loses_nothing(server: Server, engine: fake.FakeEngine, closed: Closed) -> None:
    engine.frame_s = 0.001
    frames = movie(300)
    hook = make_hook(server, mode="block", spool_mb=0)
    acquire(hook, frames)
    report = hook.close()
    assert report.live == Ranges([(0, 299)])
    assert_account(report, closed, frames)


def test_closing_a_hook_frees_who_waits_for_room(server: Server, engine: fake.FakeEngine) -> None:
    engine.gate.clear()
    hook = make_hook(server, mode="block", spool_mb=0)
    camera = threading.Thread(target=acquire, args=(hook, movie(100)), daemon=True)
    camera.start()
    soon(lambda: not hook._outbox.has_room)
    engine.gate.set()
    hook.close()
    camera.join(20)
    assert not camera.is_alive()


def test_a_network_that_is_cut_and_mended_costs_nothing(
    server: Server, engine: fake.FakeEngine, closed: Closed
) -> None:
    frames = movie(120)
    cable = Cable(server.address)
    engine.frame_s = 0.002
    try:
        hook = StreamHook(cable.address, calibration=fake.CALIBRATION, outbox_mb=20 * FRAME_MB)
        acquire(hook, frames[:40], patiently=True)
        cable.stall()
        acquire(hook, frames[40:80], patiently=True)
        soon(lambda: hook._account.state == "detached")
        cable.mend()
        acquire(hook, frames[80:], patiently=True)
        report = hook.close(20)
    finally:
        cable.close()
    assert report.complete
    ((run, canvas),) = closed.runs
    assert run.ledger.in_picture() == Ranges([(0, 119)])
    np.testing.assert_array_equal(canvas.canvas, fake.direct_canvas(frames))


def test_a_start_that_comes_too_early_is_repeated_and_no_frame_is_lost(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refusals = Runs.start, [None, None]
    monkeypatch.setattr(Runs, "start", lambda *given, **named: refusals.pop() if refusals else start(*given, **named))
    hook = make_hook(server, outbox_mb=4)
    hook.check()
    for frame in movie(200):
        hook(frame, {})
    report = hook.close(timeout_s=10)
    assert refusals == []
    assert report.complete, report.sentence
    assert report.failed is None
