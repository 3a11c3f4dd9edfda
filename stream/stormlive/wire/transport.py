"""Sockets: addresses, options, sends and receives that never block.

The server binds ROUTERs and a PUB; clients are DEALERs that live for one connection each. Without keys every
address is loopback: raw data must not leave the machine unencrypted, and nobody else may enter.
"""

import contextlib
import ipaddress
import re
import socket as plain_socket
from collections.abc import Sequence

import zmq

from stormlive.wire.codec import MAX_HEADER_BYTES, Buffer
from stormlive.wire.curve import ZAP_DOMAIN, ClientKeys, ServerKeys
from stormlive.wire.handshake import Handshake
from stormlive_sim.errors import InputError

DEFAULT_ADDRESS = "tcp://127.0.0.1:5557"
# A frame's part may exceed the largest frame by this much before libzmq cuts the connection itself.
MARGIN_BYTES = 64 * 1024
# Below this, copying a part is cheaper than handing libzmq the buffer.
COPY_BELOW_BYTES = 128 * 1024
MAX_PARTS = 2
SEND_QUEUE = 1000
# Who connects and says nothing is let go after this long.
HANDSHAKE_MS = 5000
RECEIVE_QUEUE = 256


def loopback_address(address: str, *, any_port: bool = False) -> str:
    """Return ``tcp://127.x.x.x:port`` of an address, normalized; `any_port` also allows ``*`` and 0 for a free port."""
    full = server_address(address, any_port=any_port)
    if not is_loopback(full):
        raise InputError(
            f"{address} is not loopback, so it takes keys, or anyone could listen and send: the folder that "
            "`stormlive keys` made for this client (--keys DIR, StreamHook(..., keys=DIR))"
        )
    return full


def is_loopback(address: str) -> bool:
    """Return whether a normalized address is on this machine alone."""
    try:
        return ipaddress.IPv4Address(address.removeprefix("tcp://").rpartition(":")[0]).is_loopback
    except ValueError:
        return False


def full_address(text: str) -> str:
    """Return ``tcp://host:port`` of an address that may lack ``tcp://`` and, then, the port."""
    if "://" in text:
        return text
    return f"tcp://{text}" if ":" in text else f"tcp://{text}:{port_of(DEFAULT_ADDRESS)}"


def server_address(address: str, *, any_port: bool = False) -> str:
    """Return ``tcp://host:port``, normalized, wherever the host is; InputError when it is none."""
    match = re.fullmatch(r"tcp://([^\s:/\[\]]+|\[[^\s\]]*\]):(\d{1,5}|\*)", full_address(address))
    if match is None:
        raise InputError(f"an address looks like {DEFAULT_ADDRESS.removeprefix('tcp://')}, got {address!r}")
    host, port = match.groups()
    host = "127.0.0.1" if host == "localhost" else host
    port = "*" if port in ("*", "0") else port
    if port == "*" and not any_port:
        raise InputError(f"an address to connect to needs the server's port, got {address!r}")
    if port != "*" and not 1 <= int(port) <= 65_535:
        raise InputError(f"a port is a number from 1 to 65535, got {address!r}")
    return f"tcp://{host}:{port}"


def client_address(address: str, keys: ClientKeys | None) -> str:
    """Return the address to connect to, normalized: loopback, or any with keys."""
    return loopback_address(address) if keys is None else server_address(address)


def bind_address(address: str, keys: ServerKeys | None) -> str:
    """Return the address to bind, normalized: loopback, or any with keys."""
    full = server_address(address, any_port=True)
    if keys is None and not is_loopback(full):
        raise InputError(
            f"{address} is not loopback, and without keys anyone in the network could send and look: "
            f"run `stormlive keys`, then `stormlive serve --bind {address} --keys stormlive-keys/server`"
        )
    return full


def bind_router(
    context: zmq.Context[zmq.Socket[bytes]],
    address: str,
    *,
    max_part_bytes: int,
    send_queue: int = SEND_QUEUE,
    keys: ServerKeys | None = None,
) -> zmq.Socket[bytes]:
    """Return a bound ROUTER that refuses larger parts and reports peers that are gone."""
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.setsockopt(zmq.MAXMSGSIZE, max_part_bytes + MARGIN_BYTES)
    router.setsockopt(zmq.RCVHWM, RECEIVE_QUEUE)
    router.setsockopt(zmq.SNDHWM, send_queue)
    router.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    _bind(router, address, keys)
    return router


