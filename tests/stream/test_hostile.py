"""Whoever is inside cannot disturb another client's run, with words or with too much of them."""

import contextlib
import socket as plain_socket
import sys
import threading
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import msgspec
import pytest

import fake_engine as fake
from hostile import (
    GREETED,
    LIMITS,
    PATIENCE_S,
    PINGED,
    Closed,
    GoodRun,
    Peer,
    all_until_hung_up,
    frame_fields,
    guarded_server,
    raw,
    start_of,
    zmtp,
    zmtp_part,
)
from stormlive.server import doorman, runs
from stormlive.server.loop import Server
from stormlive.wire.codec import MAX_HEADER_BYTES, encode
from stormlive.wire.messages import Credit, Error, Ping, Pong, Welcome
from stormlive.wire.transport import port_of


@pytest.fixture
def closed() -> Closed:
    return Closed()


@pytest.fixture
def server(closed: Closed) -> Iterator[Server]:
    yield from guarded_server(closed)


def started(run: UUID) -> list[tuple[bytes, ...]]:
    return [(GREETED,), (encode(start_of(run)),)]


def bad_frame(identity: UUID, pixels: int = 432, **changes: object) -> list[tuple[bytes, ...]]:
    return [*started(identity), (raw(**{**frame_fields(identity), **changes}), bytes(pixels))]


def end_of(run: UUID, n: int) -> tuple[bytes]:
    return (raw(type="end", run=run, n=n, exit_status="ok", dropped=0),)


def gaps(run: UUID) -> list[tuple[bytes, ...]]:
    spread = [[[2**38 * n + 2 * k] * 2 for k in range(256)] for n in range(40)]
    return [(raw(type="drop", run=run, ranges=ranges, reason=f"reason {n}"),) for n, ranges in enumerate(spread)]


HOSTILE: dict[str, Callable[[UUID], list[tuple[bytes, ...]]]] = {
    "no content": lambda _: [(b"",)],
    "three parts": lambda _: [(GREETED, b"", b"")],
    "a thousand parts": lambda _: [(GREETED,) * 1000],
    "a giant header": lambda _: [(b"\x81" + bytes(MAX_HEADER_BYTES),)],
    "deep msgpack": lambda _: [(b"\x91" * 8000,), (b"\x82\xa4type\xa4ping\xa1x" + b"\x91" * 8000,)],
    "lengths that lie": lambda _: [(b"\xdd\xff\xff\xff\xff",), (b"\x81\xa4type\xdb\xff\xff\xff\xff",)],
    "not a greeting": lambda run: [(PINGED,), (raw(**frame_fields(run)), bytes(432))],
    "another version": lambda _: [(raw(type="hello", version="stormlive-9"),)],
    "what only servers say": lambda run: [*started(run), (raw(type="credit", bytes=2**39, live=[]),)],
    "a wrong pixel type": lambda run: bad_frame(run, dtype="object"),
    "another pixel type than announced": lambda run: bad_frame(run, 216, dtype="uint8", nbytes=216),
    "nbytes that lie": lambda run: bad_frame(run, nbytes=2**39),
    "pixels that lack": lambda run: bad_frame(run, 431),
    "a frame of a run that is nobody's": lambda run: bad_frame(run, run=uuid4()),
    "a giant shape": lambda run: [(GREETED,), (raw(**{**START_FIELDS, "run": run, "shape": [65_536, 65_536]}),)],
    "a name that climbs": lambda run: [(GREETED,), (raw(**{**START_FIELDS, "run": run, "name": "../../etc"}),)],
    "two runs": lambda run: [*started(run), (encode(start_of(uuid4())),)],
    "an end twice": lambda run: [*started(run), end_of(run, 0), end_of(run, 0)],
    "an end of 2**48 frames": lambda run: [*started(run), end_of(run, 2**48 - 1)],
    "more frames than credit": lambda run: [*started(run), *bad_frame(run)[2:] * 100],
    "the same frame again and again": lambda run: [*started(run), *bad_frame(run)[2:] * 5],
    "gaps everywhere": lambda run: [*started(run), *gaps(run)],
}
START_FIELDS = msgspec.msgpack.decode(encode(start_of()))


@pytest.fixture(scope="module")
def attacked() -> Iterator[tuple[Server, GoodRun]]:
    """A server, and a run on it under all the hostile words that must end with every frame."""
    closed = Closed()
    limits = {**LIMITS, "max_sessions": 8}
    running = Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", **limits)
    with running, GoodRun(running, closed) as good:
        yield running, good
    running.raise_if_failed()


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_hostile_words_disturb_nobody(
    words: Callable[[UUID], list[tuple[bytes, ...]]], attacked: tuple[Server, GoodRun]
) -> None:
    server, good = attacked
    with Peer(server.address) as peer:
        for parts in [*words(uuid4()), (PINGED,)]:
            peer.say(*parts)
        # PING is answered as ever, or with the ERROR that there is no session any more: all has been read by then.
        while not isinstance(answer := peer.hear(Pong | Error), Pong) and answer.code != "session":
            assert answer.message
        good.goes_on(2)


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_hostile_questions_disturb_nobody(
    words: Callable[[UUID], list[tuple[bytes, ...]]], attacked: tuple[Server, GoodRun]
) -> None:
    server, good = attacked
    with Peer(server.view_address) as peer:
        for parts in words(uuid4()):
            peer.say(*parts)
            assert peer.hear(Error).code == "malformed"
        good.goes_on(2)


