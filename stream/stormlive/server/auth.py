"""Who may connect to a server with keys: the answers to libzmq's questions about every connection (ZAP, RFC 27).

pyzmq's own authenticator needs an event loop that Windows has only with another package; the question is one
message, so the IO thread answers it between the others.
"""

import contextlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import zmq
from zmq.utils import z85

from stormlive.wire.curve import ServerKeys, read_public
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)

_ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_QUESTION_PARTS = 7
# Strangers wait for their answer, the others do not.
_BURST = 16
# More strangers than this are told of with --verbose only: nobody outside fills our log.
_LOUD = 20
# How often the files of the keys are looked at.
_LOOK_S = 1.0


class Authenticator:
    """Lets the clients in whose public keys are allowed.

    Parameters
    ----------
    context
        That of the sockets; made before they are bound.
    keys
        The keys that are allowed, and the folder in which they may change.

    Attributes
    ----------
    allowed
        Public keys in Z85.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: ServerKeys) -> None:
        self.allowed = keys.allowed | keys.always
        self._always = keys.always
        self._folder = keys.folder
        self._files: dict[str, tuple[int, ...]] | None = None
        self._bad: dict[str, InputError] = {}
        self._look_at = 0.0
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

    def refresh(self, now: float) -> bool:
        """Read the allowed keys again where their files have changed; return whether others are allowed."""
        if self._folder is None or now < self._look_at:
            return False
        self._look_at = now + _LOOK_S
        try:
            files = _files(self._folder)
        except OSError as error:
            _log.warning("the keys in %s cannot be looked at, those of before count: %s", self._folder, error.strerror)
            return False
        if files == self._files:
            return False
        keys, bad = _keys(self._folder, files)
        for name in bad.keys() - self._bad.keys():
            _log.warning("%s", bad[name])
        # Those that are bad are read again: what could not be read for a moment is no reason to stay outside.
        self._bad, self._files = bad, {name: state for name, state in files.items() if name not in bad}
        before, self.allowed = self.allowed, self._always | keys
        if self.allowed == before:
            return False
        more, fewer = len(self.allowed - before), len(before - self.allowed)
        _log.warning("the keys in %s changed: %d more and %d fewer may connect", self._folder, more, fewer)
        return True

    def _judge(self, question: list[bytes]) -> list[bytes]:
        request = question[1] if len(question) > 1 else b""
        key = b""
        if len(question) == _QUESTION_PARTS and question[0] == _VERSION and question[5] == b"CURVE":
            address, credential = question[3], question[6]
            key = z85.encode(credential) if len(credential) == 32 else b""
            if key not in self.allowed:
                self._refused += 1
                level = logging.WARNING if self._refused <= _LOUD else logging.INFO
                _log.log(level, "%s was not let in: its key %s is not allowed", address.decode(), key.decode())
        if key in self.allowed:
            return [_VERSION, request, b"200", b"OK", key, b""]
        return [_VERSION, request, b"400", b"not allowed", b"", b""]


def _files(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the files of keys, with what changes when they do; none where the folder was removed."""
    try:
        with os.scandir(folder) as entries:
            paths = [folder / entry.name for entry in entries if entry.name.endswith(".key")]
    except FileNotFoundError:
        return {}
    files: dict[str, tuple[int, ...]] = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # removed just now
            state = path.stat()
            files[path.name] = state.st_mtime_ns, state.st_size, state.st_ino
    return files


def _keys(folder: Path, names: Iterable[str]) -> tuple[frozenset[bytes], dict[str, InputError]]:
    """Return the keys in those files, and what is wrong with the others, which allow nobody."""
    keys: set[bytes] = set()
    bad: dict[str, InputError] = {}
    for name in names:
        try:
            keys.add(read_public(folder / name))
        except InputError as error:
            bad[name] = error
    return frozenset(keys), bad
