"""Frames from a plain Python loop."""

import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

import fake_engine as fake
import stormlive
from served import SHAPE, Closed, movie, soon
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.stream import FrameStream
from stormlive.server.loop import Server
from stormlive_sim.errors import InputError


def send_all(live: FrameStream, frames: Iterable[np.ndarray]) -> None:
    for frame in frames:
        live.send(frame)


def slowly(frames: np.ndarray) -> Iterator[np.ndarray]:
    for frame in frames:  # for long enough that what the server says of them comes
        yield frame
        time.sleep(0.003)


def test_a_loop_over_a_thousand_frames(server: Server, closed: Closed) -> None:
    frames = movie(1000)
    with stormlive.stream(server.address, calibration=fake.CALIBRATION) as live:
        for frame in frames:
            live.send(frame)
    assert live.report.offered == live.report.live.count() == 1000
    assert live.report.complete
    ((run, canvas),) = closed.runs
    assert run.exit_status == "ok"
    np.testing.assert_array_equal(canvas.canvas, fake.direct_canvas(frames))


def test_more_frames_than_the_outbox_holds_wait_and_none_is_lost(
    server: Server, closed: Closed, engine: fake.FakeEngine
) -> None:
    frames = movie(300)
    engine.gate.clear()
    hook = StreamHook(
        server.address, calibration=fake.CALIBRATION, mode="block", outbox_mb=20 * frames[0].nbytes / 2**20
    )
    timer = threading.Timer(0.3, engine.gate.set)
    timer.start()
    with FrameStream(hook) as live:
        for frame in frames:
            live.send(frame, axes={"t": 1})
    timer.join()
    assert live.report.complete, live.report.sentence
    np.testing.assert_array_equal(closed.runs[0][1].canvas, fake.direct_canvas(frames))


def test_a_frame_that_cannot_be_sent_is_refused_where_it_is_handed_over(server: Server, closed: Closed) -> None:
    live = stormlive.stream(server.address, calibration=fake.CALIBRATION)
    live.send(movie(1)[0])
    for wrong in (movie(2), np.zeros((0, 3), np.uint8), np.zeros(SHAPE, np.int32), np.zeros(SHAPE, complex)):
        with pytest.raises(InputError, match="uint16"):
            live.send(wrong)
    with pytest.raises(InputError, match="like the first"), live:
        send_all(live, movie(1)[:, :-1])
    assert live.report.offered == live.report.live.count() == 1
    assert closed.runs[0][0].exit_status.startswith(f"aborted: expected frames of {SHAPE}")


def test_a_server_that_answers_is_waited_for_longer_and_then_told(
    engine: fake.FakeEngine, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stormlive.acquire.stream.PATIENCE_S", 0.5)
    engine.gate.clear()
    # Of a server that is silent for longer than that only after seconds, however busy this machine is.
    with Server(engine, finish=closed, bind="tcp://127.0.0.1:*", heartbeat_s=5.0) as server:
        hook = StreamHook(
            server.address, calibration=fake.CALIBRATION, mode="block", outbox_mb=2 * movie(1).nbytes / 2**20
        )
        try:
            hook.check()
            with pytest.raises(ConnectionError, match=r"no frame was taken for 0.5 s: the server answers"):
                send_all(FrameStream(hook, patience_s=0.01), movie(50))
        finally:
            engine.gate.set()
            hook.close()


def test_a_server_that_is_stopped_is_no_bad_input(closed: Closed) -> None:
    with Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*") as server:
        live = stormlive.stream(server.address, calibration=fake.CALIBRATION)
        send_all(live, movie(20))
        soon(lambda: live.hook.progress.live == 20)
    soon(lambda: live.hook.failed is not None)
    told = "server stopped; in the picture: 20 of 20 frames, in folder; run `stormlive serve` again and send all"
    with pytest.raises(ConnectionError, match=told), live:
        send_all(live, movie(1))
    assert live.report is not None
    assert live.report.live.count() == live.report.offered == 20


def test_an_engine_that_fails_is_told_without_a_remedy_that_is_none(
    server: Server, engine: fake.FakeEngine, closed: Closed
) -> None:
    engine.broken = True
    live = stormlive.stream(server.address, calibration=fake.CALIBRATION)
    with (
        pytest.raises(ConnectionError, match="engine failed: CUDA out of memory; in the picture: 0 of") as caught,
        live,
    ):
        send_all(live, slowly(movie(10_000)))
    assert "again" not in str(caught.value)


def test_an_end_after_the_last_frame_is_told_once(closed: Closed, caplog: pytest.LogCaptureFixture) -> None:
    with Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*") as server:
        live = stormlive.stream(server.address, calibration=fake.CALIBRATION)
        send_all(live, movie(20))
        soon(lambda: live.hook.progress.live == 20)
    soon(lambda: live.hook.failed is not None)
    for _ in range(2):
        live.close()
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["the live picture was ended early: the server ended the run: server stopped"]


def test_no_server_and_a_server_that_refuses(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StreamHook.check, "__defaults__", (0.3,))
    with pytest.raises(ConnectionError, match="stormlive serve"):
        stormlive.stream("tcp://127.0.0.1:9", calibration=fake.CALIBRATION)
    with pytest.raises(InputError, match="calibration"):
        stormlive.stream(server.address, pixel_size_nm=100)
    wrong = stormlive.Calibration(pixel_size_nm=55, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10)
    with pytest.raises(InputError, match="100 nm"), stormlive.stream(server.address, calibration=wrong) as live:
        send_all(live, slowly(movie(10_000)))
