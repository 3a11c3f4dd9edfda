"""A server that allows little, and a client that says exactly what a test makes it say."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import numpy as np
import zmq

import fake_engine as fake
import served
from stormlive.server.loop import Server
from stormlive.wire.codec import encode, unpack
from stormlive.wire.curve import ClientKeys
from stormlive.wire.flow import LEAST_COST
from stormlive.wire.messages import PROTOCOL, Error, FrameHeader, Hello, Message, Start, Welcome
from stormlive.wire.transport import connect_dealer, connect_subscriber, receive, send
from stormlive.wire.viewing import Status, View, Viewed

SHAPE = (12, 18)
NBYTES = 12 * 18 * 2
CREDIT = 20 * LEAST_COST


class Peer:
    """A client that says exactly what a test makes it say."""

    def __init__(
        self, address: str, *, greet: bool = True, keys: ClientKeys | None = None, identity: bytes | None = None
    ) -> None:
        self.context = zmq.Context()
        if identity is None:
            self.socket = connect_dealer(self.context, address, max_part_bytes=2**20, keys=keys)
        else:
            self.socket = self.context.socket(zmq.DEALER)
            self.socket.setsockopt(zmq.ROUTING_ID, identity)
            self.socket.setsockopt(zmq.LINGER, 0)
            self.socket.connect(address)
        assert self.socket.poll(10_000, zmq.POLLOUT)
        if greet:
            self.say(Hello(version=PROTOCOL))
            self.welcome = self.hear(Welcome)

    def say(self, message: Message, pixels: bytes | None = None) -> None:
        parts = [encode(message)] if pixels is None else [encode(message), pixels]
        assert send(self.socket, parts)

    def raw(self, *parts: bytes) -> None:
        assert send(self.socket, parts)

    def frame(self, run: UUID, seq: int, image: np.ndarray, **changes: object) -> None:
        fields = {
            "run": run,
            "seq": seq,
            "t_ns": time.perf_counter_ns(),
            "dtype": "uint16",
            "shape": image.shape,
        }
        data = image.tobytes()
        self.say(FrameHeader(**{**fields, "nbytes": len(data), **changes}), data)

    def hear(self, kind: type, wait_s: float = 20.0) -> Any:  # noqa: ANN401 - a message of that kind
        """Return the next message of a kind, and let others go by."""
        return self.hear_with_pixels(kind, wait_s)[0]

    def hear_with_pixels(self, kind: type, wait_s: float = 20.0) -> tuple[Any, Any]:
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            self.socket.poll(100)
            parts = receive(self.socket)
            if parts is not None:
                message, pixels = unpack(parts)
                if isinstance(message, kind):
                    return message, pixels
        raise AssertionError(f"no {kind.__name__} came")

    def close(self) -> None:
        self.socket.close(linger=0)
        self.context.term()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_of(run: UUID, **changes: object) -> Start:
    fields = {"run": run, "name": "raw", "dtype": "uint16", "shape": SHAPE, "calibration": fake.CALIBRATION}
    return Start(**{**fields, **changes})


def view(server: Server, **options: object) -> tuple[Viewed | Error, np.ndarray | None]:
    with Peer(server.view_address, greet=False) as viewer:
        viewer.say(View(request=5, **options))
        header, pixels = viewer.hear_with_pixels(Viewed | Error)
        assert header.request == 5
        return header, np.frombuffer(pixels, "<f4").reshape(header.h, header.w).copy() if pixels is not None else None


def statuses(server: Server, enough: Callable[[Status], bool]) -> Status:
    """Return the first published status that satisfies."""
    context = zmq.Context()
    subscriber = connect_subscriber(context, server.status_address)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            subscriber.poll(100)
            parts = receive(subscriber)
            if parts is not None:
                status, _ = unpack(parts)
                assert isinstance(status, Status)
                if enough(status):
                    return status
        raise AssertionError("no such status was published")
    finally:
        subscriber.close(linger=0)
        context.term()


def movie(n: int, seed: int = 0) -> np.ndarray:
    return served.movie(n, seed, SHAPE)


def strict_server(engine: fake.FakeEngine, closed: served.Closed) -> Iterator[Server]:
    """Yield a server that allows little, as a fixture does."""
    limits = {"max_frame_bytes": 4000, "credit_bytes": CREDIT, "max_sessions": 3}
    with Server(
        engine, finish=closed, bind="tcp://127.0.0.1:*", heartbeat_s=0.1, grace_s=0.2, max_batch=8, **limits
    ) as running:
        yield running
        engine.gate.set()
    running.raise_if_failed()
