"""What a server takes from a client, and what it is cut off for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

import fake_engine as fake
from served import Closed, Dataset, make_hook, soon
from stormlive.ranges import Ranges
from stormlive.server import doorman
from stormlive.server.loop import Server
from stormlive.wire.codec import encode
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
    Ping,
    Pong,
    Refer,
    Welcome,
)
from strict import CREDIT, NBYTES, SHAPE, Peer, movie, start_of, statuses, strict_server


@pytest.fixture
def server(engine: fake.FakeEngine, closed: Closed) -> Iterator[Server]:
    yield from strict_server(engine, closed)


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
    with make_hook(server.address, name="good") as good, Peer(server.address) as bad:
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


def test_a_reference_counts_as_the_frame_that_it_stands_for(
    server: Server, closed: Closed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorman, "BURST", 20.0)
    monkeypatch.setattr(doorman, "PER_SECOND", 0.0)
    run, frames = uuid4(), movie(60)
    dataset = Dataset(tmp_path)
    dataset.write(frames)
    dataset.finish()
    with Peer(server.address) as peer:
        peer.say(start_of(run, dataset=str(dataset.path)))
        for n in range(60):
            peer.say(Refer(run=run, seq=n, axes=({"time": n},)))
            while (credit := peer.hear(Credit | Error)).live != ((n, n),):
                assert isinstance(credit, Credit)
        peer.say(End(run=run, n=60, exit_status="ok"))
        assert peer.hear(Final | Error).live == 60
    np.testing.assert_array_equal(closed.runs[0][1].canvas, fake.direct_canvas(frames))


def test_references_that_cannot_be_read_are_told_in_one_word(server: Server, engine: fake.FakeEngine) -> None:
    run = uuid4()
    with Peer(server.address) as peer:
        peer.say(start_of(run))  # without a dataset
        peer.frame(run, 0, movie(1)[0])
        peer.hear(Credit)  # from now on batches are larger than one
        peer.say(Refer(run=run, seq=1, axes=tuple({"time": n} for n in range(8))))
        assert peer.hear(Drop).ranges == ((1, 8),)


@pytest.mark.parametrize("breach", [[], [b"\x00\xff garbage"]], ids=["hello", "garbage, hello"])
def test_the_credit_of_a_session_that_is_over_comes_back_to_nobody(
    breach: list[bytes], server: Server, engine: fake.FakeEngine, closed: Closed
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
        with make_hook(server.address) as good:
            good(frame, None)
        assert good.report.complete
        peer.say(Ping(clock_ns=1))
        assert isinstance(peer.hear(Credit | Error | Pong), Pong)
    server.raise_if_failed()


@pytest.mark.parametrize(
    "early", [FrameHeader(run=uuid4(), seq=0, t_ns=0, dtype="uint8", shape=(1, 1), nbytes=1), Drop, End]
)
def test_nothing_before_start(early: object, server: Server) -> None:
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
    with make_hook(server.address) as good, Peer(server.address) as unlucky:
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
    with make_hook(server.address) as hook:
        hook(movie(1)[0], None)
    assert hook.report.complete


def test_more_than_the_credit_is_cut_off(server: Server, engine: fake.FakeEngine, closed: Closed) -> None:
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


def test_the_servers_memory_is_bounded_by_credit(server: Server, engine: fake.FakeEngine) -> None:
    engine.gate.clear()
    with make_hook(server.address) as hook:
        for frame in movie(500):
            hook(frame, None)
        most = CREDIT // LEAST_COST
        status = statuses(server, lambda status: status.received >= most)
        # Once more, so that anything over the credit would have had the time to arrive.
        status = statuses(server, lambda later: later.received >= status.received)
        assert status.received == most
        engine.gate.set()
    assert hook.report.complete


def test_the_smallest_frames_are_bounded_in_number(server: Server, engine: fake.FakeEngine) -> None:
    engine.gate.clear()
    most = CREDIT // LEAST_COST
    with Peer(server.address) as greedy:
        run = uuid4()
        greedy.say(start_of(run, shape=(1, 1), dtype="uint8"))
        for seq in range(most + 1):
            greedy.frame(run, seq, np.zeros((1, 1), np.uint8), dtype="uint8")
        assert greedy.hear(Error | Credit).code == "credit"
    with make_hook(server.address) as hook:  # knows the same rule
        for _ in range(10 * most):
            hook(np.zeros((1, 1), np.uint8), None)
        statuses(server, lambda status: status.run == hook.run and status.received == most)
        engine.gate.set()
    assert hook.report.complete


def test_coming_back_does_not_double_the_credit(server: Server, engine: fake.FakeEngine) -> None:
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
