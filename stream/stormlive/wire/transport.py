"""Sockets: addresses, options, sends and receives that never block.

The server binds ROUTERs and a PUB; clients are DEALERs that live for one connection each. In this version
every address is loopback: there is no encryption yet, and raw data must not leave the machine by accident.
"""

import contextlib
import ipaddress
import re
import socket as plain_socket
from collections.abc import Sequence

import zmq

from stormlive.wire.codec import MAX_HEADER_BYTES, Buffer
from stormlive_sim.errors import InputError

DEFAULT_ADDRESS = "tcp://127.0.0.1:5557"
# A frame's part may exceed the largest frame by this much before libzmq cuts the connection itself.
MARGIN_BYTES = 64 * 1024
# Below this, copying a part is cheaper than handing libzmq the buffer.
COPY_BELOW_BYTES = 128 * 1024
MAX_PARTS = 2
SEND_QUEUE = 1000
RECEIVE_QUEUE = 256


def loopback_address(address: str, *, any_port: bool = False) -> str:
    """Return ``tcp://127.x.x.x:port``, normalized; `any_port` also allows ``*`` and 0 for a free port."""
    match = re.fullmatch(r"tcp://([^\s:/\[\]]+|\[[^\s\]]*\]):(\d{1,5}|\*)", address) if address else None
    if match is None:
        raise InputError(f"an address looks like {DEFAULT_ADDRESS}, got {address!r}")
    host, port = match.groups()
    host = "127.0.0.1" if host == "localhost" else host
    try:
        ok = ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        ok = False
    if not ok:
        raise InputError(
            f"{address} is not loopback, and this version supports nothing else: use {DEFAULT_ADDRESS} "
            "(from another machine through an ssh tunnel)"
        )
    port = "*" if port in ("*", "0") else port
    if port == "*" and not any_port:
        raise InputError(f"an address to connect to needs the server's port, got {address!r}")
    if port != "*" and not 1 <= int(port) <= 65_535:
        raise InputError(f"a port is a number from 1 to 65535, got {address!r}")
    return f"tcp://{host}:{port}"


def bind_router(
    context: zmq.Context[zmq.Socket[bytes]],
    address: str,
    *,
    max_part_bytes: int,
    send_queue: int = SEND_QUEUE,
) -> zmq.Socket[bytes]:
    """Return a bound ROUTER that refuses larger parts and reports peers that are gone."""
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.setsockopt(zmq.ROUTER_HANDOVER, 1)
    router.setsockopt(zmq.MAXMSGSIZE, max_part_bytes + MARGIN_BYTES)
    router.setsockopt(zmq.RCVHWM, RECEIVE_QUEUE)
    router.setsockopt(zmq.SNDHWM, send_queue)
    _bind(router, address)
    return router


def bind_publisher(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    """Return a bound PUB; slow subscribers lose messages, the server never waits for them."""
    publisher = context.socket(zmq.PUB)
    publisher.setsockopt(zmq.MAXMSGSIZE, MAX_HEADER_BYTES)
    publisher.setsockopt(zmq.SNDHWM, 100)
    _bind(publisher, address)
    return publisher


def connect_dealer(
    context: zmq.Context[zmq.Socket[bytes]], address: str, *, max_part_bytes: int = MAX_HEADER_BYTES
) -> zmq.Socket[bytes]:
    """Return a DEALER for exactly one connection.

    It queues nothing for a server that is not there, and it never reconnects by itself: a new connection is
    a new session, so it takes a new socket.
    """
    address = loopback_address(address)
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.IMMEDIATE, 1)
    dealer.setsockopt(zmq.RECONNECT_IVL, -1)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.SNDHWM, SEND_QUEUE)
    dealer.setsockopt(zmq.MAXMSGSIZE, max_part_bytes + MARGIN_BYTES)
    dealer.copy_threshold = COPY_BELOW_BYTES
    dealer.connect(address)
    return dealer


def connect_subscriber(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    """Return a SUB that takes every status message."""
    address = loopback_address(address)
    subscriber = context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.LINGER, 0)
    subscriber.setsockopt(zmq.MAXMSGSIZE, MAX_HEADER_BYTES)
    subscriber.setsockopt(zmq.RCVHWM, 100)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    subscriber.connect(address)
    return subscriber


def endpoint(bound: zmq.Socket[bytes]) -> str:
    """Return the address that a socket is bound to, with the real port."""
    return bound.getsockopt_string(zmq.LAST_ENDPOINT)


def port_of(address: str) -> int:
    """Return the port of an address."""
    return int(address.rpartition(":")[2])


def send(socket: zmq.Socket[bytes], parts: Sequence[Buffer]) -> bool:
    """Send without blocking; False when the queue is full or the peer is gone.

    Parts of `COPY_BELOW_BYTES` and more are not copied: their memory must stay as it is until the peer has
    answered for them.
    """
    try:
        try:
            socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            # A short queue can look full because libzmq has not yet noted what was read: this makes it.
            socket.getsockopt(zmq.EVENTS)
            socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno == zmq.EHOSTUNREACH:
            return False
        raise
    return True


def receive(socket: zmq.Socket[bytes], *, routed: bool = False) -> list[memoryview] | None:
    """Return the parts of the next message without copying them, None when nothing waits.

    With `routed` the first is the peer's identity. One part more than a message may have is kept, so that
    `unpack` refuses it; the rest is let go.
    """
    most = MAX_PARTS + 1 + routed
    parts: list[memoryview] = []
    try:
        while True:
            part = socket.recv(zmq.NOBLOCK, copy=False)
            if len(parts) < most:
                parts.append(part.buffer)
            if not part.more:
                return parts
    except zmq.Again:
        return None


def _bind(socket: zmq.Socket[bytes], address: str) -> None:
    try:
        socket.bind(loopback_address(address, any_port=True))
    except zmq.ZMQError as error:
        socket.close(linger=0)
        if error.errno == zmq.EADDRINUSE:
            raise InputError(
                f"{address} is in use: is another stormlive serve running? choose another --bind or stop it"
            ) from None
        raise InputError(f"cannot bind {address}: {error.strerror}; choose another --bind") from None
    except InputError:
        socket.close(linger=0)
        raise


class Waker:
    """Lets any thread end another thread's poll: a pair of connected sockets, one byte each way at most."""

    def __init__(self) -> None:
        self._reader, self._writer = plain_socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to poll for input."""
        return self._reader.fileno()

    def wake(self) -> None:
        """End the poll; never blocks. A full pipe means that the poll ends anyway."""
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def drain(self) -> None:
        """Forget the wakes so far."""
        with contextlib.suppress(OSError):
            while self._reader.recv(4096):
                pass

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self._writer.close()
