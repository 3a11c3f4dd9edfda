import importlib.util
import inspect
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
import zmq

from stormlive.acquire import connection, outbox, sender
from stormlive.acquire.hook import HookReport, StreamHook
from stormlive.ranges import Ranges
from stormlive.server.loop import Server
from stormlive.server.protocols import FinishedRun
from stormlive.wire.codec import encode, unpack
from stormlive.wire.messages import PROTOCOL, Credit, Error, Final, Hello, Message, Start, View, Viewed, Welcome
from stormlive.wire.transport import bind_router, connect_dealer, endpoint, receive, send
from stormlive_sim.errors import InputError

FAKE = Path(__file__).with_name("fake_engine.py")
_spec = importlib.util.spec_from_file_location("stormlive_fake_engine", FAKE)
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

SHAPE = (12, 16)
FRAME_BYTES = 12 * 16 * 2


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.5)
    monkeypatch.setattr(sender, "LONGEST_PAUSE_S", 0.4)


class Closed:
    """Takes the place of the writer of files and keeps what it was given."""

    def __init__(self) -> None:
        self.runs: list[tuple[FinishedRun, Any]] = []

    def __call__(self, run: FinishedRun, canvas: object) -> str:
        self.runs.append((run, canvas))
        return "folder"


@pytest.fixture
def closed() -> Closed:
    return Closed()


@pytest.fixture
def server(closed: Closed) -> Iterator[Server]:
    with Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", heartbeat_s=0.2) as running:
        yield running
    running.raise_if_failed()


def movie(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 500, (n, *SHAPE)).astype(np.uint16)


def make_hook(address: str, **options: object) -> StreamHook:
    return StreamHook(address, **{"calibration": fake.CALIBRATION, "outbox_mb": 4, **options})


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def soon(condition: Callable[[], bool], wait_s: float = 20.0) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def assert_every_frame_once(report: HookReport) -> None:
    classes = [report.live, report.replayed, *report.missing.values()]
    numbers = [n for ranges in classes for first, last in ranges for n in range(first, last + 1)]
    assert sorted(numbers) == list(range(report.offered))


