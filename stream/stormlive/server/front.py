"""The server's sockets, and the IO thread's work on them."""

import threading
import time
from collections import deque
from uuid import uuid4

import zmq

from stormlive.server.limits import Limits
from stormlive.server.protocols import Engine
from stormlive.server.reception import Reception
from stormlive.server.runs import Runs
from stormlive.server.status import idle_status, run_status
from stormlive.server.worker import Outgoing
from stormlive.wire import messages
from stormlive.wire.codec import Buffer, ProtocolError, encode, unpack
from stormlive.wire.messages import PROTOCOL, Welcome, one_line
from stormlive.wire.transport import Waker, bind_publisher, bind_router, endpoint, port_of, receive, send
from stormlive_sim.errors import InputError

STATUS_S = 0.2
# Messages taken from one socket before the others have their turn.
_BURST = 256
# Answers, up to 64 MiB each, that wait for a viewer that does not read; more are let go.
_VIEW_QUEUE = 4
# When the server stops: how long senders have to read their FINAL and hang up.
_FAREWELL_S = 1.0
_ANY_PORT = "tcp://127.0.0.1:*"


class Front:
    """Binds when it is made; `serve` runs in the IO thread until `stop`; any thread may `post`."""

    def __init__(self, runs: Runs, engine: Engine, bind: str, limits: Limits) -> None:
        self._runs = runs
        self._engine = engine
        self._limits = limits
        self._epoch = uuid4().hex
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._data = bind_router(self._context, bind, max_part_bytes=limits.max_frame_bytes)
            self._views = bind_router(self._context, _ANY_PORT, max_part_bytes=0, send_queue=_VIEW_QUEUE)
            self._status = bind_publisher(self._context, _ANY_PORT)
        except InputError:
            self._context.destroy(linger=0)
            raise
        self.address = endpoint(self._data)
        self.view_address = endpoint(self._views)
        self.status_address = endpoint(self._status)
        self._waker = Waker()
        self._stop = threading.Event()
        # At most one CREDIT per batch, one answer per viewer and one FINAL per run, sent within milliseconds.
        self._outgoing: deque[Outgoing] = deque()
        self._told_final: dict[bytes, float] = {}
        self._reception = Reception(runs, self._welcome, time.perf_counter_ns, limits)

    def post(self, outgoing: Outgoing) -> None:
        """Have a message sent; never blocks."""
        self._outgoing.append(outgoing)
        self._waker.wake()

    def stop(self) -> None:
        """Let `serve` send what there is and return."""
        self._stop.set()
        self._waker.wake()

    def serve(self) -> None:
        """Take what comes, send what was posted, publish status."""
        poller = zmq.Poller()
        for readable in (self._data, self._views, self._waker):
            poller.register(readable, zmq.POLLIN)
        pause_s = min(STATUS_S, self._limits.heartbeat_s / 4)
        next_tick = time.monotonic()
        try:
            while not self._stop.is_set():
                poller.poll(int(1000 * pause_s))
                self._waker.drain()
                self._take_data()
                self._take_views()
                self._send_outgoing()
                now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + pause_s
                    self._tick(now)
            self._send_outgoing()
            self._see_off()
        finally:
            self._waker.close()
            self._context.destroy(linger=0)

    def _welcome(self) -> Welcome:
        return Welcome(
            version=PROTOCOL,
            epoch=self._epoch,
            credit_bytes=self._limits.credit_bytes,
            max_frame_bytes=self._limits.max_frame_bytes,
            heartbeat_ms=round(1000 * self._limits.heartbeat_s),
            clock_ns=time.perf_counter_ns(),
            model=one_line(self._engine.model_name),
            model_pixel_size_nm=self._engine.pixel_size_nm,
            model_takes_nm=self._engine.camera_pixels_nm,
            view_port=port_of(self.view_address),
            status_port=port_of(self.status_address),
        )

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

    def _queue_view(self, peer: bytes, parts: list[memoryview]) -> messages.Error | None:
        try:
            message, _ = unpack(parts)
            if not isinstance(message, messages.View):
                raise ProtocolError(f"the view port takes VIEW, got {type(message).__name__}")
        except ProtocolError as error:
            return messages.Error(code=error.code, fatal=True, message=one_line(error))
        if self._runs.ask(peer, message):
            return None
        text = "too many viewers are waiting"
        return messages.Error(code="busy", fatal=False, message=text, request=message.request)

    def _send_outgoing(self) -> None:
        while self._outgoing:
            out = self._outgoing.popleft()
            if isinstance(out.message, messages.Credit) and out.credit is not None:
                out.credit.give(out.message.bytes)
                if self._reception.begun_anew(out.peer, out.credit):
                    continue
            if isinstance(out.message, messages.Final):
                self._told_final[out.peer] = time.monotonic()
            parts: list[Buffer] = [out.peer, encode(out.message)]
            if out.pixels is not None:
                parts.append(out.pixels.reshape(-1).view("u1").data)
            # A peer that is gone, or so slow that its queue is full, loses the message: it will be silent.
            send(self._views if out.channel == "view" else self._data, parts)

    def _tick(self, now: float) -> None:
        self._reception.tick(now)
        self._told_final = {peer: at for peer, at in self._told_final.items() if now - at < _FAREWELL_S}
        silent = self._reception.silent(now)
        with self._runs.lock:
            statuses = [run_status(run, self._engine, silent=run.start.run in silent) for run in self._runs.shown()]
        for status in statuses or [idle_status(self._engine)]:
            send(self._status, [encode(status)])

    def _see_off(self) -> None:
        """Keep the connections until the senders have hung up: libzmq drops what is unread on a lost one."""
        deadline = time.monotonic() + _FAREWELL_S
        probe = encode(messages.Error(code="stopped", fatal=False, message="the server has stopped"))
        peers = list(self._told_final)
        while peers and time.monotonic() < deadline:
            peers = [peer for peer in peers if send(self._data, [peer, probe])]
            time.sleep(0.01)
