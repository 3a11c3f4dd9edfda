# The fake engine is loaded by its path, so it has no type that annotations could name.
# ruff: noqa: ANN401
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
import zmq

from stormlive.acquire.hook import StreamHook
from stormlive.ranges import Ranges
from stormlive.server.loop import Server
from stormlive.server.protocols import FinishedRun
from stormlive.server.run_table import RunTable
from stormlive.wire.codec import encode, unpack
from stormlive.wire.flow import LEAST_COST
from stormlive.wire.messages import (
    PROTOCOL,
    Credit,
    Drop,
    End,
    Error,
    Final,
    FrameHeader,
    Hello,
    Message,
    Ping,
    Pong,
    Report,
    Start,
    Status,
    View,
    Viewed,
    Welcome,
)
from stormlive.wire.transport import connect_dealer, connect_subscriber, receive, send
from stormlive_sim.errors import InputError

_spec = importlib.util.spec_from_file_location("stormlive_fake_engine", Path(__file__).with_name("fake_engine.py"))
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

SHAPE = (12, 18)
NBYTES = 12 * 18 * 2
CREDIT = 20 * LEAST_COST


class Closed:
    """Takes the place of the writer of files and keeps what it was given."""

    def __init__(self) -> None:
        self.runs: list[tuple[FinishedRun, Any]] = []
        self.trouble: Exception | None = None

    def __call__(self, run: FinishedRun, canvas: object) -> str:
        self.runs.append((run, canvas))
        if self.trouble is not None:
            raise self.trouble
        return "folder"


class Peer:
    """A client that says exactly what a test makes it say."""

    def __init__(self, address: str, *, greet: bool = True) -> None:
        self.context = zmq.Context()
        self.socket = connect_dealer(self.context, address, max_part_bytes=2**20)
        assert self.socket.poll(10_000, zmq.POLLOUT)
        if greet:
            self.say(Hello(version=PROTOCOL))
            self.welcome = self.hear(Welcome)

    def say(self, message: Message, pixels: bytes | None = None) -> None:
        parts = [encode(message)] if pixels is None else [encode(message), pixels]
        assert send(self.socket, parts)

    def raw(self, *parts: bytes) -> None:
        assert send(self.socket, parts)

    def frame(self, run: UUID, seq: int, image: np.ndarray, **changes: object) -> None:
        fields = {
            "run": run,
            "seq": seq,
            "t_ns": time.perf_counter_ns(),
            "dtype": "uint16",
            "shape": image.shape,
        }
        data = image.tobytes()
        self.say(FrameHeader(**{**fields, "nbytes": len(data), **changes}), data)

    def hear(self, kind: type, wait_s: float = 20.0) -> Any:
        """Return the next message of a kind, and let others go by."""
        return self.hear_with_pixels(kind, wait_s)[0]

    def hear_with_pixels(self, kind: type, wait_s: float = 20.0) -> tuple[Any, Any]:
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            self.socket.poll(100)
            parts = receive(self.socket)
            if parts is not None:
                message, pixels = unpack(parts)
                if isinstance(message, kind):
                    return message, pixels
        raise AssertionError(f"no {kind.__name__} came")

    def close(self) -> None:
        self.socket.close(linger=0)
        self.context.term()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def closed() -> Closed:
    return Closed()


@pytest.fixture
def engine() -> Any:
    return fake.FakeEngine()


@pytest.fixture
def server(engine: Any, closed: Closed) -> Iterator[Server]:
    limits = {"max_frame_bytes": 4000, "credit_bytes": CREDIT, "max_sessions": 3}
    with Server(
        engine, finish=closed, bind="tcp://127.0.0.1:*", heartbeat_s=0.1, grace_s=0.2, max_batch=8, **limits
    ) as running:
        yield running
        engine.gate.set()
    running.raise_if_failed()


def movie(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 500, (n, *SHAPE)).astype(np.uint16)


def make_hook(server: Server, **options: object) -> StreamHook:
    return StreamHook(server.address, **{"calibration": fake.CALIBRATION, "outbox_mb": 4, **options})


def start_of(run: UUID, **changes: object) -> Start:
    fields = {"run": run, "name": "raw", "dtype": "uint16", "shape": SHAPE, "calibration": fake.CALIBRATION}
    return Start(**{**fields, **changes})


