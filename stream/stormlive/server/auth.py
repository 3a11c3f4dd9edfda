"""Who may connect to a server with keys: the answers to libzmq's questions about every connection (ZAP, RFC 27).

pyzmq's own authenticator needs an event loop that Windows has only with another package; the question is one
message, so the IO thread answers it between the others.
"""

import logging
from collections.abc import Collection

import zmq
from zmq.utils import z85

_log = logging.getLogger(__name__)

_ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_QUESTION_PARTS = 7
# Strangers wait for their answer, the others do not.
_BURST = 16
# More strangers than this are told of with --verbose only: nobody outside fills our log.
_LOUD = 20


class Authenticator:
    """Lets the clients in whose public keys are allowed.

    Parameters
    ----------
    context
        That of the sockets; made before they are bound.
    allowed
        Public keys in Z85.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: Collection[bytes]) -> None:
        self._allowed = frozenset(allowed)
        self._refused = 0
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ENDPOINT)

    def answer(self) -> None:
        """Answer the questions that wait, a few at a time; never blocks."""
        for _ in range(_BURST):
            try:
                question = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.socket.send_multipart(self._judge(question))

    def _judge(self, question: list[bytes]) -> list[bytes]:
        request = question[1] if len(question) > 1 else b""
        key = b""
        if len(question) == _QUESTION_PARTS and question[0] == _VERSION and question[5] == b"CURVE":
            address, credential = question[3], question[6]
            key = z85.encode(credential) if len(credential) == 32 else b""
            if key not in self._allowed:
                self._refused += 1
                level = logging.WARNING if self._refused <= _LOUD else logging.INFO
                _log.log(level, "%s was not let in: its key %s is not allowed", address.decode(), key.decode())
        if key in self._allowed:
            return [_VERSION, request, b"200", b"OK", key, b""]
        return [_VERSION, request, b"400", b"not allowed", b"", b""]