def bind_publisher(
    context: zmq.Context[zmq.Socket[bytes]], address: str, *, keys: ServerKeys | None = None
) -> zmq.Socket[bytes]:
    """Return a bound PUB; slow subscribers lose messages, the server never waits for them."""
    publisher = context.socket(zmq.PUB)
    publisher.setsockopt(zmq.MAXMSGSIZE, MAX_HEADER_BYTES)
    publisher.setsockopt(zmq.SNDHWM, 100)
    publisher.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    _bind(publisher, address, keys)
    return publisher


def connect_dealer(
    context: zmq.Context[zmq.Socket[bytes]],
    address: str,
    *,
    max_part_bytes: int = MAX_HEADER_BYTES,
    keys: ClientKeys | None = None,
    handshake: Handshake | None = None,
) -> zmq.Socket[bytes]:
    """Return a DEALER for exactly one connection.

    It queues nothing for a server that is not there, and it never reconnects by itself: a new connection is
    a new session, so it takes a new socket. `handshake` learns why the server did not let it in.
    """
    address = client_address(address, keys)
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.IMMEDIATE, 1)
    dealer.setsockopt(zmq.RECONNECT_IVL, -1)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.SNDHWM, SEND_QUEUE)
    dealer.setsockopt(zmq.MAXMSGSIZE, max_part_bytes + MARGIN_BYTES)
    dealer.copy_threshold = COPY_BELOW_BYTES
    if keys is not None:
        keys.secure(dealer)
    if handshake is not None:
        handshake.watch(dealer, address, keys)
    _connect(dealer, address)
    return dealer


def connect_subscriber(
    context: zmq.Context[zmq.Socket[bytes]], address: str, *, keys: ClientKeys | None = None
) -> zmq.Socket[bytes]:
    """Return a SUB that takes every status message."""
    address = client_address(address, keys)
    subscriber = context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.LINGER, 0)
    subscriber.setsockopt(zmq.MAXMSGSIZE, MAX_HEADER_BYTES)
    subscriber.setsockopt(zmq.RCVHWM, 100)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    if keys is not None:
        keys.secure(subscriber)
    _connect(subscriber, address)
    return subscriber


def endpoint(bound: zmq.Socket[bytes]) -> str:
    """Return the address that a socket is bound to, with the real port."""
    return bound.getsockopt_string(zmq.LAST_ENDPOINT)


def neighbour_address(address: str, offset: int) -> str:
    """Return where a server that is bound to `address` binds another port: a free one on loopback, else the next."""
    host, _, port = address.rpartition(":")
    return f"{host}:*" if is_loopback(address) else f"{host}:{int(port) + offset}"


def reachable_address(bound: str) -> str:
    """Return where this machine itself finds a server: one that listens everywhere does so on loopback too."""
    return bound.replace("//0.0.0.0:", "//127.0.0.1:")


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


def source(part: memoryview) -> int:
    """Return the descriptor of the connection through which `receive` got a part; -1 when libzmq does not tell.

    It does not for a client that had gone before it was let in.
    """
    frame: object = part.obj
    if not isinstance(frame, zmq.Frame):
        return -1
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def user_of(part: memoryview) -> str:
    """Return the public key of the client that a received part came from; empty without keys."""
    frame: object = part.obj
    if not isinstance(frame, zmq.Frame):
        return ""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


def _connect(socket: zmq.Socket[bytes], address: str) -> None:
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        raise InputError(f"cannot connect to {address}: {error.strerror}; is the address right?") from None


def _bind(socket: zmq.Socket[bytes], address: str, keys: ServerKeys | None) -> None:
    try:
        full = bind_address(address, keys)
        # Nobody is asked who may connect without keys, but libzmq now hangs up on who speaks ZMTP 2 or older, of whose
        # connections it would tell nothing.
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        if keys is not None:
            keys.secure(socket)
        socket.bind(full)
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
