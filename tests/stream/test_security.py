"""Strangers stay outside, and whoever is inside cannot disturb another client's run.

Hostile clients speak through plain TCP sockets where libzmq would not let them misbehave.
"""

# The fake engine is loaded by its path, so it has no type that annotations could name.
# ruff: noqa: ANN401
import contextlib
import importlib.util
import logging
import socket as plain_socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import numpy as np
import pytest
import zmq

from stormlive.acquire.hook import HookReport, StreamHook
from stormlive.server import doorman, runs
from stormlive.server.doorman import BURST, PER_SECOND, Doorman
from stormlive.server.limits import Limits
from stormlive.server.loop import Server
from stormlive.wire.client import LiveClient
from stormlive.wire.codec import MAX_HEADER_BYTES, encode, unpack
from stormlive.wire.curve import ClientKeys, KeyPair, ServerKeys
from stormlive.wire.messages import PROTOCOL, Credit, Error, Hello, Ping, Pong, Start, Welcome
from stormlive.wire.transport import bind_router, connect_dealer, endpoint, port_of, receive, send

_spec = importlib.util.spec_from_file_location("stormlive_fake_engine", Path(__file__).with_name("fake_engine.py"))
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

SHAPE = (12, 18)
LIMITS = {"max_frame_bytes": 4000, "credit_bytes": 80_000, "max_sessions": 3, "heartbeat_s": 0.2, "grace_s": 1.0}
PATIENCE_S = 20.0


class Closed:
    """Keeps the canvases of the runs that ended, by the run's name."""

    def __init__(self) -> None:
        self.canvases: dict[str, Any] = {}

    def __call__(self, run: Any, reconstruction: Any) -> str:
        self.canvases[run.start.name] = reconstruction.canvas
        return "folder"


@pytest.fixture
def closed() -> Closed:
    return Closed()


@pytest.fixture
def server(closed: Closed) -> Iterator[Server]:
    with Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", **LIMITS) as running:
        yield running
    running.raise_if_failed()


@pytest.fixture(scope="module")
def keys() -> tuple[ServerKeys, ClientKeys]:
    server, client = KeyPair.make(), KeyPair.make()
    return (
        ServerKeys(own=server, allowed=frozenset({client.public})),
        ClientKeys(own=client, server=server.public),
    )


@pytest.fixture
def locked(closed: Closed, keys: tuple[ServerKeys, ClientKeys]) -> Iterator[Server]:
    with Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", keys=keys[0], **LIMITS) as running:
        yield running
    running.raise_if_failed()


class GoodRun:
    """A run that goes on for as long as the test has something against it, and must end with every frame."""

    def __init__(self, server: Server, closed: Closed, keys: Path | None = None) -> None:
        self._closed = closed
        self._name = f"good {uuid4().hex}"
        self._frames: list[np.ndarray] = []
        self._over = threading.Event()
        self._hook = StreamHook(server.address, calibration=fake.CALIBRATION, name=self._name, outbox_mb=16, keys=keys)
        self._thread = threading.Thread(target=self._feed)

    def _feed(self) -> None:
        rng = np.random.default_rng(1)
        while not self._over.wait(0.002):
            self._frames.append(rng.integers(90, 120, SHAPE).astype(np.uint16))
            self._hook(self._frames[-1])

    def __enter__(self) -> "GoodRun":
        self._hook.check(PATIENCE_S)
        self._thread.start()
        self.goes_on()
        return self

    def goes_on(self, frames: int = 10) -> None:
        """Wait until so many more frames are in the picture."""
        wanted, deadline = self._hook.progress.live + frames, time.monotonic() + PATIENCE_S
        while self._hook.progress.live < wanted:
            assert self._hook.failed is None
            assert time.monotonic() < deadline, "the run of another client stands still"
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        report: HookReport = self._hook.close(PATIENCE_S)
        assert report.complete, report.sentence
        assert report.failed is None
        canvas = self._closed.canvases[self._name]
        np.testing.assert_allclose(canvas, fake.direct_canvas(np.stack(self._frames)), rtol=1e-4)


