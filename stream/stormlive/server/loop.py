"""The server: sockets in one thread, the engine in another."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self
from uuid import uuid4

import zmq

from stormlive.server.protocols import Engine, Finish
from stormlive.server.reception import Reception
from stormlive.server.runs import Runs
from stormlive.server.status import idle_status, run_status
from stormlive.server.worker import Outgoing, Worker
from stormlive.wire.codec import Buffer, ProtocolError, encode, unpack
from stormlive.wire.messages import (
    MAX_SPANS,
    PROTOCOL,
    Credit,
    Error,
    Final,
    Message,
    View,
    Welcome,
    one_line,
)
from stormlive.wire.transport import (
    DEFAULT_ADDRESS,
    Waker,
    bind_publisher,
    bind_router,
    endpoint,
    port_of,
    receive,
    send,
)
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)

STATUS_S = 0.2
# Messages taken from one socket before the others have their turn.
_BURST = 256
# Answers, up to 64 MiB each, that wait for a viewer that does not read; more are let go.
_VIEW_QUEUE = 2
# When the server stops: how long senders have to read their FINAL and hang up.
_FAREWELL_S = 1.0


class Server:
    """Takes frames from senders, lets the engine add them to canvases, answers viewers, publishes status.

    Parameters
    ----------
    engine
        Makes the canvases.
    finish
        Called in the engine thread when a run ends; writes its files and returns their folder.
    bind
        Loopback address of the data port; port ``*`` takes a free one. Views and status get free ports, which
        WELCOME tells.
    max_sessions
        Senders, and open runs, at a time.
    credit_bytes
        Pixels that a sender may have under way; bounds the server's memory to this × `max_sessions`.
    max_frame_bytes
        Largest frame.
    max_batch
        Most frames that the engine gets at once.
    heartbeat_s, grace_s
        Senders ping every `heartbeat_s`; after three missed ones and `grace_s` more the run is ended.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        finish: Finish,
        bind: str = DEFAULT_ADDRESS,
        max_sessions: int = 8,
        credit_bytes: int = 64 * 2**20,
        max_frame_bytes: int = 64 * 2**20,
        max_batch: int = 64,
        heartbeat_s: float = 1.0,
        grace_s: float = 15.0,
    ) -> None:
        if credit_bytes < max_frame_bytes:
            raise InputError(
                f"credit_bytes ({credit_bytes}) must be at least max_frame_bytes ({max_frame_bytes})"
            )
        if not 1 <= max_batch <= MAX_SPANS:
            raise InputError(f"max_batch must be 1 to {MAX_SPANS}, got {max_batch}")
        self._engine = engine
        self._bind = bind
        self._max_sessions = max_sessions
        self._credit_bytes = credit_bytes
        self._max_frame_bytes = max_frame_bytes
        self._heartbeat_s = heartbeat_s
        self._grace_s = grace_s
        self._epoch = uuid4().hex
        self._runs = Runs(max_open=max_sessions, max_batch=max_batch)
        self._worker = Worker(self._runs, engine, finish, self._post)
        # At most one credit per batch, one answer per viewer and one FINAL per run, sent within milliseconds.
        self._outgoing: deque[Outgoing] = deque()
        self._told: dict[bytes, float] = {}
        self._io_stop = threading.Event()
        self._failure: Exception | None = None
        self._engine_thread = self._thread("engine", self._worker.work)
        self._io_thread = self._thread("io", self._serve)
        self.address = self.view_address = self.status_address = ""

    def start(self) -> Self:
        """Bind and start; when it returns, clients can connect. InputError when the port is in use."""
        if self.address:
            return self
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._waker = Waker()
        try:
            self._data = bind_router(context, self._bind, max_part_bytes=self._max_frame_bytes)
            self._views = bind_router(context, "tcp://127.0.0.1:*", max_part_bytes=0, send_queue=_VIEW_QUEUE)
            self._status = bind_publisher(context, "tcp://127.0.0.1:*")
        except InputError:
            context.destroy(linger=0)
            self._waker.close()
            raise
        self._context = context
        self.address = endpoint(self._data)
        self.view_address = endpoint(self._views)
        self.status_address = endpoint(self._status)
        self._reception = Reception(
            self._runs,
            self._welcome,
            time.perf_counter_ns,
            max_sessions=self._max_sessions,
            grace_s=self._grace_s,
        )
        self._engine_thread.start()
        self._io_thread.start()
        return self

    def stop(self) -> None:
        """Work off what has arrived, close every run so that nothing is lost, and end both threads."""
        if not self.address:
            return
        self._runs.stop("server stopped")
        self._engine_thread.join()
        self._io_stop.set()
        self._waker.wake()
        self._io_thread.join()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has ended, by `stop` or by failure; False after `timeout_s`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        # In short waits, so that Ctrl-C reaches the main thread on Windows too.
        while self._io_thread.is_alive():
            if deadline is not None and time.monotonic() > deadline:
                return False
            self._io_thread.join(0.2)
        return True

    def raise_if_failed(self) -> None:
        """Raise what ended a thread of the server, if anything did."""
        if self._failure is not None:
            raise RuntimeError(f"the server failed: {self._failure}") from self._failure

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                target()
            except Exception as error:
                _log.exception("the server's %s thread failed", name)
                self._failure = self._failure or error
                self._runs.stop(one_line(f"server failed: {error}"))
                self._io_stop.set()
                self._waker.wake()

        return threading.Thread(target=guarded, name=f"stormlive-{name}", daemon=True)

    def _post(self, outgoing: Outgoing) -> None:
        self._outgoing.append(outgoing)
        self._waker.wake()

    def _welcome(self) -> Welcome:
        return Welcome(
            version=PROTOCOL,
            epoch=self._epoch,
            credit_bytes=self._credit_bytes,
            max_frame_bytes=self._max_frame_bytes,
            heartbeat_ms=round(1000 * self._heartbeat_s),
            clock_ns=time.perf_counter_ns(),
            model=one_line(self._engine.model_name),
            model_pixel_size_nm=self._engine.pixel_size_nm,
            view_port=port_of(self.view_address),
            status_port=port_of(self.status_address),
        )

    # Everything below runs in the IO thread.

    def _serve(self) -> None:
        poller = zmq.Poller()
        for readable in (self._data, self._views, self._waker):
            poller.register(readable, zmq.POLLIN)
        pause_ms = int(1000 * min(STATUS_S, self._heartbeat_s / 4))
        next_tick = time.monotonic()
        try:
            while not self._io_stop.is_set():
                poller.poll(pause_ms)
                self._waker.drain()
                self._take_data()
                self._take_views()
                self._send_outgoing()
                now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + pause_ms / 1000
                    self._reception.tick(now)
                    self._publish(now)
                    self._told = {peer: at for peer, at in self._told.items() if now - at < _FAREWELL_S}
            self._send_outgoing()
            self._see_off()
        finally:
            self._waker.close()
            self._context.destroy(linger=0)

    def _take_data(self) -> None:
        now = time.monotonic()
        for _ in range(_BURST):
            parts = receive(self._data, routed=True)
            if parts is None:
                return
            peer = bytes(parts[0])
            answer = self._reception.take(peer, parts[1:], now)
            if answer is not None:
                send(self._data, [peer, encode(answer)])

    def _take_views(self) -> None:
        for _ in range(_BURST):
            parts = receive(self._views, routed=True)
            if parts is None:
                return
            peer = bytes(parts[0])
            answer = self._queue_view(peer, parts[1:])
            if answer is not None:
                send(self._views, [peer, encode(answer)])

    def _queue_view(self, peer: bytes, parts: list[memoryview]) -> Message | None:
        try:
            message, _ = unpack(parts)
            if not isinstance(message, View):
                raise ProtocolError(f"the view port takes VIEW, got {type(message).__name__}")
        except ProtocolError as error:
            return Error(code=error.code, fatal=True, message=one_line(error))
        if self._runs.ask(peer, message):
            return None
        return Error(
            code="busy", fatal=False, message="too many viewers are waiting", request=message.request
        )

    def _send_outgoing(self) -> None:
        while self._outgoing:
            out = self._outgoing.popleft()
            if isinstance(out.message, Credit):
                self._reception.returned(out.peer, out.message.bytes)
            if isinstance(out.message, Final):
                self._told[out.peer] = time.monotonic()
            parts: list[Buffer] = [out.peer, encode(out.message)]
            if out.pixels is not None:
                parts.append(out.pixels.reshape(-1).view("u1").data)
            # A peer that is gone, or so slow that its queue is full, loses the message: it will be silent.
            send(self._views if out.channel == "view" else self._data, parts)

    def _see_off(self) -> None:
        """Keep the connections until the senders have hung up: libzmq drops what is unread on a lost one."""
        deadline = time.monotonic() + _FAREWELL_S
        probe = encode(Error(code="stopped", fatal=False, message="the server has stopped"))
        peers = list(self._told)
        while peers and time.monotonic() < deadline:
            peers = [peer for peer in peers if send(self._data, [peer, probe])]
            time.sleep(0.01)

    def _publish(self, now: float) -> None:
        silent = self._reception.silent(now)
        with self._runs.lock:
            runs = self._runs.shown()
            statuses = [run_status(run, self._engine, silent=run.start.run in silent) for run in runs]
        for status in statuses or [idle_status(self._engine)]:
            send(self._status, [encode(status)])
