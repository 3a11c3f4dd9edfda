"""Keeps a port usable whatever its clients do: connections are counted, and who floods it is hung up on.

libzmq has no way to end one client's connection. It tells which descriptor a message came through, though, and of
every connection that begins and ends; shutting that descriptor down ends the connection as if the client had.
"""

import logging
import socket as plain_socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import zmq
from zmq.utils.monitor import recv_monitor_message

from stormlive.server.limits import Client, Limits
from stormlive.wire.codec import MAX_HEADER_BYTES
from stormlive.wire.transport import is_loopback, source, user_of

_log = logging.getLogger(__name__)

# What a client may say besides frames and references to some, which its credit bounds: a burst (the gaps of a long run
# after a new connection), and then so much a second. A message costs 1 and 1 more for every 512 bytes, a mistake 20.
BURST = 20_000.0
PER_SECOND = 500.0
_BYTES_PER_TOKEN = 512
_MISTAKE = 20.0
# Between the ERROR that tells a client why and the end of its connection.
_FAREWELL_S = 0.2
# What the wire adds to a part, encryption included; counting too much is put right at every look.
_PART_OVERHEAD = 64
# Where Linux keeps the bytes that came in, in what it tells of a connection.
_TCP_INFO = getattr(plain_socket, "TCP_INFO", None)
_BYTES_RECEIVED = 128
# Connections at a time, of a port: viewers are many, and a sender that comes back may have its old one still.
_CONNECTIONS_PER_SESSION = 8
# A viewer has one question under way, a subscriber says once what it wants.
_MOST_UNREAD_QUESTIONS = 32 * MAX_HEADER_BYTES
# A connection that says nothing, not even PING, is kept this long after its session would be over.
_IDLE_S = 10.0
# Complaints that are shown; more go to --verbose, so that nobody outside fills our log.
_LOUD = 20


@dataclass(eq=False)
class _Connection:
    """One connection of a client: its (address, port), what its last message cost, the bytes of it that reached us."""

    descriptor: int
    name: tuple[str, int]
    heard: float
    tokens: float
    counted: float
    charged: float = 0.0
    read: int = 0
    peer: bytes | None = None
    user: str = ""
    ends: float | None = None