class Peer:
    """A libzmq client that says whatever it is told to."""

    def __init__(self, address: str, *, keys: ClientKeys | None = None, identity: bytes | None = None) -> None:
        self.context = zmq.Context()
        if identity is None:
            self.socket = connect_dealer(self.context, address, max_part_bytes=2**20, keys=keys)
        else:
            self.socket = self.context.socket(zmq.DEALER)
            self.socket.setsockopt(zmq.ROUTING_ID, identity)
            self.socket.setsockopt(zmq.LINGER, 0)
            self.socket.connect(address)
        assert self.socket.poll(10_000, zmq.POLLOUT)

    def say(self, *parts: bytes) -> bool:
        return send(self.socket, parts)

    def hear(self, kind: Any, wait_s: float = PATIENCE_S) -> Any:
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            self.socket.poll(50)
            while (parts := receive(self.socket)) is not None:
                message = unpack(parts)[0]
                if isinstance(message, kind):
                    return message
        raise AssertionError(f"no {kind} came")

    def silent(self, wait_s: float) -> bool:
        return not self.socket.poll(int(1000 * wait_s))

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close(linger=0)
        self.context.term()


def zmtp(address: str, socket_type: bytes = b"DEALER") -> plain_socket.socket:
    """Return a TCP connection that has shaken hands as a libzmq socket without keys would."""
    connection = plain_socket.create_connection(("127.0.0.1", port_of(address)), timeout=PATIENCE_S)
    connection.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(socket_type)) + socket_type
    connection.sendall(b"\x04" + bytes([len(ready)]) + ready)
    # Nothing may be said before the other side has shaken hands too.
    exactly(connection, exactly(connection, 66)[65])
    return connection


def exactly(connection: plain_socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        data += (more := connection.recv(n - len(data)))
        assert more
    return data


def zmtp_part(data: bytes, *, more: bool) -> bytes:
    return bytes([2 | more]) + struct.pack(">Q", len(data)) + data


def all_until_hung_up(connection: plain_socket.socket) -> bytes:
    """Return what comes until the other side ends the connection, which it must."""
    heard = bytearray()
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65_536):
            heard += more
    return bytes(heard)


def hangs_up(connection: plain_socket.socket, wait_s: float) -> bool:
    """Return whether the other side ends a connection within `wait_s`."""
    connection.settimeout(wait_s)
    try:
        all_until_hung_up(connection)
    except TimeoutError:
        return False
    return True


def start_of(run: UUID | None = None, **changes: Any) -> Start:
    fields = {"name": "evil", "dtype": "uint16", "shape": SHAPE, "calibration": fake.CALIBRATION}
    return Start(run=run or uuid4(), **{**fields, **changes})


# Keys.


def save(folder: Path, keys: ClientKeys) -> Path:
    folder.mkdir()
    keys.own.save_secret(folder / "client.key_secret")
    KeyPair(public=keys.server, secret=b"").save_public(folder / "server.key")
    return folder


def test_a_run_with_keys_ends_with_every_frame(
    locked: Server, closed: Closed, keys: tuple[ServerKeys, ClientKeys], tmp_path: Path
) -> None:
    with GoodRun(locked, closed, save(tmp_path / "client", keys[1])), LiveClient(locked.address, keys=keys[1]) as look:
        status = look.status(PATIENCE_S)
        assert status is not None
        assert status.run is not None
        assert look.view("canvas") is not None


def test_the_server_itself_may_look(locked: Server) -> None:
    with LiveClient(locked.own_address, keys=locked.own_keys) as look:
        assert look.status(PATIENCE_S) is not None


def strangers(keys: tuple[ServerKeys, ClientKeys]) -> dict[str, ClientKeys | None]:
    trusted = keys[1]
    return {
        "no keys": None,
        "a key that is not allowed": ClientKeys(own=KeyPair.make(), server=trusted.server),
        "the key of another server": ClientKeys(own=trusted.own, server=KeyPair.make().public),
    }


def test_strangers_stay_outside_every_port(
    locked: Server, closed: Closed, keys: tuple[ServerKeys, ClientKeys], tmp_path: Path
) -> None:
    with GoodRun(locked, closed, save(tmp_path / "client", keys[1])) as good:
        for stranger in strangers(keys).values():
            context = zmq.Context()
            for address in (locked.address, locked.view_address):
                dealer = connect_dealer(context, address, keys=stranger)
                assert not dealer.poll(150, zmq.POLLOUT)
                dealer.close()
            subscriber = context.socket(zmq.SUB)
            subscriber.setsockopt(zmq.SUBSCRIBE, b"")
            if stranger is not None:
                stranger.secure(subscriber)
            subscriber.connect(locked.status_address)
            assert not subscriber.poll(300)  # the server speaks six times in this
            subscriber.close(linger=0)
            context.term()
        good.goes_on()