class ServerProcess:
    """A server with the fake engine in a process that can be suspended and killed."""

    def __init__(self, bind: str = "tcp://127.0.0.1:*", frame_s: float = 0.0) -> None:
        code = f"import sys, runpy; sys.path[:0] = {sys.path!r}; sys.argv = {['x', bind, str(frame_s)]!r}; "
        self._process = subprocess.Popen(
            [sys.executable, "-c", code + f"runpy.run_path({str(FAKE)!r}, run_name='__main__')"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self._process.stdout.readline().strip()
        self._control = psutil.Process(self._process.pid)

    def suspend(self) -> None:
        self._control.suspend()

    def resume(self) -> None:
        self._control.resume()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.stdin.close()
        self._process.stdout.close()


def seen_canvas(address: str, welcome: Welcome) -> np.ndarray:
    context = zmq.Context()
    dealer = connect_dealer(context, f"tcp://127.0.0.1:{welcome.view_port}", max_part_bytes=2**20)
    try:
        assert dealer.poll(10_000, zmq.POLLOUT)
        send(dealer, [encode(View(request=1))])
        assert dealer.poll(10_000)
        header, pixels = unpack(receive(dealer))
        assert isinstance(header, Viewed)
        return np.frombuffer(pixels, "<f4").reshape(header.h, header.w).copy()
    finally:
        dealer.close(linger=0)
        context.term()


# The hook as a callable.


def test_pycromanager_sees_two_parameters(server: Server) -> None:
    with make_hook(server.address) as hook:
        assert len(inspect.signature(hook).parameters) == 2


def test_the_very_same_pair_comes_back(server: Server) -> None:
    image, metadata = movie(1)[0], {"Axes": {"time": 0}}
    before = image.copy()
    with make_hook(server.address) as hook:
        returned = hook(image, metadata)
        alone = hook(image)
    assert returned[0] is image
    assert returned[1] is metadata
    assert alone[0] is image
    assert alone[1] is None
    assert metadata == {"Axes": {"time": 0}}
    np.testing.assert_array_equal(image, before)
    assert hook(image, metadata)[0] is image  # closed, and still harmless
    assert hook.report.offered == 2


class Hostile:
    """Raises whatever one asks of it."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("no")

    def __array__(self, *args: object, **kwargs: object) -> object:
        raise RuntimeError("no")


GARBAGE = [
    None,
    "text",
    b"bytes",
    7,
    [],
    [[1, 2], [3]],
    object(),
    Hostile(),
    np.zeros((4, 5, 3), np.uint8),
    np.zeros((0, 5), np.uint16),
    np.zeros(7, np.uint16),
    np.zeros(SHAPE, np.complex64),
    np.zeros(SHAPE, np.int32),
    np.zeros(SHAPE, "datetime64[s]"),
    np.array([["a"]], dtype=object),
    np.zeros((1, 70_000), np.uint8),
]


def test_garbage_never_raises_and_is_counted(server: Server, closed: Closed) -> None:
    frames = movie(len(GARBAGE))
    with make_hook(server.address) as hook:
        for garbage, frame in zip(GARBAGE, frames, strict=True):
            assert hook(garbage, garbage)[0] is garbage
            hook(frame, {"Axes": garbage, 5: garbage})
    report = hook.report
    assert_every_frame_once(report)
    assert report.live == Ranges((2 * n + 1, 2 * n + 1) for n in range(len(GARBAGE)))
    assert isinstance(hook.error, Exception)
    assert closed.runs[0][0].ledger.missing_counts() == {
        reason: ranges.count() for reason, ranges in report.missing.items()
    }


@pytest.mark.parametrize(
    "form",
    [
        lambda f: f,
        lambda f: np.asfortranarray(f),
        lambda f: np.repeat(f, 2, axis=1)[:, ::2],
        lambda f: f.astype(">u2"),
        lambda f: f.astype(np.float32),
        lambda f: f.astype(np.float64),
        lambda f: (f // 4).astype(np.uint8),
        lambda f: np.ma.masked_array(f),
    ],
    ids=["plain", "fortran", "strided", "big-endian", "float32", "float64", "uint8", "masked"],
)
def test_whatever_form_an_image_has_its_numbers_arrive(form: Callable, server: Server, closed: Closed) -> None:
    frames = [form(frame) for frame in movie(5)]
    with make_hook(server.address) as hook:
        for frame in frames:
            hook(frame, None)
    assert hook.report.complete
    assert hook.error is None
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(np.array(frames)), rtol=1e-5)


def test_a_changed_roi_is_a_gap_and_no_more(server: Server) -> None:
    with make_hook(server.address) as hook:
        for frame in [*movie(3), *np.zeros((4, 5, 5), np.uint16), *movie(2), *movie(2).astype(np.uint8)]:
            hook(frame, {})
    report = hook.report
    assert_every_frame_once(report)
    assert report.live == Ranges([(0, 2), (7, 8)])
    assert len(report.missing) == 2
    assert all("differs from the run's first frame" in reason for reason in report.missing)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"address": "tcp://10.0.0.1:5557"}, "loopback"),
        ({"address": "127.0.0.1"}, "address"),
        ({"calibration": None}, "pixel_size_nm, baseline_adu, photons_per_adu, exposure_ms missing"),
        (
            {"calibration": None, "pixel_size_nm": 100, "baseline_adu": 1, "exposure_ms": 1},
            "photons_per_adu missing",
        ),
        ({"pixel_size_nm": 100}, "not both"),
        ({"name": "../../etc"}, "name"),
        ({"outbox_mb": 0}, "outbox_mb"),
    ],
)
def test_bad_arguments_are_told_before_the_acquisition(options: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        StreamHook(**{"address": "tcp://127.0.0.1:5557", "calibration": fake.CALIBRATION, **options})


# The server is there.


def test_every_frame_of_a_healthy_run_is_in_the_picture(server: Server, closed: Closed) -> None:
    frames = movie(500)
    with make_hook(server.address, name="cell 1", expected=500, dataset="/data/x") as hook:
        assert hook.check(20).model == "fake"
        for n, frame in enumerate(frames):
            hook(frame, {"Axes": {"time": n}})
        soon(lambda: hook.progress.live == 500)
        assert hook.progress.backlog == 0
        assert hook.progress.connected
    assert hook.report.complete
    assert hook.report.sentence == "500 of 500 frames are in the picture."
    assert hook.report.folder == "folder"
    assert hook.report.failed is None
    ((run, canvas),) = closed.runs
    np.testing.assert_allclose(canvas.canvas, fake.direct_canvas(frames), rtol=1e-4)
    assert run.exit_status == "ok"
    assert run.ledger.live == hook.report.live
    assert (run.start.name, run.start.expected, run.start.dataset) == ("cell 1", 500, "/data/x")
    assert 0 <= run.latency_p50_ms <= run.latency_p99_ms
    assert run.duration_s > 0


def test_a_camera_that_reuses_its_buffer_changes_nothing(server: Server, closed: Closed) -> None:
    frames, buffer = movie(200), np.zeros(SHAPE, np.uint16)
    with make_hook(server.address) as hook:
        for frame in frames:
            buffer[:] = frame
            hook(buffer, None)
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(frames), rtol=1e-4)


class OtherClock:
    """The time module of a machine that was started at another time."""

    def __init__(self, shift_ns: int) -> None:
        self._shift_ns = shift_ns

    def perf_counter_ns(self) -> int:
        return time.perf_counter_ns() + self._shift_ns

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


@pytest.mark.parametrize("hours", [-1, 1])
def test_latency_does_not_depend_on_the_hooks_clock(
    hours: int, server: Server, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (connection, outbox):
        monkeypatch.setattr(module, "time", OtherClock(hours * 3_600_000_000_000))
    with make_hook(server.address) as hook:
        for frame in movie(20):
            hook(frame, None)
    assert 0 < closed.runs[0][0].latency_p50_ms < 60_000


def test_large_frames_that_are_not_copied_arrive_whole(closed: Closed) -> None:
    frames = np.random.default_rng(1).integers(90, 500, (40, 300, 300)).astype(np.uint16)
    assert frames[0].nbytes > 128 * 1024
    limits = {"credit_bytes": 3 * frames[0].nbytes, "max_frame_bytes": frames[0].nbytes}
    with (
        Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", **limits) as server,
        make_hook(server.address, outbox_mb=10) as hook,
    ):
        for frame in frames:
            hook(frame, None)
    assert hook.report.complete
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(frames), rtol=1e-4)


def test_a_full_outbox_refuses_the_newest_frames(closed: Closed) -> None:
    engine = fake.FakeEngine()
    engine.gate.clear()
    with Server(engine, finish=closed, bind="tcp://127.0.0.1:*") as server:
        hook = make_hook(server.address, outbox_mb=100 * FRAME_BYTES / 2**20, spool_mb=0)
        for frame in movie(150):
            hook(frame, None)
        assert hook.progress.missing == 50
        engine.gate.set()
        soon(lambda: hook.progress.live == 100)
        for frame in movie(10):
            hook(frame, None)
        report = hook.close()
    assert_every_frame_once(report)
    assert report.missing == {"outbox full": Ranges([(100, 149)])}
    assert report.sentence == "110 of 160 frames are in the picture; 50 are missing: 100-149 (outbox full)."
    assert closed.runs[0][0].ledger.sentence() == report.sentence


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
    for frame in movie(2):
        hook(frame, None)
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


# The server is not there, or not always.


def test_without_a_server_everything_is_accounted_and_close_does_not_hang() -> None:
    address = free_address()
    hook = make_hook(address, outbox_mb=100 * FRAME_BYTES / 2**20)
    with pytest.raises(ConnectionError, match="is stormlive serve running"):
        hook.check(0.1)
    for frame in movie(150):
        hook(frame, None)
    report = hook.close(timeout_s=0.3)
    assert_every_frame_once(report)
    assert report.missing == {"no server": Ranges([(0, 99)]), "outbox full": Ranges([(100, 149)])}
    assert report.folder is None
    assert not hook.progress.connected


def test_a_server_that_appears_late_gets_what_waited(closed: Closed) -> None:
    address, frames = free_address(), movie(80)
    hook = make_hook(address)
    for frame in frames[:50]:
        hook(frame, None)
    with Server(fake.FakeEngine(), finish=closed, bind=address):
        hook.check(20)
        for frame in frames[50:]:
            hook(frame, None)
        report = hook.close(20)
    assert report.complete
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(frames), rtol=1e-4)


def test_a_suspended_server_costs_what_the_outbox_cannot_hold() -> None:
    with ServerProcess() as server:
        hook = make_hook(server.address, outbox_mb=200 * FRAME_BYTES / 2**20, spool_mb=0)
        hook.check(20)
        for frame in movie(10):
            hook(frame, None)
        soon(lambda: hook.progress.live == 10)
        server.suspend()
        for frame in movie(1000):
            hook(frame, None)
        assert hook.progress.offered == 1010
        assert hook.progress.missing >= 800
        server.resume()
        report = hook.close(20)
    assert_every_frame_once(report)
    assert list(report.missing) == ["outbox full"]
    assert report.live.count() >= 210
    assert report.folder == "folder"


def test_a_server_given_up_and_found_again_counts_nothing_twice() -> None:
    frames = movie(300)
    with ServerProcess(frame_s=0.001) as server:
        hook = make_hook(server.address)
        welcome = hook.check(20)
        for frame in frames[:100]:
            hook(frame, None)
        soon(lambda: hook.progress.live > 0)
        server.suspend()
        for frame in frames[100:200]:
            hook(frame, None)
        soon(lambda: not hook.progress.connected)
        server.resume()
        soon(lambda: hook.progress.connected)
        for frame in frames[200:]:
            hook(frame, None)
        report = hook.close(20)
        assert report.complete
        canvas = seen_canvas(server.address, welcome)
    np.testing.assert_allclose(canvas, fake.direct_canvas(frames), rtol=1e-4)


def test_a_server_that_dies_takes_what_it_had_not_acknowledged() -> None:
    with ServerProcess() as server:
        hook = make_hook(server.address)
        for frame in movie(30):
            hook(frame, None)
        soon(lambda: hook.progress.live == 30)
        server.suspend()
        for frame in movie(30):
            hook(frame, None)
        server.kill()
        soon(lambda: not hook.progress.connected)
        for frame in movie(5):
            hook(frame, None)
        report = hook.close(timeout_s=0.5)
    assert_every_frame_once(report)
    assert report.live == Ranges([(0, 29)])
    assert report.missing == {"server lost": Ranges([(30, 64)])}
    assert report.folder is None


def test_the_picture_of_a_dead_server_is_not_claimed_for_its_successor(closed: Closed) -> None:
    frames = movie(100)
    with ServerProcess() as first:
        hook = make_hook(first.address)
        for frame in frames[:60]:
            hook(frame, None)
        soon(lambda: hook.progress.live == 60)
        first.kill()
        for frame in frames[60:]:
            hook(frame, None)
        with Server(fake.FakeEngine(), finish=closed, bind=first.address, heartbeat_s=0.2):
            soon(lambda: hook.progress.live == 40)
            report = hook.close(20)
    assert_every_frame_once(report)
    assert report.missing == {"server lost": Ranges([(0, 59)])}
    assert closed.runs[0][0].ledger.sentence() == report.sentence
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(frames[60:]), rtol=1e-4)