class Doorman:
    """Watches the connections of one bound socket, in the IO thread.

    Parameters
    ----------
    socket
        A ROUTER or PUB of the server.
    max_connections
        Connections at a time; one address elsewhere in the network may have half of them.
    max_unread_bytes
        Bytes of a connection that may wait inside libzmq, which itself bounds only the parts of a message and not
        their number. Looked at on Linux alone.
    idle_s
        How long a connection may say nothing; None for ever.
    hears
        Whether clients speak on this socket, which tells their keys.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        *,
        max_connections: int,
        max_unread_bytes: int,
        idle_s: float | None = None,
        hears: bool = True,
    ) -> None:
        self._hears = hears
        self._allowed: frozenset[bytes] | None = None
        self._socket = socket
        self._max_connections = max_connections
        self._max_unread_bytes = max_unread_bytes
        self._idle_s = idle_s
        self._complaints = 0
        self._connections: dict[int, _Connection] = {}
        self._peers: dict[bytes, _Connection] = {}
        name = f"inproc://doorman-{uuid4().hex}"
        socket.monitor(name, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        # libzmq waits for who listens here: read it at every turn.
        self.events = socket.context.socket(zmq.PAIR)
        self.events.setsockopt(zmq.LINGER, 0)
        self.events.connect(name)

    def client(self, peer: bytes) -> Client:
        """Return who a peer is whose message was admitted."""
        connection = self._peers.get(peer)
        return Client() if connection is None else Client(address=connection.name[0], user=connection.user)

    def admit(self, peer: bytes, parts: Sequence[memoryview], now: float) -> str | None:
        """Return what a message costs its sender the connection for, ``""`` to let it go unread, None to take it."""
        if peer not in self._peers and (not parts or source(parts[0]) < 0):
            return ""  # who cannot be hung up on is not let in
        connection = self._peers.get(peer) or self._meet(peer, parts, now)
        if connection is None:
            return None
        if connection.ends is not None:
            return ""
        connection.heard = now
        connection.read += sum(map(len, parts)) + _PART_OVERHEAD * len(parts)
        if len(parts) == 1:
            self._charge(connection, 1 + len(parts[0]) // _BYTES_PER_TOKEN, now)
        if connection.tokens >= 0:
            return None
        connection.ends = now + _FAREWELL_S
        self._complain(connection, "sent too many messages")
        return f"too many messages: {PER_SECOND:g} a second are taken; connect again, and slower"

    def blame(self, peer: bytes, now: float) -> None:
        """Note that a peer's message was answered with an error."""
        connection = self._peers.get(peer)
        if connection is not None:
            self._charge(connection, _MISTAKE, now)

    def excuse(self, peer: bytes) -> None:
        """Give back what a peer's message has cost: it is worth a frame."""
        connection = self._peers.get(peer)
        if connection is not None:
            connection.tokens += connection.charged
            connection.charged = 0.0

    def take_events(self, now: float) -> None:
        """Note which connections began and ended."""
        while True:
            try:
                event = recv_monitor_message(self.events, zmq.NOBLOCK)
            except zmq.Again:
                return
            descriptor = event["value"]
            known = self._connections.get(descriptor)
            if event["event"] == zmq.EVENT_DISCONNECTED:
                self._forget(descriptor)
            elif known is None or known.name != _peer_name(descriptor):
                # A descriptor is used again as soon as its connection has ended. One that is known has been met
                # before this event was read.
                self._forget(descriptor)
                self._know(descriptor, now)

    def admit_only(self, allowed: frozenset[bytes], now: float) -> None:
        """Hang up on those whose key is not allowed any more, when it is known: later for who has not spoken yet.

        Of who is never heard nobody knows the key: all are hung up on, and a subscriber that may connects again.
        """
        self.take_events(now)
        fewer = self._allowed is None or not self._allowed <= allowed
        self._allowed = allowed
        for connection in self._connections.values():
            if self._is_out(connection) or (fewer and not self._hears):
                connection.ends = now

    def tick(self, now: float) -> None:
        """Hang up on those whose time has come."""
        self.take_events(now)
        for connection in list(self._connections.values()):
            if connection.ends is None and self._unread(connection) > self._max_unread_bytes:
                self._complain(connection, "sent more than it had leave to")
                connection.ends = now
            if self._idle_s is not None and now - connection.heard > self._idle_s:
                connection.ends = connection.ends or now
            if connection.ends is not None and now >= connection.ends:
                self._hang_up(connection)

    def close(self) -> None:
        """Stop watching; before the socket is closed."""
        self._socket.disable_monitor()
        self.events.close(linger=0)

    def _meet(self, peer: bytes, parts: Sequence[memoryview], now: float) -> _Connection | None:
        """Return the connection of a peer that speaks for the first time."""
        descriptor = source(parts[0])
        connection = self._connections.get(descriptor) or self._know(descriptor, now)
        if connection is not None:
            connection.peer, connection.user = peer, user_of(parts[0])
            self._peers[peer] = connection
            if self._is_out(connection):
                connection.ends = now
        return connection

    def _know(self, descriptor: int, now: float) -> _Connection | None:
        """Note a connection; None when it has ended already."""
        name = _peer_name(descriptor)
        if name is None:
            return None
        connection = _Connection(descriptor, name, heard=now, tokens=BURST, counted=now)
        same = sum(other.name[0] == name[0] for other in self._connections.values())
        elsewhere = not is_loopback(f"tcp://{name[0]}:{name[1]}")
        self._connections[descriptor] = connection
        if len(self._connections) > self._max_connections or (elsewhere and same >= self._max_connections // 2):
            self._complain(connection, "opened too many connections")
            connection.ends = now
            self._hang_up(connection)
        return connection

    def _is_out(self, connection: _Connection) -> bool:
        """Return whether a client has spoken whose key is not allowed any more."""
        if self._allowed is None or connection.peer is None:
            return False
        return connection.user.encode() not in self._allowed

    def _forget(self, descriptor: int) -> None:
        connection = self._connections.pop(descriptor, None)
        if connection is not None and connection.peer is not None:
            self._peers.pop(connection.peer, None)

    def _charge(self, connection: _Connection, cost: float, now: float) -> None:
        gained = PER_SECOND * (now - connection.counted)
        connection.tokens = min(BURST, connection.tokens + gained) - cost
        connection.counted, connection.charged = now, cost

    def _unread(self, connection: _Connection) -> int:
        """Return the bytes of a connection that came in and did not reach us, as far as the system tells."""
        if _TCP_INFO is None:
            return 0
        try:
            handle = plain_socket.socket(fileno=connection.descriptor)
        except OSError:
            return 0
        try:
            info = handle.getsockopt(plain_socket.IPPROTO_TCP, _TCP_INFO, _BYTES_RECEIVED + 8)
        except OSError:
            return 0
        finally:
            handle.detach()
        if len(info) < _BYTES_RECEIVED + 8:
            return 0
        (received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED)
        connection.read = min(connection.read, received)
        return int(received) - connection.read

    def _hang_up(self, connection: _Connection) -> None:
        try:
            handle = plain_socket.socket(fileno=connection.descriptor)
        except OSError:
            return
        try:
            # The descriptor may be another's by now.
            if handle.getpeername()[:2] == connection.name:
                handle.shutdown(plain_socket.SHUT_RDWR)
        except OSError:
            pass
        finally:
            handle.detach()

    def _complain(self, connection: _Connection, what: str) -> None:
        self._complaints += 1
        level = logging.WARNING if self._complaints <= _LOUD else logging.INFO
        _log.log(level, "a client at %s:%d %s and was hung up on", *connection.name, what)


def doormen(
    limits: Limits, data: zmq.Socket[bytes], views: zmq.Socket[bytes], status: zmq.Socket[bytes]
) -> tuple[Doorman, Doorman, Doorman]:
    """Return who watches the connections of a server's three ports."""
    connections = _CONNECTIONS_PER_SESSION * limits.max_sessions
    # What credit allows, headers as large as the pixels included, and a frame on its way.
    unread = 2 * limits.credit_bytes + limits.max_frame_bytes + _MOST_UNREAD_QUESTIONS
    idle_s = limits.patience_s + _IDLE_S
    return (
        Doorman(data, max_connections=connections, max_unread_bytes=unread, idle_s=idle_s),
        Doorman(views, max_connections=connections, max_unread_bytes=_MOST_UNREAD_QUESTIONS),
        Doorman(status, max_connections=connections, max_unread_bytes=_MOST_UNREAD_QUESTIONS, hears=False),
    )


def _peer_name(descriptor: int) -> tuple[str, int] | None:
    try:
        handle = plain_socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        name = handle.getpeername()
        return name[0], name[1]
    except OSError:
        return None
    finally:
        handle.detach()