@pytest.mark.parametrize(
    ("who", "words"),
    [
        ("no keys", "give this client's folder"),
        ("a key that is not allowed", "does not let this client in"),
        ("the key of another server", "has other keys"),
    ],
)
def test_who_is_refused_reads_one_clear_line(
    who: str, words: str, locked: Server, keys: tuple[ServerKeys, ClientKeys], tmp_path: Path
) -> None:
    stranger = strangers(keys)[who]
    with pytest.raises(ConnectionError, match=words) as caught:
        LiveClient(locked.address, timeout_s=5, keys=stranger)
    assert "\n" not in str(caught.value)
    folder = None if stranger is None else save(tmp_path / "stranger", stranger)
    hook = StreamHook(locked.address, calibration=fake.CALIBRATION, outbox_mb=1, keys=folder)
    with pytest.raises(ConnectionError, match=words):
        hook.check(0.5)
    hook.close(0.1)


def test_keys_for_a_server_without_are_one_clear_line(server: Server, keys: tuple[ServerKeys, ClientKeys]) -> None:
    with pytest.raises(ConnectionError, match="must run with --keys"):
        LiveClient(server.address, timeout_s=5, keys=keys[1])


def test_refused_strangers_do_not_fill_the_log(
    locked: Server, keys: tuple[ServerKeys, ClientKeys], caplog: pytest.LogCaptureFixture
) -> None:
    stranger = strangers(keys)["a key that is not allowed"]
    with contextlib.suppress(ConnectionError):
        LiveClient(locked.address, timeout_s=5, keys=stranger)
    refusals = [record for record in caplog.records if "was not let in" in record.message]
    assert [record.levelno for record in refusals] == [logging.WARNING]
    context = zmq.Context()
    for _ in range(30):
        dealer = connect_dealer(context, locked.address, keys=stranger)
        dealer.poll(20, zmq.POLLOUT)
        dealer.close()
    context.term()
    # Only where someone asked for --verbose are the rest seen.
    loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert sum("was not let in" in record.message for record in loud) <= 20


def test_a_run_belongs_to_the_key_that_began_it(closed: Closed, keys: tuple[ServerKeys, ClientKeys]) -> None:
    other = ClientKeys(own=KeyPair.make(), server=keys[1].server)
    both = ServerKeys(own=keys[0].own, allowed=frozenset({keys[1].own.public, other.own.public}))
    with Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", keys=both, **LIMITS) as running:
        start = start_of(name="mine")
        with Peer(running.address, keys=keys[1]) as mine, Peer(running.address, keys=other) as thief:
            for peer in (mine, thief):
                peer.say(encode(Hello(version=PROTOCOL)))
                peer.hear(Welcome)
            mine.say(encode(start))
            mine.say(raw(**frame_fields(start.run)), bytes(432))
            mine.hear(Credit)
            thief.say(encode(start))
            assert "own sender" in thief.hear(Error).message
        with Peer(running.address, keys=keys[1]) as again:
            again.say(encode(Hello(version=PROTOCOL)))
            again.hear(Welcome)
            again.say(encode(start))
            again.say(PINGED)
            assert isinstance(again.hear(Pong | Error), Pong)


# What hostile clients say.

GREETED = encode(Hello(version=PROTOCOL))
PINGED = encode(Ping(clock_ns=1))


def raw(**fields: object) -> bytes:
    return msgspec.msgpack.encode(
        {key: str(value) if isinstance(value, UUID) else value for key, value in fields.items()}
    )


def frame_fields(run: UUID) -> dict[str, Any]:
    return {
        "type": "frame",
        "run": run,
        "seq": 0,
        "t_ns": 0,
        "dtype": "uint16",
        "shape": SHAPE,
        "nbytes": 432,
        "axes": {},
    }


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


# Too much of it.


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


# The doorman by himself.


