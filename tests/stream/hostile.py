"""Clients that mean harm, through plain TCP where libzmq would not let them, and a run that must not notice."""

import contextlib
import socket as plain_socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import numpy as np

import fake_engine as fake
import strict
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.report import HookReport
from stormlive.server.loop import Server
from stormlive.server.protocols import Canvas, FinishedRun
from stormlive.wire.codec import encode
from stormlive.wire.curve import ClientKeys, ServerKeys
from stormlive.wire.messages import PROTOCOL, Hello, Ping, Start
from stormlive.wire.transport import port_of, send

SHAPE = (12, 18)
LIMITS = {"max_frame_bytes": 4000, "credit_bytes": 80_000, "max_sessions": 3, "heartbeat_s": 0.2, "grace_s": 1.0}
PATIENCE_S = 20.0
GREETED = encode(Hello(version=PROTOCOL))
PINGED = encode(Ping(clock_ns=1))


class Closed:
    """Keeps the canvases of the runs that ended, by the run's name."""

    def __init__(self) -> None:
        self.canvases: dict[str, Any] = {}

    def __call__(self, run: FinishedRun, canvases: Sequence[Canvas]) -> str:
        self.canvases[run.start.name] = canvases[0].reconstruction.canvas
        return "folder"


def guarded_server(closed: Closed, keys: ServerKeys | None = None) -> Iterator[Server]:
    """Yield a server that allows little, as a fixture does."""
    with Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", keys=keys, **LIMITS) as running:
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


class Peer(strict.Peer):
    """A libzmq client that says whatever bytes it is told to, and no HELLO by itself."""

    def __init__(self, address: str, *, keys: ClientKeys | None = None, identity: bytes | None = None) -> None:
        super().__init__(address, greet=False, keys=keys, identity=identity)

    def say(self, *parts: bytes) -> bool:
        return send(self.socket, parts)

    def silent(self, wait_s: float) -> bool:
        return not self.socket.poll(int(1000 * wait_s))


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


def start_of(run: UUID | None = None, **changes: object) -> Start:
    fields = {"name": "evil", "dtype": "uint16", "shape": SHAPE, "calibration": fake.CALIBRATION}
    return Start(run=run or uuid4(), **{**fields, **changes})


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
