"""Who holds a key that is allowed gets in, and strangers stay outside."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

import fake_engine as fake
from hostile import LIMITS, PATIENCE_S, PINGED, Closed, GoodRun, Peer, frame_fields, guarded_server, raw, start_of
from stormlive.acquire.hook import StreamHook
from stormlive.server.loop import Server
from stormlive.wire.client import LiveClient
from stormlive.wire.codec import encode
from stormlive.wire.curve import ClientKeys, KeyPair, ServerKeys
from stormlive.wire.messages import PROTOCOL, Credit, Error, Hello, Pong, Welcome
from stormlive.wire.transport import connect_dealer


@pytest.fixture
def closed() -> Closed:
    return Closed()


@pytest.fixture
def server(closed: Closed) -> Iterator[Server]:
    yield from guarded_server(closed)


@pytest.fixture(scope="module")
def keys() -> tuple[ServerKeys, ClientKeys]:
    server, client = KeyPair.make(), KeyPair.make()
    return (
        ServerKeys(own=server, allowed=frozenset({client.public})),
        ClientKeys(own=client, server=server.public),
    )


@pytest.fixture
def locked(closed: Closed, keys: tuple[ServerKeys, ClientKeys]) -> Iterator[Server]:
    yield from guarded_server(closed, keys[0])


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
