"""The doorman by himself: what he counts, and whom he hangs up on."""

import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
import zmq

from hostile import PATIENCE_S, all_until_hung_up, hangs_up, zmtp, zmtp_part
from stormlive.server.doorman import BURST, PER_SECOND, Doorman
from stormlive.server.limits import Limits
from stormlive.wire.transport import bind_router, endpoint, receive

Door: TypeAlias = tuple[zmq.Socket[bytes], Callable[..., Doorman]]


@pytest.fixture
def door() -> Iterator[Door]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = bind_router(context, "tcp://127.0.0.1:*", max_part_bytes=10_000)
    made: list[Doorman] = []

    def make(**options: object) -> Doorman:
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


def test_a_burst_is_taken_and_what_exceeds_it_is_not(door: Door) -> None:
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


def test_a_pace_that_is_kept_is_taken_for_ever(door: Door) -> None:
    router, make = door
    watch = make()
    with zmtp(endpoint(router)) as client:
        client.sendall(zmtp_part(b"x", more=False))
        peer, parts = next_message(router)
        for n in range(3 * int(BURST)):
            assert watch.admit(peer, parts, n / PER_SECOND) is None


def test_frames_cost_nothing_and_mistakes_much(door: Door) -> None:
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


def test_what_is_worth_a_frame_costs_nothing(door: Door) -> None:
    router, make = door
    watch = make()
    with zmtp(endpoint(router)) as client:
        client.sendall(zmtp_part(bytes(8000), more=False))
        peer, parts = next_message(router)
        for _ in range(2 * int(BURST)):
            assert watch.admit(peer, parts, 1.0) is None
            watch.excuse(peer)
        watch.excuse(peer)  # once for each message
        assert "too many messages" in "".join(watch.admit(peer, parts, 1.0) or "" for _ in range(int(BURST)))


def test_a_connection_that_says_nothing_ends(door: Door) -> None:
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


def test_what_has_been_read_does_not_count_as_waiting(door: Door) -> None:
    router, make = door
    watch = make(max_unread_bytes=20_000)
    with zmtp(endpoint(router)) as client:
        for n in range(100):
            client.sendall(zmtp_part(bytes(4000), more=True) + zmtp_part(bytes(4000), more=False))
            peer, parts = next_message(router)
            assert watch.admit(peer, parts, float(n)) is None
            watch.tick(float(n))
        assert not hangs_up(client, 0.1)


def test_who_has_left_is_forgotten(door: Door) -> None:
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
