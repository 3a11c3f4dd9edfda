import socket as plain_socket
import time
from collections.abc import Iterator
from functools import partial

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from stormlive.wire.codec import ProtocolError
from stormlive.wire.flow import ClockOffset, Credit, Silence
from stormlive.wire.transport import (
    MARGIN_BYTES,
    Waker,
    bind_publisher,
    bind_router,
    connect_dealer,
    endpoint,
    loopback_address,
    port_of,
    receive,
    send,
)
from stormlive_sim.errors import InputError

Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    kept: list[zmq.Socket[bytes]] = []

    class Keeping(zmq.Context):
        """Holds its sockets, so that none is dropped unclosed when a test's variables go."""

        def socket(self, *args: object, **options: object) -> zmq.Socket[bytes]:
            kept.append(super().socket(*args, **options))
            return kept[-1]

    made = Keeping()
    yield made
    made.destroy(linger=0)


def receive_soon(socket: zmq.Socket[bytes], *, routed: bool = False, wait_s: float = 10) -> list[bytes] | None:
    socket.poll(int(1000 * wait_s))
    parts = receive(socket, routed=routed)
    return None if parts is None else [bytes(part) for part in parts]


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:5557", "tcp://localhost:5557", "127.0.0.1:5557", "localhost:5557", "localhost"]
)
def test_loopback_addresses(address: str) -> None:
    assert loopback_address(address) == "tcp://127.0.0.1:5557"
    for free in ("tcp://127.0.0.1:0", "127.0.0.1:*"):
        assert loopback_address(free, any_port=True) == "tcp://127.0.0.1:*"


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5557", "tcp://*:5557", "tcp://192.168.1.7:5557", "tcp://[::]:1"])
def test_everything_but_loopback_is_refused(address: str, context: Context) -> None:
    with pytest.raises(InputError, match="loopback"):
        bind_router(context, address, max_part_bytes=0)


@pytest.mark.parametrize(
    "address",
    ["", "5557", "127.0.0.1:", ":5557", "1:2:3", "ipc:///tmp/x", "tcp://127.0.0.1", "127.0.0.1:99999", "a b:1", "a/b"],
)
def test_bad_addresses_say_what_a_good_one_is(address: str, context: Context) -> None:
    with pytest.raises(InputError) as caught:
        bind_router(context, address, max_part_bytes=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("port", ["*", "0"])
def test_connecting_needs_a_port(port: str, context: Context) -> None:
    with pytest.raises(InputError, match="port"):
        connect_dealer(context, f"tcp://127.0.0.1:{port}")


@pytest.mark.parametrize("bind", ["router", "publisher"])
def test_a_port_in_use_is_one_clear_line(bind: str, context: Context) -> None:
    taken = endpoint(bind_router(context, "tcp://127.0.0.1:*", max_part_bytes=0))
    again = {"router": partial(bind_router, max_part_bytes=0), "publisher": bind_publisher}[bind]
    with pytest.raises(InputError) as caught:
        again(context, taken)
    assert str(caught.value) == (
        f"{taken} is in use: is another stormlive serve running? choose another --bind or stop it"
    )


def test_nothing_is_queued_for_a_server_that_is_not_there(context: Context) -> None:
    with plain_socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and never listens
        dealer = connect_dealer(context, f"tcp://127.0.0.1:{deaf.getsockname()[1]}")
        assert not dealer.poll(200, zmq.POLLOUT)
        assert not send(dealer, [b"x"])


def test_messages_go_both_ways_and_a_vanished_peer_is_noticed(context: Context) -> None:
    router = bind_router(context, "tcp://127.0.0.1:*", max_part_bytes=0)
    dealer = connect_dealer(context, endpoint(router))
    assert port_of(endpoint(router)) > 0
    assert dealer.poll(10_000, zmq.POLLOUT)
    assert send(dealer, [b"question"])
    parts = receive_soon(router, routed=True)
    assert parts is not None
    peer, question = parts
    assert question == b"question"
    assert send(router, [peer, b"answer"])
    assert receive_soon(dealer) == [b"answer"]
    assert receive(dealer) is None
    dealer.close(linger=0)
    deadline = time.monotonic() + 10
    while send(router, [peer, b"anyone?"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_surplus_parts_are_let_go(context: Context) -> None:
    router = bind_router(context, "tcp://127.0.0.1:*", max_part_bytes=0)
    dealer = connect_dealer(context, endpoint(router))
    assert dealer.poll(10_000, zmq.POLLOUT)
    send(dealer, [b"x"] * 1000)
    send(dealer, [b"next"])
    first, second = receive_soon(router, routed=True), receive_soon(router, routed=True)
    assert first is not None
    assert first[1:] == [b"x"] * 3
    assert second is not None
    assert second[1:] == [b"next"]


def test_a_part_over_the_limit_never_arrives(context: Context) -> None:
    router = bind_router(context, "tcp://127.0.0.1:*", max_part_bytes=1000)
    dealer = connect_dealer(context, endpoint(router))
    assert dealer.poll(10_000, zmq.POLLOUT)
    assert send(dealer, [b"header", bytes(1000 + MARGIN_BYTES + 1)])
    assert receive_soon(router, routed=True, wait_s=0.3) is None


@given(st.lists(st.integers(0, 40), max_size=40), st.integers(1, 100))
def test_credit_never_exceeds_its_window(sizes: list[int], window: int) -> None:
    credit, taken = Credit(window), []
    for size in sizes:
        if credit.take(size):
            taken.append(size)
        elif taken:
            credit.give(taken.pop(0))
        assert credit.in_flight == sum(taken) <= window


def test_credit_that_was_not_spent_cannot_come_back() -> None:
    credit = Credit(10)
    credit.take(4)
    with pytest.raises(ProtocolError, match="credit"):
        credit.give(5)


def test_silence_counts_only_while_somebody_listens() -> None:
    silence = Silence(0.0, 3.0)
    for now in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0):
        assert not silence.too_long(now)
    assert silence.too_long(3.5)
    silence.heard(3.5)
    assert not silence.too_long(4.0)
    assert not silence.too_long(1000.0)  # suspended: first read what came meanwhile
    for now in (1000.5, 1001.0, 1001.5, 1002.0):
        assert not silence.too_long(now)
    for now in (1002.5, 1003.0, 1003.5):
        late = silence.too_long(now)
    assert late


def test_clock_offset_believes_the_quickest_round_trip() -> None:
    clock = ClockOffset()
    assert clock.ns == 0
    clock.sample(sent_ns=1000, received_ns=9000, peer_ns=500_000 + 8900)
    clock.sample(sent_ns=20_000, received_ns=20_200, peer_ns=500_000 + 20_100)
    clock.sample(sent_ns=30_000, received_ns=39_000, peer_ns=500_000 + 30_050)
    assert clock.ns == 500_000


def test_waker_ends_a_poll_and_never_blocks() -> None:
    waker, poller = Waker(), zmq.Poller()
    poller.register(waker, zmq.POLLIN)
    assert not poller.poll(0)
    for _ in range(1_000_000 // 4):
        waker.wake()
    assert poller.poll(1000)
    waker.drain()
    assert not poller.poll(0)
    waker.close()
    waker.wake()
