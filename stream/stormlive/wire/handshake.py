"""Why a connection does not come about, as far as libzmq tells."""

from uuid import uuid4

import zmq
from zmq.utils.monitor import recv_monitor_message

from stormlive.wire.curve import ClientKeys

_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


class Handshake:
    """Watches the first moments of a client's socket; give it to `connect_dealer`, and close it afterwards."""

    def __init__(self) -> None:
        self._socket: zmq.Socket[bytes]
        self._events: zmq.Socket[bytes] | None = None
        self._address = ""
        self._keys: ClientKeys | None = None

    def watch(self, socket: zmq.Socket[bytes], address: str, keys: ClientKeys | None) -> None:
        """Watch a socket that is about to connect."""
        self._socket, self._address, self._keys = socket, address, keys
        # pyzmq names its monitors after descriptors, which are used again before the name is free.
        name = f"inproc://handshake-{uuid4().hex}"
        socket.monitor(name, _FAILURES)
        self._events = socket.context.socket(zmq.PAIR)
        self._events.setsockopt(zmq.LINGER, 0)
        self._events.connect(name)

    def settle(self, timeout_s: float) -> bool:
        """Wait for the connection, at most `timeout_s` and no longer than until it is refused."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLOUT)
        if self._events is not None:
            poller.register(self._events, zmq.POLLIN)
        return self._socket in dict(poller.poll(int(1000 * timeout_s)))

    def refusal(self) -> str | None:
        """Return on one line why the server did not let us in; None when it did not say no."""
        if self._events is None or not self._events.poll(0):
            return None
        event = recv_monitor_message(self._events)["event"]
        address, keys = self._address, self._keys
        if keys is None:
            return (
                f"{address} ended the connection: if that server runs with keys, give this client's folder, made by "
                "`stormlive keys` (--keys DIR, StreamHook(..., keys=DIR))"
            )
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return (
                f"the server at {address} does not let this client in: its public key {keys.own.public.decode()} "
                "must lie in the server's folder of allowed keys when that starts"
            )
        return (
            f"the server at {address} has other keys, or none: it must run with --keys, and server.key must be the "
            "one that was made with its own"
        )

    def close(self) -> None:
        """Stop watching."""
        if self._events is not None:
            self._events.close(linger=0)
            self._events = None
