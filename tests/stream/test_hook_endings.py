"""How a run ends for the hook: servers that refuse, fail, stop, hang, or talk nonsense."""

import logging
import threading
import time
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import zmq

import fake_engine as fake
from served import FRAME_BYTES, Closed, assert_every_frame_once, make_hook, movie, soon
from stormlive.acquire import connection, outage
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.report import HookReport
from stormlive.ranges import Ranges
from stormlive.server.loop import Server
from stormlive.wire.codec import encode, unpack
from stormlive.wire.messages import PROTOCOL, Credit, End, Error, Final, FrameHeader, Hello, Message, Start, Welcome
from stormlive.wire.transport import bind_router, endpoint, receive, send
from stormlive_sim.errors import InputError

pytestmark = pytest.mark.usefixtures("hurry")


def test_a_server_that_refuses_leaves_the_acquisition_alone(server: Server, closed: Closed) -> None:
    hook = StreamHook(
        server.address, pixel_size_nm=160, baseline_adu=100, photons_per_adu=1, exposure_ms=10, outbox_mb=1
    )
    hook(movie(1)[0], None)
    soon(lambda: hook.failed is not None)
    for frame in movie(5):
        hook(frame, None)
    report = hook.close()
    assert hook.failed == "the model needs 100 nm pixels, the camera has 160 nm"
    assert report.failed == hook.failed
    assert report.missing == {hook.failed: Ranges([(0, 5)])}
    with pytest.raises(InputError, match="160 nm"):
        hook.check(1)
    assert closed.runs == []


def test_frames_over_the_servers_limit_are_named(closed: Closed) -> None:
    limits = {"credit_bytes": 100, "max_frame_bytes": 100}
    with (
        Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", **limits) as server,
        make_hook(server.address) as hook,
    ):
        for frame in movie(3):
            hook(frame, None)
    assert hook.report.missing == {f"a frame has {FRAME_BYTES} bytes, the server takes 100": Ranges([(0, 2)])}


def test_a_failing_engine_is_told_with_what_was_saved(server: Server, closed: Closed) -> None:
    engine = server.engine
    with make_hook(server.address) as hook:
        for frame in movie(10):
            hook(frame, None)
        soon(lambda: hook.progress.live == 10)
        engine.broken = True
        hook(movie(1)[0], None)
        soon(lambda: hook.failed is not None)
        hook(movie(1)[0], None)
    report = hook.report
    assert_every_frame_once(report)
    assert report.live == Ranges([(0, 9)])
    assert report.failed == "the server ended the run: engine failed: CUDA out of memory"
    assert report.folder == "folder"
    assert closed.runs[0][0].exit_status == "engine failed: CUDA out of memory"


def test_a_server_that_is_stopped_saves_what_it_has(closed: Closed) -> None:
    with Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*") as server:
        hook = make_hook(server.address)
        for frame in movie(20):
            hook(frame, None)
        soon(lambda: hook.progress.live == 20)
    soon(lambda: hook.failed is not None)
    hook(movie(1)[0], None)
    report = hook.close()
    assert report.live == Ranges([(0, 19)])
    assert report.missing == {"the server ended the run: server stopped": Ranges([(20, 20)])}
    assert report.folder == "folder"
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(movie(20)), rtol=1e-4)


