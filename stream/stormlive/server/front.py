"""The server's sockets, and the IO thread's work on them."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias
from uuid import UUID, uuid4

import zmq

from stormlive.server.auth import Authenticator
from stormlive.server.doorman import Doorman, doormen
from stormlive.server.limits import Limits
from stormlive.server.protocols import Engine
from stormlive.server.reception import Reception
from stormlive.server.run import Run
from stormlive.server.runs import Runs
from stormlive.server.status import idle_status, run_status
from stormlive.server.steering import Steering
from stormlive.server.worker import Outgoing
from stormlive.wire import messages
from stormlive.wire.codec import Buffer, ProtocolError, encode, unpack
from stormlive.wire.curve import ServerKeys
from stormlive.wire.fields import MAX_SPANS
from stormlive.wire.messages import PROTOCOL, Message, Welcome
from stormlive.wire.text import one_line
from stormlive.wire.transport import (
    Waker,
    bind_publisher,
    bind_router,
    endpoint,
    neighbour_address,
    port_of,
    receive,
    send,
)
from stormlive.wire.viewing import Steer, View
from stormlive_sim.errors import InputError

STATUS_S = 0.2
# Messages taken from one socket before the others have their turn.
_BURST = 256
# Answers, up to 64 MiB each, that wait for a viewer that does not read; more are let go.
_VIEW_QUEUE = 4
# When the server stops: how long senders have to read their FINAL and hang up.
_FAREWELL_S = 1.0


Take: TypeAlias = Callable[[bytes, Sequence[Buffer], float], Message | None]


class Front:
    """Binds when it is made; `serve` runs in the IO thread until `stop`; any thread may `post`."""

    def __init__(self, runs: Runs, engine: Engine, bind: str, limits: Limits, keys: ServerKeys | None = None) -> None:
        self._runs = runs
        self._engine = engine
        self._limits = limits
        self._epoch = uuid4().hex
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            # Before the sockets: without an answer to their question they take nobody.
            self._authenticator = None if keys is None else Authenticator(self._context, keys)
            self._data = bind_router(self._context, bind, max_part_bytes=limits.max_frame_bytes, keys=keys)
            data = endpoint(self._data)
            self._views = bind_router(
                self._context, neighbour_address(data, 1), max_part_bytes=0, send_queue=_VIEW_QUEUE, keys=keys
            )
            self._status = bind_publisher(self._context, neighbour_address(data, 2), keys=keys)
        except InputError:
            self._context.destroy(linger=0)
            raise
        self.address = endpoint(self._data)
        self.view_address = endpoint(self._views)
        self.status_address = endpoint(self._status)
        self._doormen = doormen(limits, self._data, self._views, self._status)
        self._waker = Waker()
        self._stop = threading.Event()
        # At most one CREDIT per batch, one answer per viewer and one FINAL per run, sent within milliseconds.
        self._outgoing: deque[Outgoing] = deque()
        self._told_final: dict[bytes, float] = {}
        self._steering = Steering(runs, open_to_all=limits.open_steering)
        door = self._doormen[0]
        self._reception = Reception(runs, self._welcome, time.perf_counter_ns, limits, door.client, door.excuse)

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
        if self._authenticator is not None:
            poller.register(self._authenticator.socket, zmq.POLLIN)
        for doorman in self._doormen:
            poller.register(doorman.events, zmq.POLLIN)
        pause_s = min(STATUS_S, self._limits.heartbeat_s / 4)
        next_tick = time.monotonic()
        try:
            while not self._stop.is_set():
                poller.poll(int(1000 * pause_s))
                self._waker.drain()
                if self._authenticator is not None:
                    self._authenticator.answer()
                for doorman in self._doormen:
                    doorman.take_events(time.monotonic())
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
            for doorman in self._doormen:
                doorman.close()
            self._context.destroy(linger=0)

    def expect(self, run: Run) -> None:
        """Wait for the sender of a run that was interrupted; before `serve`."""
        self._reception.expect(run, time.monotonic())

    def _welcome(self, run: UUID | None) -> Welcome:
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
            have=tuple(self._runs.have(run))[:MAX_SPANS],
        )

    def _take_data(self) -> None:
        now = time.monotonic()
        for _ in range(_BURST):
            parts = receive(self._data, routed=True)
            if parts is None:
                return
            peer = bytes(parts[0])
            answer = self._at_door(self._doormen[0], peer, parts[1:], now, self._reception.take)
            if answer is not None:
                send(self._data, [peer, encode(answer)])

    def _take_views(self) -> None:
        now = time.monotonic()
        for _ in range(_BURST):
            parts = receive(self._views, routed=True)
            if parts is None:
                return
            peer = bytes(parts[0])
            answer = self._at_door(self._doormen[1], peer, parts[1:], now, self._queue_view)
            if answer is not None:
                send(self._views, [peer, encode(answer)])

    @staticmethod
    def _at_door(doorman: Doorman, peer: bytes, parts: list[memoryview], now: float, take: Take) -> Message | None:
        """Return the answer to a message, if it is one that its sender may send now."""
        surplus = doorman.admit(peer, parts, now)
        if surplus is not None:
            return messages.Error(code="rate", fatal=False, message=surplus) if surplus else None
        answer = take(peer, parts, now)
        if isinstance(answer, messages.Error):
            doorman.blame(peer, now)
        return answer

    def _queue_view(self, peer: bytes, parts: Sequence[Buffer], _now: float) -> Message | None:
        try:
            message, _ = unpack(parts)
            if isinstance(message, Steer):
                return self._steering.answer(message)
            if not isinstance(message, View):
                raise ProtocolError(f"the view port takes VIEW and STEER, got {type(message).__name__}")
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
        if self._authenticator is not None and self._authenticator.refresh(now):
            for doorman in self._doormen:
                doorman.admit_only(self._authenticator.allowed, now)
        for doorman in self._doormen:
            doorman.tick(now)
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
