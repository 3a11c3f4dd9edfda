"""The other end for those who look on: status messages and pieces of the picture."""

import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

import numpy as np
import zmq
from msgspec import UNSET
from numpy.typing import NDArray

from stormlive.wire import messages
from stormlive.wire.codec import Buffer, check_version, encode, unpack
from stormlive.wire.curve import ClientKeys, load_client_keys
from stormlive.wire.fields import Picture, Region
from stormlive.wire.handshake import Handshake
from stormlive.wire.messages import Welcome
from stormlive.wire.packing import picture_of
from stormlive.wire.region import check_region
from stormlive.wire.transport import (
    DEFAULT_ADDRESS,
    client_address,
    connect_dealer,
    connect_subscriber,
    is_loopback,
    receive,
    send,
)
from stormlive.wire.viewing import MAX_VIEW_BYTES, Status, Steer, Steered, View, Viewed
from stormlive_sim.errors import InputError

_BEYOND = 2**31 - 1
_LONGEST_S = 60.0
_LOOK_S = 0.1


class LiveClient:
    """Looks at a running server: it takes nothing from the camera's side and can come and go at any time.

    Use it from one thread.

    Parameters
    ----------
    address : str
        The server's data address, as `stormlive serve` prints it.
    timeout_s : float
        How long to wait for any answer; for a picture up to a minute, as long as the server tells its status.
    keys : ClientKeys, path or None
        For a server with keys, or the folder that has them; without them only loopback addresses.
    compressed : bool or None
        Have pictures compressed on their way; None: those of a server on another machine.

    Attributes
    ----------
    heard_at : float
        When the server said something last, of whichever run; seconds of the monotonic clock.

    Raises
    ------
    ConnectionError
        When no server answers, or it does not let us in.
    InputError
        When it speaks another version.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        timeout_s: float = 5.0,
        *,
        keys: ClientKeys | Path | str | None = None,
        compressed: bool | None = None,
    ) -> None:
        if isinstance(keys, Path | str):
            keys = load_client_keys(keys)
        self._timeout_s = timeout_s
        self._request = 0
        self._keys = keys
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []
        self._left = threading.Event()
        # That came while an answer was waited for.
        self._put_by = deque[Status](maxlen=64)
        try:
            self.address = client_address(address, keys)
            self._compressed = not is_loopback(self.address) if compressed is None else compressed
            self.welcome = self._greet(self.address)
            base = self.address.rpartition(":")[0]
            self._views = connect_dealer(
                self._context, f"{base}:{self.welcome.view_port}", max_part_bytes=MAX_VIEW_BYTES, keys=keys
            )
            self._statuses = connect_subscriber(self._context, f"{base}:{self.welcome.status_port}", keys=keys)
            self._sockets += [self._views, self._statuses]
            self.heard_at = time.monotonic()
        except BaseException:
            self.close()
            raise

    def _greet(self, address: str) -> Welcome:
        handshake = Handshake()
        dealer = connect_dealer(self._context, address, keys=self._keys, handshake=handshake)
        self._sockets.append(dealer)
        deadline = time.monotonic() + self._timeout_s
        hello = encode(messages.Hello(version=messages.PROTOCOL, role="viewer"))
        try:
            connected = handshake.settle(self._timeout_s)
            refusal = handshake.refusal()
        finally:
            handshake.close()
        if not connected or not send(dealer, [hello]):
            raise ConnectionError(refusal or f"no answer from {address}: is stormlive serve running there?")
        answer = self._answer(dealer, deadline)
        if answer is None:
            raise ConnectionError(f"no answer from {address} within {self._timeout_s:g} s; is the server hung?")
        message = answer[0]
        if isinstance(message, messages.Error):
            raise InputError(message.message)
        if not isinstance(message, Welcome):
            raise InputError(f"{address} answered HELLO with {type(message).__name__}; is it a stormlive server?")
        check_version(message.version)
        self._sockets.remove(dealer)
        dealer.close()
        return message

    @staticmethod
    def _answer(socket: zmq.Socket[bytes], deadline: float) -> tuple[messages.Message, Buffer | None] | None:
        left_ms = max(0, int((deadline - time.monotonic()) * 1000))
        if not socket.poll(left_ms):
            return None
        parts = receive(socket)
        return None if parts is None else unpack(parts)

    def status(self, timeout_s: float, run: UUID | None = None) -> Status | None:
        """Return the newest status, waiting for one up to `timeout_s`; None when none came.

        A server may have several runs. With `run` those of others are passed over, but not that of a server without.
        """
        newest: Status | None = None
        deadline = time.monotonic() + timeout_s
        while (status := self._told(deadline)) is not None:
            if run is None or status.run in (run, None):
                newest = status
                deadline = 0.0  # take what waits, and no more
        return newest

    def statuses(self, timeout_s: float) -> tuple[Status, ...]:
        """Return the newest status of each run that the server tells of in `timeout_s`, that of the newest run last."""
        newest: dict[UUID | None, Status] = {}
        deadline = time.monotonic() + timeout_s
        while (status := self._told(deadline)) is not None:
            newest.pop(status.run, None)
            newest[status.run] = status
        return tuple(newest.values())

    def _told(self, deadline: float) -> Status | None:
        """Return the next status, or None when none came in time."""
        return self._put_by.popleft() if self._put_by else self._arrived(deadline)

    def _arrived(self, deadline: float) -> Status | None:
        while (answer := self._answer(self._statuses, deadline)) is not None:
            self.heard_at = time.monotonic()
            if isinstance(answer[0], Status):
                return answer[0]
        return None

    def view(
        self,
        picture: Picture,
        *,
        level: int = 0,
        rectangle: tuple[int, int, int, int] = (0, 0, _BEYOND, _BEYOND),
        canvas: str | None = None,
        rounded: bool = False,
        contrast: bool = False,
        run: UUID | None = None,
    ) -> tuple[Viewed, NDArray[np.float32]] | None:
        """Return a piece of a picture, or None while there is no such run, canvas or picture.

        Parameters
        ----------
        picture : str
            ``canvas``, ``widefield`` or ``last``; ``errors`` or ``corrected``, where the server judges the run.
        level : int
            The canvas, or the corrected one, summed over 2**level pixels a side.
        rectangle : tuple of int
            (x, y, width, height) in pixels of that level; clipped to the picture.
        canvas : str or None
            One of the status's `canvases`; None for the one that was begun last.
        rounded : bool
            Where pictures are compressed, their values may come to 0.4 %: enough for a screen, and half the bytes.
        contrast : bool
            Have the automatic contrast of the whole picture sent too, where the server knows it.
        run : UUID or None
            The status's `run`; None for the run that started last.

        Raises
        ------
        ConnectionError
            When the server does not answer.
        """
        self._request += 1
        x, y, w, h = rectangle
        request = View(
            request=self._request,
            run=run,
            picture=picture,
            level=level,
            x=x,
            y=y,
            w=w,
            h=h,
            canvas=canvas or UNSET,
            accept=UNSET if not self._compressed else "zlib-bf16" if rounded else "zlib",
            contrast=contrast or UNSET,
        )
        message, pixels = self._asked(request)
        return (message, picture_of(message, pixels or b"")) if isinstance(message, Viewed) else None

    def steer(self, run: UUID, region: Region | None, token: bytes = b"") -> Region | None:
        """Have the frames of a run computed in a region only from now on, or all over again; return which it is.

        Parameters
        ----------
        run : UUID
            The status's `run`.
        region : tuple of int or None
            (x, y, width, height) in pixels of the frames; it may come out a pixel wider. None: all over.
        token : bytes
            That of the `StreamHook` that feeds the run; not needed where the server lets all viewers choose.

        Raises
        ------
        InputError
            When the server refuses, and why.
        ConnectionError
            When it does not answer.
        """
        self._request += 1
        request = Steer(
            request=self._request, run=run, region=None if region is None else check_region(region), token=token
        )
        answer, _ = self._asked(request)
        if isinstance(answer, messages.Error):
            raise InputError(answer.message)
        return answer.region if isinstance(answer, Steered) else None

    def _asked(self, request: View | Steer) -> tuple[messages.Message, Buffer | None]:
        """Return the answer to a request, or the error that is one.

        Pictures come between two frames, which take a large field's engine seconds each: a server that tells its
        status meanwhile is waited for longer, and asked again, since an answer may be lost with a connection.
        """
        asked_at = time.monotonic()
        self._ask(request)
        poller = zmq.Poller()
        for socket in (self._views, self._statuses):
            poller.register(socket, zmq.POLLIN)
        alive_at = again_at = asked_at
        while (left_s := min(alive_at + self._timeout_s, asked_at + _LONGEST_S) - time.monotonic()) > 0:
            if self._left.is_set():
                break
            ready = dict(poller.poll(int(1000 * min(left_s, _LOOK_S)) + 1))
            if self._statuses in ready and (status := self._arrived(0.0)) is not None:
                alive_at = self.heard_at
                self._put_by.append(status)
            if time.monotonic() - again_at > self._timeout_s:
                self._ask(request)
                again_at = time.monotonic()
            answer = self._answer(self._views, 0.0) if self._views in ready else None
            if answer is None:
                continue
            message = answer[0]
            # An answer to an earlier request that was given up, or a second one, is passed over.
            if isinstance(message, messages.Error) and message.request in (None, request.request):
                return answer
            if isinstance(message, Viewed | Steered) and message.request == request.request:
                return answer
        raise ConnectionError(f"the server sent no answer within {time.monotonic() - asked_at:.3g} s")

    def _ask(self, request: View | Steer) -> None:
        if not self._views.poll(int(self._timeout_s * 1000), zmq.POLLOUT) or not send(self._views, [encode(request)]):
            raise ConnectionError("the server does not answer any more")

    def leave(self) -> None:
        """Let whoever waits for an answer wait no longer; from any thread."""
        self._left.set()

    def close(self) -> None:
        """Close the sockets."""
        for socket in self._sockets:
            socket.close(linger=0)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def status_text(status: Status) -> str:
    """Return a status as one line for people."""
    if status.run is None:
        return f"waiting for frames · model {status.model} on {status.device}"
    total = f"/{status.expected}" if status.expected else ""
    replayed = f" ({status.replayed} replayed)" if status.replayed else ""
    latency = "–"
    if status.latency_p50_ms is not None and status.latency_p99_ms is not None:
        latency = f"{status.latency_p50_ms:.0f}/{status.latency_p99_ms:.0f} ms"
    return (
        f"{status.name}: {status.live + status.replayed}{total} frames{replayed} · "
        f"{status.frames_per_s:.1f} frames/s · backlog {status.backlog} · "
        f"latency p50/p99 {latency} · dropped {status.dropped} · {status.state}"
        + (f" · {status.notice}" if status.notice else "")
    )