def soon(condition: Callable[[], bool], wait_s: float = 20.0) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def view(server: Server, **options: object) -> tuple[Viewed | Error, np.ndarray | None]:
    with Peer(server.view_address, greet=False) as viewer:
        viewer.say(View(request=5, **options))
        header, pixels = viewer.hear_with_pixels(Viewed | Error)
        assert header.request == 5
        return header, np.frombuffer(pixels, "<f4").reshape(header.h, header.w).copy() if pixels is not None else None


def statuses(server: Server, enough: Callable[[Status], bool]) -> Status:
    """Return the first published status that satisfies."""
    context = zmq.Context()
    subscriber = connect_subscriber(context, server.status_address)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            subscriber.poll(100)
            parts = receive(subscriber)
            if parts is not None:
                status, _ = unpack(parts)
                assert isinstance(status, Status)
                if enough(status):
                    return status
        raise AssertionError("no such status was published")
    finally:
        subscriber.close(linger=0)
        context.term()


# The picture.


def test_the_live_canvas_is_the_direct_sum(server: Server) -> None:
    frames = movie(60)
    direct = fake.direct_canvas(frames)
    with make_hook(server) as hook:
        for frame in frames:
            hook(frame, None)
        soon(lambda: hook.progress.live == 60)
        header, whole = view(server)
        assert (header.run, header.live, header.picture) == (hook.run, 60, "canvas")
        np.testing.assert_allclose(whole, direct, rtol=1e-4)
        header, part = view(server, run=hook.run, x=5, y=3, w=7, h=4)
        assert (header.x, header.y, header.w, header.h) == (5, 3, 7, 4)
        np.testing.assert_allclose(part, direct[3:7, 5:12], rtol=1e-4)
        for level in (1, 3, 16):
            _, pooled = view(server, level=level)
            assert pooled.shape == tuple(-(-side // 2**level) for side in direct.shape)
            np.testing.assert_allclose(pooled.sum(), direct.sum(), rtol=1e-4)
        photons = (frames - 100.0) * 0.5
        np.testing.assert_allclose(view(server, picture="widefield")[1], photons.mean(0), rtol=1e-4)
        np.testing.assert_allclose(view(server, picture="last", x=2)[1], photons[-1][:, 2:], rtol=1e-4)
    np.testing.assert_allclose(view(server)[1], direct, rtol=1e-4)


def test_views_are_clipped_bounded_or_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert view(server)[0].code == "no-run"
    with make_hook(server) as hook:
        hook(movie(1)[0], None)
        soon(lambda: hook.progress.live == 1)
        header, pixels = view(server, x=30, y=1000, w=50, h=50)
        assert (header.x, header.y, header.w, header.h) == (30, 24, 6, 0)
        assert pixels.size == 0
        assert view(server, run=uuid4())[0].code == "no-run"
        assert view(server, picture="last", level=1)[0].code == "bad-view"
        monkeypatch.setattr("stormlive.server.views.MAX_VIEW_BYTES", 100)
        assert view(server)[0].code == "too-large"
        monkeypatch.setattr(fake.FakeReconstruction, "view", lambda *_: 1 / 0)
        assert view(server, w=2, h=2)[0].code == "view-failed"
    assert hook.report.complete


def test_two_runs_at_once_do_not_mix(server: Server, closed: Closed) -> None:
    movies = {name: movie(150, seed) for seed, name in enumerate(["a", "b"])}
    hooks = {name: make_hook(server, name=name) for name in movies}

    def acquire(name: str) -> None:
        for frame in movies[name]:
            hooks[name](frame, None)
        hooks[name].close()

    threads = [threading.Thread(target=acquire, args=(name,)) for name in movies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(hook.report.complete for hook in hooks.values())
    assert {run.start.name for run, _ in closed.runs} == {"a", "b"}
    for run, canvas in closed.runs:
        np.testing.assert_allclose(canvas.canvas, fake.direct_canvas(movies[run.start.name]), rtol=1e-4)


def test_a_view_is_answered_while_frames_wait(server: Server, engine: Any) -> None:
    engine.frame_s = 0.02
    with make_hook(server) as hook:
        for frame in movie(300):
            hook(frame, None)
        soon(lambda: hook.progress.live > 0)
        header, _ = view(server)
        engine.frame_s = 0.0
    assert header.live < 300
    assert hook.report.complete


def test_waiting_frames_go_to_the_engine_together_but_not_all_at_once(server: Server, engine: Any) -> None:
    engine.gate.clear()
    with make_hook(server) as hook:
        for frame in movie(100):
            hook(frame, None)
        soon(lambda: statuses(server, lambda s: s.backlog > 10) is not None)
        engine.gate.set()
    assert max(engine.batches) == 8
    assert sum(engine.batches) == 100


def test_status_tells_how_it_goes(server: Server, engine: Any) -> None:
    idle = statuses(server, lambda status: True)
    assert (idle.state, idle.model, idle.run) == ("idle", "fake", None)
    with make_hook(server, name="cell", expected=99) as hook:
        for frame in movie(30):
            hook(frame, None)
        status = statuses(server, lambda status: status.live == 30)
        assert (status.state, status.run, status.name, status.expected) == ("running", hook.run, "cell", 99)
        assert (status.shape, status.upsampling, status.pixel_size_nm) == (SHAPE, 2, 100.0)
        assert (status.received, status.dropped, status.backlog) == (30, 0, 0)
        assert status.frames_per_s > 0
        assert 0 <= status.latency_p50_ms <= status.latency_p99_ms < 60_000
        engine.gate.clear()
        hook(np.zeros((3, 3), np.uint8), None)
        for frame in movie(15):
            hook(frame, None)
        status = statuses(server, lambda status: status.backlog > 0 and status.dropped > 0)
        engine.gate.set()
    assert (status.live, status.dropped) == (30, 1)
    last = statuses(server, lambda status: status.state == "finished")
    assert (last.live, last.dropped, last.exit_status) == (45, 1, "ok")


def test_latency_is_measured_on_the_senders_clock_moved_to_ours(server: Server, engine: Any) -> None:
    with Peer(server.address) as peer:
        run, frame = uuid4(), movie(1)[0]
        peer.say(start_of(run))
        for seq in range(4):
            peer.frame(run, seq, frame, t_ns=time.perf_counter_ns() - 5_000_000_000)
        peer.hear(Credit)
        peer.say(Ping(clock_ns=77))
        pong = peer.hear(Pong)
        assert pong.ping_ns == 77
        assert abs(pong.clock_ns - time.perf_counter_ns()) < 20e9
        status = statuses(server, lambda status: status.live == 4)
        assert 5_000 <= status.latency_p50_ms < 60_000
        peer.say(End(run=run, n=4, exit_status="ok"))
        peer.hear(Final)


# The account.


def test_drops_and_what_never_came_are_in_the_account(server: Server, closed: Closed) -> None:
    with Peer(server.address) as peer:
        run, frames = uuid4(), movie(10)
        peer.say(start_of(run))
        for seq in (0, 1, 2, 5, 6):
            peer.frame(run, seq, frames[seq])
        peer.say(Drop(run=run, ranges=((3, 3),), reason="outbox full"))
        peer.say(End(run=run, n=10, exit_status="user stopped"))
        assert peer.hear(Report).missing == ()  # the answer to START
        assert peer.hear(Report).missing == ((3, 4), (7, 9))
        peer.say(Drop(run=run, ranges=((3, 3), (7, 9)), reason="it is gone"))
        peer.frame(run, 4, frames[4], replay=True)
        final = peer.hear(Final)
    assert (final.frames, final.live, final.replayed, final.exit_status) == (10, 5, 1, "user stopped")
    assert final.missing == {"outbox full": 1, "it is gone": 3}
    assert final.sentence == (
        "6 of 10 frames are in the picture (5 live, 1 replayed); 4 are missing: 3 (outbox full), 7-9 (it is gone)."
    )
    assert final.folder == "folder"
    assert closed.runs[0][0].ledger.live == Ranges([(0, 2), (5, 6)])


def test_a_sender_that_comes_back_counts_nothing_twice(server: Server, closed: Closed) -> None:
    run, frames = uuid4(), movie(15)
    with Peer(server.address) as before:
        before.say(start_of(run))
        for seq in range(10):
            before.frame(run, seq, frames[seq])
        before.hear(Credit)
    with Peer(server.address) as after:
        assert after.welcome.epoch == before.welcome.epoch
        after.say(start_of(run))
        for seq in range(15):
            after.frame(run, seq, frames[seq])
        after.say(End(run=run, n=15, exit_status="ok"))
        live = Ranges()
        while live.count() < 15:
            live.merge(Ranges(after.hear(Credit).live))
        assert after.hear(Final).live == 15
    ((finished, canvas),) = closed.runs
    assert finished.ledger.refused_duplicates >= 1
    np.testing.assert_allclose(canvas.canvas, fake.direct_canvas(frames), rtol=1e-4)
    with Peer(server.address) as again:
        again.say(start_of(run))
        again.frame(run, 0, frames[0])
        assert again.hear(Final).live == 15
        assert not again.hear(Error).fatal
    assert len(closed.runs) == 1


def test_a_sender_that_is_lost_leaves_its_picture(server: Server, closed: Closed) -> None:
    run, frames = uuid4(), movie(6)
    with Peer(server.address) as peer:
        peer.say(start_of(run))
        for seq in range(6):
            peer.frame(run, seq, frames[seq])
        peer.hear(Credit)
    soon(lambda: len(closed.runs) == 1)
    finished, canvas = closed.runs[0]
    assert finished.exit_status == "sender lost"
    assert finished.ledger.live == Ranges([(0, 5)])
    np.testing.assert_allclose(canvas.canvas, fake.direct_canvas(frames), rtol=1e-4)


def test_a_heartbeat_alone_keeps_a_run_open(server: Server, closed: Closed) -> None:
    run = uuid4()
    with Peer(server.address) as before:
        before.say(start_of(run))
        before.say(Ping(clock_ns=0))
        before.hear(Pong)
    with Peer(server.address) as peer:
        peer.say(start_of(run))  # the silence of the connection before is over
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            peer.say(Ping(clock_ns=0))
            peer.hear(Pong)
            time.sleep(0.05)
        assert closed.runs == []
        peer.say(End(run=run, n=0, exit_status="ok"))
        final = peer.hear(Final)
        assert (final.sentence, final.exit_status) == ("The run has no frames.", "ok")


def test_stop_closes_open_runs_and_waits_until_senders_know(
    engine: Any, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stormlive.server.front._FAREWELL_S", 20.0)
    run, frames = uuid4(), movie(6)
    with Server(engine, finish=closed, bind="tcp://127.0.0.1:*") as server, Peer(server.address) as peer:
        peer.say(start_of(run))
        for seq in range(6):
            peer.frame(run, seq, frames[seq])
        peer.hear(Credit)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        soon(lambda: len(closed.runs) == 1)
        time.sleep(0.3)  # a server that does not wait would hang up meanwhile, and FINAL would be lost
        final = peer.hear(Final)
        assert (final.exit_status, final.live) == ("server stopped", 6)
        peer.close()
        stopping.join()
        assert server.wait(1)
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(frames), rtol=1e-4)


def test_files_that_cannot_be_written_do_not_cost_the_picture(server: Server, closed: Closed) -> None:
    closed.trouble = OSError(28, "No space left on device")
    with make_hook(server) as hook:
        for frame in movie(5):
            hook(frame, None)
    assert hook.report.complete
    assert hook.report.folder is None
    assert hook.report.failed == "the files could not be written: [Errno 28] No space left on device"
    np.testing.assert_allclose(view(server, run=hook.run)[1], fake.direct_canvas(movie(5)), rtol=1e-4)
    closed.trouble = None
    with make_hook(server) as hook:
        hook(movie(1)[0], None)
    assert hook.report.folder == "folder"


def test_a_table_that_fails_at_length_still_gets_its_final(engine: Any, closed: Closed) -> None:
    class FullDisk:
        def close(self, n_frames: int) -> None:
            raise OSError(28, "No space left on device", "x" * 400)

    with (
        Server(engine, finish=closed, bind="tcp://127.0.0.1:*", open_table=lambda _: RunTable(FullDisk())) as server,
        Peer(server.address) as peer,
    ):
        run = uuid4()
        peer.say(start_of(run))
        peer.say(End(run=run, n=0, exit_status="ok"))
        error = peer.hear(Final).error
    assert error.startswith("the table of localizations is not complete: [Errno 28]")


def test_an_engine_that_fails_for_one_run_goes_on_with_others(
    server: Server, engine: Any, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = fake.FakeReconstruction.add

    def add(self: Any, frames: np.ndarray) -> None:
        if frames.max() >= 60_000:
            raise RuntimeError("CUDA out of memory\nTried to allocate 2 GiB")
        healthy(self, frames)

    monkeypatch.setattr(fake.FakeReconstruction, "add", add)
    with make_hook(server, name="good") as good, make_hook(server, name="bad") as bad:
        for n, frame in enumerate(movie(50)):
            good(frame, None)
            bad(frame if n < 40 else np.full_like(frame, 65_000), None)
    assert good.report.complete
    assert bad.failed == "the server ended the run: engine failed: CUDA out of memory Tried to allocate 2 GiB"
    finished = {run.start.name: run for run, _ in closed.runs}
    assert finished["bad"].ledger.live == bad.report.live
    assert bad.report.live.count() <= 40


def test_what_ends_a_thread_reaches_the_owner(engine: Any, closed: Closed, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(engine, finish=closed, bind="tcp://127.0.0.1:*")
    monkeypatch.setattr("stormlive.server.worker.Worker._open", lambda worker, run: 1 / 0)
    server.start()
    with Peer(server.address) as peer:
        peer.say(start_of(uuid4()))
        assert server.wait(20)
    with pytest.raises(RuntimeError, match="division by zero"):
        server.raise_if_failed()


# The rules.


def test_a_port_in_use_is_one_clear_line(server: Server, engine: Any, closed: Closed) -> None:
    with pytest.raises(InputError, match=r"is in use: is another stormlive serve running\?"):
        Server(engine, finish=closed, bind=server.address).start()


@pytest.mark.parametrize("limits", [{"credit_bytes": 10, "max_frame_bytes": 11}, {"max_batch": 0}])
def test_limits_that_contradict_each_other(limits: dict[str, int], engine: Any, closed: Closed) -> None:
    with pytest.raises(InputError):
        Server(engine, finish=closed, **limits)


def test_another_version_is_refused(server: Server) -> None:
    with Peer(server.address, greet=False) as peer:
        peer.say(Hello(version="stormlive-2"))
        error = peer.hear(Error)
    assert (error.code, error.fatal) == ("version", True)
    assert "stormlive-2" in error.message


def test_a_viewer_learns_the_ports_without_taking_a_session(server: Server) -> None:
    for _ in range(10):
        with Peer(server.address, greet=False) as viewer:
            viewer.say(Hello(version=PROTOCOL, role="viewer"))
            welcome = viewer.hear(Welcome)
    assert server.view_address.endswith(f":{welcome.view_port}")
    assert server.status_address.endswith(f":{welcome.status_port}")


def test_sessions_are_bounded_and_free_again(server: Server) -> None:
    peers = [Peer(server.address) for _ in range(3)]
    with Peer(server.address, greet=False) as fourth:
        fourth.say(Hello(version=PROTOCOL))
        error = fourth.hear(Error)
        assert (error.code, error.fatal) == ("busy", False)
        for peer in peers:
            peer.close()

        def welcomed() -> bool:
            fourth.say(Hello(version=PROTOCOL))
            return isinstance(fourth.hear(Error | Welcome), Welcome)

        soon(welcomed)


BREACHES: dict[str, Callable[[Peer, UUID], None]] = {
    "garbage": lambda peer, run: peer.raw(b"\x00\xff garbage"),
    "empty": lambda peer, run: peer.raw(b""),
    "many parts": lambda peer, run: peer.raw(*[b"x"] * 100),
    "no pixels": lambda peer, run: peer.raw(
        encode(FrameHeader(run=run, seq=0, t_ns=0, dtype="uint16", shape=SHAPE, nbytes=NBYTES))
    ),
    "other shape": lambda peer, run: peer.frame(run, 0, np.zeros((3, 3), np.uint16)),
    "other dtype": lambda peer, run: peer.frame(run, 0, np.zeros(SHAPE, np.uint8), dtype="uint8"),
    "other run": lambda peer, run: peer.frame(uuid4(), 0, movie(1)[0]),
    "second start": lambda peer, run: peer.say(start_of(uuid4())),
    "drop of another run": lambda peer, run: peer.say(Drop(run=uuid4(), ranges=((0, 9),), reason="r")),
    "end of another run": lambda peer, run: peer.say(End(run=uuid4(), n=0, exit_status="ok")),
    "server's message": lambda peer, run: peer.say(Credit(bytes=1)),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_who_breaks_the_rules_is_cut_off_and_nobody_else_notices(breach: str, server: Server, closed: Closed) -> None:
    with make_hook(server, name="good") as good, Peer(server.address) as bad:
        run, frame = uuid4(), movie(1)[0]
        bad.say(start_of(run, name="bad"))
        bad.frame(run, 0, frame)
        bad.hear(Credit)
        for n, image in enumerate(movie(30)):
            good(image, None)
            if n == 15:
                BREACHES[breach](bad, run)
        assert bad.hear(Error).fatal
        soon(lambda: len(closed.runs) == 1)
        bad.frame(run, 1, frame)
        error = bad.hear(Error)
        assert (error.code, error.fatal) == ("session", False)
    assert good.report.complete
    finished = {run.start.name: run for run, _ in closed.runs}
    assert finished["bad"].exit_status.startswith("protocol error: ")
    assert finished["bad"].ledger.live == Ranges([(0, 0)])
    assert finished["good"].exit_status == "ok"


@pytest.mark.parametrize("breach", [[], [b"\x00\xff garbage"]], ids=["hello", "garbage, hello"])
def test_the_credit_of_a_session_that_is_over_comes_back_to_nobody(
    breach: list[bytes], server: Server, engine: Any, closed: Closed
) -> None:
    engine.gate.clear()
    with Peer(server.address) as peer:
        run, frame = uuid4(), movie(1)[0]
        peer.say(start_of(run))
        peer.frame(run, 0, frame)
        statuses(server, lambda status: status.received == 1 and status.backlog == 0)  # the engine is in a batch
        for part in breach:
            peer.raw(part)
            assert peer.hear(Error).fatal
        peer.say(Hello(version=PROTOCOL))
        peer.hear(Welcome)
        engine.gate.set()
        with make_hook(server) as good:
            good(frame, None)
        assert good.report.complete
        peer.say(Ping(clock_ns=1))
        assert isinstance(peer.hear(Credit | Error | Pong), Pong)
    server.raise_if_failed()


@pytest.mark.parametrize(
    "early", [FrameHeader(run=uuid4(), seq=0, t_ns=0, dtype="uint8", shape=(1, 1), nbytes=1), Drop, End]
)
def test_nothing_before_start(early: Any, server: Server) -> None:
    with Peer(server.address) as peer:
        if early is Drop:
            peer.say(Drop(run=uuid4(), ranges=((0, 1),), reason="r"))
        elif early is End:
            peer.say(End(run=uuid4(), n=0, exit_status="ok"))
        else:
            peer.say(early, b"\0")
        assert peer.hear(Error).fatal


def test_frames_over_the_limit_are_refused_at_start(server: Server) -> None:
    with Peer(server.address) as peer:
        peer.say(start_of(uuid4(), shape=(1000, 1000)))
        error = peer.hear(Error)
    assert (error.code, error.fatal) == ("too-large", True)


def test_a_run_cannot_be_taken_up_as_another_one(server: Server, closed: Closed) -> None:
    run = uuid4()
    with Peer(server.address) as first, Peer(server.address) as second:
        first.say(start_of(run))
        first.frame(run, 0, movie(1)[0])
        first.hear(Credit)
        second.say(start_of(run, shape=(3, 3)))
        assert second.hear(Error).fatal


def test_a_mistake_of_ours_costs_one_client_only(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_hook(server) as good, Peer(server.address) as unlucky:
        good(movie(1)[0], None)
        run = uuid4()
        unlucky.say(start_of(run))
        monkeypatch.setattr(server._runs, "drop", lambda *_: 1 / 0)
        unlucky.say(Drop(run=run, ranges=((0, 1),), reason="r"))
        error = unlucky.hear(Error)
        assert (error.code, error.fatal) == ("internal", True)
        good(movie(1)[0], None)
    assert good.report.complete


@pytest.mark.parametrize("port", ["view", "data"])
def test_garbage_to_any_port_is_answered_and_survived(port: str, server: Server) -> None:
    address = server.view_address if port == "view" else server.address
    with Peer(address, greet=False) as stranger:
        for parts in ([b"\xff" * 500], [b""], [b"x", b"y", b"z"], [encode(Ping(clock_ns=0))], [bytes(9000)]):
            stranger.raw(*parts)
            stranger.hear(Error)
    with make_hook(server) as hook:
        hook(movie(1)[0], None)
    assert hook.report.complete


def test_more_than_the_credit_is_cut_off(server: Server, engine: Any, closed: Closed) -> None:
    engine.gate.clear()
    with Peer(server.address) as greedy:
        run, frame = uuid4(), movie(1)[0]
        greedy.say(start_of(run))
        most = greedy.welcome.credit_bytes // LEAST_COST
        for seq in range(most):
            greedy.frame(run, seq, frame)
        greedy.say(Ping(clock_ns=1))
        greedy.hear(Pong)  # no ERROR so far
        greedy.frame(run, most, frame)
        error = greedy.hear(Error)
        assert (error.code, error.fatal) == ("credit", True)
    engine.gate.set()


def test_the_servers_memory_is_bounded_by_credit(server: Server, engine: Any) -> None:
    engine.gate.clear()
    with make_hook(server) as hook:
        for frame in movie(500):
            hook(frame, None)
        most = CREDIT // LEAST_COST
        status = statuses(server, lambda status: status.received >= most)
        # Once more, so that anything over the credit would have had the time to arrive.
        status = statuses(server, lambda later: later.received >= status.received)
        assert status.received == most
        engine.gate.set()
    assert hook.report.complete


def test_the_smallest_frames_are_bounded_in_number(server: Server, engine: Any) -> None:
    engine.gate.clear()
    most = CREDIT // LEAST_COST
    with Peer(server.address) as greedy:
        run = uuid4()
        greedy.say(start_of(run, shape=(1, 1), dtype="uint8"))
        for seq in range(most + 1):
            greedy.frame(run, seq, np.zeros((1, 1), np.uint8), dtype="uint8")
        assert greedy.hear(Error | Credit).code == "credit"
    with make_hook(server) as hook:  # knows the same rule
        for _ in range(10 * most):
            hook(np.zeros((1, 1), np.uint8), None)
        statuses(server, lambda status: status.run == hook.run and status.received == most)
        engine.gate.set()
    assert hook.report.complete


def test_coming_back_does_not_double_the_credit(server: Server, engine: Any) -> None:
    engine.gate.clear()
    run, frame = uuid4(), movie(1)[0]
    most = CREDIT // LEAST_COST
    for attempt in (1, 2):
        with Peer(server.address) as peer:
            peer.say(start_of(run))
            for seq in range(most):
                peer.frame(run, seq, frame)
            peer.say(Ping(clock_ns=1))
            peer.hear(Pong)
            backlog = statuses(server, lambda status, n=attempt * most: status.received == n).backlog
            assert most - 1 <= backlog <= most
    engine.gate.set()


def test_a_viewers_newer_question_replaces_its_older_one(server: Server, engine: Any) -> None:
    with make_hook(server) as hook:
        hook(movie(1)[0], None)
        soon(lambda: hook.progress.live == 1)
        engine.gate.clear()
        hook(movie(1)[0], None)
        soon(lambda: hook.progress.backlog == 1)
        statuses(server, lambda status: status.received == 2 and status.backlog == 0)  # the engine is in a batch
        with Peer(server.view_address, greet=False) as viewer:
            for request in range(20):
                viewer.say(View(request=request))
            viewer.raw(b"garbage")
            viewer.hear(Error)  # so all views have arrived
            engine.gate.set()
            assert viewer.hear(Viewed).request == 19