@pytest.fixture
def door() -> Iterator[tuple[zmq.Socket[bytes], Callable[..., Doorman]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = bind_router(context, "tcp://127.0.0.1:*", max_part_bytes=10_000)
    made: list[Doorman] = []

    def make(**options: Any) -> Doorman:
        made.append(Doorman(router, **{"max_connections": 8, "max_unread_bytes": 10**6, **options}))
        return made[-1]

    yield router, make
    for watch in made:
        watch.close()
    context.destroy(linger=0)


def next_message(router: zmq.Socket[bytes]) -> tuple[bytes, list[memoryview]]:
    assert router.poll(10_000)
    parts = receive(router, routed=True)
    assert parts is not None
    return bytes(parts[0]), parts[1:]


def test_a_burst_is_taken_and_what_exceeds_it_is_not(door: Any) -> None:
    router, make = door
    watch = make()
    with zmtp(endpoint(router)) as client:
        client.sendall(zmtp_part(b"x", more=False))
        peer, parts = next_message(router)
        answers = [watch.admit(peer, parts, 100.0) for _ in range(int(BURST) + 2)]
        assert answers[:-2] == [None] * int(BURST)
        assert "too many messages" in answers[-2]
        assert answers[-1] == ""
        watch.tick(101.0)
        all_until_hung_up(client)


def test_a_pace_that_is_kept_is_taken_for_ever(door: Any) -> None:
    router, make = door
    watch = make()
    with zmtp(endpoint(router)) as client:
        client.sendall(zmtp_part(b"x", more=False))
        peer, parts = next_message(router)
        for n in range(3 * int(BURST)):
            assert watch.admit(peer, parts, n / PER_SECOND) is None


def test_frames_cost_nothing_and_mistakes_much(door: Any) -> None:
    router, make = door
    watch = make()
    with zmtp(endpoint(router)) as client:
        client.sendall(zmtp_part(b"x", more=True) + zmtp_part(b"y", more=False))
        peer, parts = next_message(router)
        for _ in range(2 * int(BURST)):
            assert watch.admit(peer, parts, 1.0) is None
        for _ in range(int(BURST) // 10):
            watch.blame(peer, 1.0)
        assert watch.admit(peer, parts, 1.0)


def test_a_connection_that_says_nothing_ends(door: Any) -> None:
    router, make = door
    watch = make(idle_s=5.0)
    with zmtp(endpoint(router)) as silent, zmtp(endpoint(router)) as talks:
        for client in (silent, talks):
            client.sendall(zmtp_part(b"x", more=False))
        messages = [next_message(router) for _ in range(2)]
        for peer, parts in messages:
            watch.admit(peer, parts, 10.0)
        talking = max(messages, key=lambda message: message[0])
        watch.admit(*talking, 14.0)
        watch.tick(15.5)
        ended = [client for client in (silent, talks) if hangs_up(client, 1.0)]
        assert len(ended) == 1


def test_what_has_been_read_does_not_count_as_waiting(door: Any) -> None:
    router, make = door
    watch = make(max_unread_bytes=20_000)
    with zmtp(endpoint(router)) as client:
        for n in range(100):
            client.sendall(zmtp_part(bytes(4000), more=True) + zmtp_part(bytes(4000), more=False))
            peer, parts = next_message(router)
            assert watch.admit(peer, parts, float(n)) is None
            watch.tick(float(n))
        assert not hangs_up(client, 0.1)


def test_who_has_left_is_forgotten(door: Any) -> None:
    router, make = door
    watch = make()
    for _ in range(20):  # more than there may be at a time
        with zmtp(endpoint(router)) as client:
            client.sendall(zmtp_part(b"x", more=False))
            peer, parts = next_message(router)
            assert watch.admit(peer, parts, 1.0) is None
            assert watch.client(peer).address == "127.0.0.1"
        deadline = time.monotonic() + PATIENCE_S
        while watch.client(peer).address:
            assert time.monotonic() < deadline
            watch.events.poll(100)
            watch.take_events(1.0)


@pytest.mark.parametrize(("address", "most"), [("127.0.0.1", 8), ("", 8), ("192.168.1.7", 4)])
def test_one_machine_elsewhere_does_not_take_every_session(address: str, most: int) -> None:
    limits = Limits(max_sessions=8, credit_bytes=1, max_frame_bytes=1, max_batch=1, heartbeat_s=1, grace_s=1)
    assert limits.sessions_of(address) == most