def test_an_aborted_acquisition_is_recorded_as_such(server: Server, closed: Closed) -> None:
    hook = make_hook(server.address)

    def acquisition() -> None:
        with hook:
            hook(movie(1)[0], None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acquisition()
    assert hook.report.complete
    assert closed.runs[0][0].exit_status == "aborted: KeyboardInterrupt"


def test_close_waits_for_an_engine_that_is_slow_but_alive(server: Server) -> None:
    hook = make_hook(server.address)
    hook.check(20)
    server.engine.frame_s = 2.5
    hook(movie(1)[0], None)
    assert hook.close(timeout_s=1.0).complete


def test_close_does_not_wait_forever_for_an_engine_that_hangs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE_S", 0.5)
    server.engine.gate.clear()
    hook = make_hook(server.address)
    hook.check(20)
    hook(movie(1)[0], None)
    report: list[HookReport] = []
    closing = threading.Thread(target=lambda: report.append(hook.close(timeout_s=0.5)))
    closing.start()
    closing.join(20)
    hung = closing.is_alive()
    server.engine.gate.set()
    closing.join()
    assert not hung
    assert report[0].missing == {"not processed before close": Ranges([(0, 0)])}


def test_nothing_offered_nothing_opened(server: Server, closed: Closed) -> None:
    with make_hook(server.address) as hook:
        hook.check(20)
    assert (hook.report.offered, hook.report.missing, hook.report.failed) == (0, {}, None)
    assert hook.close() is hook.report
    assert closed.runs == []


WELCOME = Welcome(
    version=PROTOCOL,
    epoch="e",
    credit_bytes=2**20,
    max_frame_bytes=2**20,
    heartbeat_ms=1000,
    clock_ns=0,
    model="m",
    model_pixel_size_nm=100.0,
    view_port=1,
    status_port=1,
)


class ScriptedServer:
    """Answers each message of a type with the messages that a test has written down for it."""

    def __init__(self, answers: dict[type, Callable[[Message], list[Message]]]) -> None:
        self._answers = answers
        self._context = zmq.Context()
        self._router = bind_router(self._context, "tcp://127.0.0.1:*", max_part_bytes=2**20)
        self._stop = threading.Event()
        self.address = endpoint(self._router)
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._router.poll(20)
            parts = receive(self._router, routed=True)
            if parts is None:
                continue
            message, _ = unpack(parts[1:])
            for answer in self._answers.get(type(message), lambda _: [])(message):
                send(self._router, [parts[0], encode(answer)])

    def __enter__(self) -> "ScriptedServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._router.close(linger=0)
        self._context.term()


@pytest.mark.parametrize(
    "answer",
    [
        Error(code="version", fatal=True, message="this server speaks 'stormlive-2'"),
        msgspec.structs.replace(WELCOME, version="stormlive-2"),
    ],
)
def test_another_protocol_version_is_told_by_check(answer: Message) -> None:
    with ScriptedServer({Hello: lambda _: [answer]}) as server:
        hook = make_hook(server.address)
        with pytest.raises(InputError, match="stormlive-2"):
            hook.check(20)
        hook(movie(1)[0], None)
        report = hook.close()
    assert_every_frame_once(report)
    assert "stormlive-2" in report.failed


def test_a_busy_server_is_asked_again() -> None:
    free = threading.Event()
    busy = Error(code="busy", fatal=False, message="the server is busy")
    with (
        ScriptedServer({Hello: lambda _: [WELCOME if free.is_set() else busy]}) as server,
        make_hook(server.address) as hook,
    ):

        def told_so() -> bool:
            with pytest.raises(ConnectionError) as caught:
                hook.check(0.05)
            return str(caught.value) == "the server is busy"

        soon(told_so)
        free.set()
        assert hook.check(20).model == "m"


def test_a_server_that_takes_no_more_runs_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outage, "TELL_AFTER_S", 0.1)
    asked: list[Message] = []

    def full(start: Message) -> list[Message]:
        asked.append(start)
        return [Error(code="busy", fatal=False, message="the server takes no more runs now")]

    with ScriptedServer({Hello: lambda _: [WELCOME], Start: full}) as server:
        hook = make_hook(server.address)
        hook(movie(1)[0], None)
        soon(lambda: len(asked) > 3)
        hook.close(0.1)
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "no live picture for now: the server takes no more runs now"
    ]


def test_final_is_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(socket: zmq.Socket[bytes]) -> list[memoryview] | None:
        time.sleep(0.02)  # so that what was sent together has arrived together
        return receive(socket)

    monkeypatch.setattr(connection, "receive", late)

    def end(start: Message) -> list[Message]:
        final = Final(run=start.run, frames=0, live=0, missing={}, exit_status="server stopped", sentence="s")
        return [final, Error(code="late", fatal=True, message="and by the way")]

    with ScriptedServer({Hello: lambda _: [WELCOME], Start: end}) as server, make_hook(server.address) as hook:
        hook(movie(1)[0], None)
        soon(lambda: hook.failed is not None)
    assert hook.report.failed == "the server ended the run: server stopped"
    assert hook.report.missing == {hook.report.failed: Ranges([(0, 0)])}


@pytest.mark.parametrize(
    "answer", [Credit(bytes=1), Credit(bytes=0, live=((0, 2**47),)), Hello(version=PROTOCOL)], ids=str
)
def test_a_server_that_talks_nonsense_ends_the_picture_only(answer: Message) -> None:
    with ScriptedServer({Hello: lambda _: [WELCOME, answer]}) as server, make_hook(server.address) as hook:
        soon(lambda: hook.failed is not None)
        assert hook(movie(1)[0], None)[1] is None
    assert_every_frame_once(hook.report)
    assert hook.report.live.count() == 0


def test_what_is_acknowledged_twice_counts_once() -> None:
    # As a server does that had asked for a frame again while it was on its way.
    def twice(header: Message) -> list[Message]:
        return 2 * [Credit(bytes=0, live=((header.seq, header.seq),))]

    def end(message: Message) -> list[Message]:
        return [Final(run=message.run, frames=5, live=5, missing={}, exit_status="ok", sentence="s", folder="f")]

    with (
        ScriptedServer({Hello: lambda _: [WELCOME], FrameHeader: twice, End: end}) as server,
        make_hook(server.address) as hook,
    ):
        for n, frame in enumerate(movie(5)):
            hook(frame, None)
            soon(lambda n=n: hook.progress.live == n + 1)
    assert_every_frame_once(hook.report)
    assert hook.report.complete
    assert hook.report.failed is None


def test_a_frame_wakes_an_idle_sender(closed: Closed) -> None:
    # With a heartbeat of a minute the sender would sleep for a quarter of it.
    with (
        Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", heartbeat_s=60) as server,
        make_hook(server.address) as hook,
    ):
        hook.check(20)
        for n, frame in enumerate(movie(3)):
            hook(frame, None)
            soon(lambda n=n: hook.progress.live == n + 1, wait_s=10)