def test_another_clients_run_is_not_taken_over(server: Server, closed: Closed) -> None:
    start = start_of(name="mine")
    with Peer(server.address) as mine, Peer(server.address) as thief:
        for peer in (mine, thief):
            peer.say(GREETED)
            peer.hear(Welcome)
        mine.say(encode(start))
        mine.say(PINGED)
        mine.hear(Pong)
        thief.say(encode(start_of(start.run, name="theirs")))
        assert thief.hear(Error).fatal
        # The answers still go to who began the run.
        mine.say(raw(**frame_fields(start.run)), bytes(432))
        assert mine.hear(Credit).live == ((0, 0),)


def test_a_routing_id_cannot_be_stolen(server: Server) -> None:
    with Peer(server.address, identity=b"victim") as victim:
        victim.say(GREETED)
        victim.hear(Welcome)
        with Peer(server.address, identity=b"victim") as thief:
            thief.say(PINGED)
            assert thief.silent(0.3)
            victim.say(encode(Ping(clock_ns=2)))
            assert victim.hear(Pong).ping_ns == 2


@pytest.mark.parametrize("word", [GREETED, PINGED, b"garbage"], ids=["hello", "ping", "garbage"])
def test_a_flood_is_answered_and_cut_off(
    word: bytes, server: Server, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorman, "BURST", 1000.0)
    with GoodRun(server, closed) as good, zmtp(server.address) as flooder:
        flood = zmtp_part(word, more=False) * 100

        def pour() -> None:
            with contextlib.suppress(OSError):
                while True:
                    flooder.sendall(flood)

        pouring = threading.Thread(target=pour)
        pouring.start()
        heard = all_until_hung_up(flooder)
        with contextlib.suppress(OSError):
            flooder.shutdown(plain_socket.SHUT_RDWR)
        pouring.join()
        assert b"too many messages" in heard
        good.goes_on()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what waits inside libzmq")
@pytest.mark.parametrize("port", ["address", "view_address", "status_address"])
def test_a_message_without_end_is_cut_off(port: str, server: Server, closed: Closed) -> None:
    kind = b"SUB" if port == "status_address" else b"DEALER"
    with GoodRun(server, closed) as good, zmtp(getattr(server, port), kind) as endless:
        part = zmtp_part(bytes(4000), more=True)

        def pour() -> None:
            with contextlib.suppress(OSError):
                while True:
                    endless.sendall(part)

        pouring = threading.Thread(target=pour)
        pouring.start()
        all_until_hung_up(endless)
        # Nobody reads any more, so the last part may wait for ever.
        with contextlib.suppress(OSError):
            endless.shutdown(plain_socket.SHUT_RDWR)
        pouring.join()
        good.goes_on()


def test_a_crowd_of_connections_is_cut_off(server: Server, closed: Closed) -> None:
    with GoodRun(server, closed) as good, contextlib.ExitStack() as open_ones:
        where = "127.0.0.1", port_of(server.address)
        crowd = [open_ones.enter_context(plain_socket.create_connection(where, PATIENCE_S)) for _ in range(40)]
        for late in crowd[-10:]:
            all_until_hung_up(late)
        good.goes_on()


def test_gaps_without_end_are_cut_off(server: Server, closed: Closed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MAX_GAPS", 1000)
    run = uuid4()
    with GoodRun(server, closed) as good, Peer(server.address) as peer:
        for parts in [*started(run), *gaps(run)]:
            peer.say(*parts)
        assert "gaps" in peer.hear(Error).message
        good.goes_on()


GREETINGS = {"ZMTP 2": b"\xff" + bytes(7) + b"\x01\x7f" + b"\x01\x05" + b"\x00\x00", "ZMTP 1": b"\x01\x00"}


@pytest.mark.parametrize("port", ["address", "view_address", "status_address"])
@pytest.mark.parametrize("greeting", GREETINGS.values(), ids=GREETINGS)
def test_who_speaks_an_older_zmtp_is_hung_up_on(greeting: bytes, port: str, attacked: tuple[Server, GoodRun]) -> None:
    # libzmq tells nothing of the connection that such a message came through: it would hold it for ever.
    server, good = attacked
    where = "127.0.0.1", port_of(getattr(server, port))
    with plain_socket.create_connection(where, timeout=PATIENCE_S) as connection:
        connection.sendall(greeting)
        all_until_hung_up(connection)
        good.goes_on(2)
