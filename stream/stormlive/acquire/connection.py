"""One connection of the sender to the server, from HELLO to its loss or to FINAL."""

import time
from collections.abc import Callable
from typing import TypeAlias

import zmq

from stormlive.acquire.account import Account
from stormlive.acquire.outbox import Outbox, Parcel
from stormlive.ranges import Ranges
from stormlive.wire import messages
from stormlive.wire.codec import ProtocolError, check_version, encode, frame_header, span_groups, unpack
from stormlive.wire.flow import ClockOffset, Credit, Silence
from stormlive.wire.frame import DtypeName, Frame
from stormlive.wire.transport import Waker, receive, send

StartMaker: TypeAlias = Callable[[DtypeName, tuple[int, int]], messages.Start]

CONNECT_S = 1.0
ANSWER_S = 2.0
# An engine may need long for a batch, and for the run's files after END: as long as the server answers pings
# meanwhile, that counts as progress, up to this long after its last acknowledgement.
PATIENCE_S = 120.0
# Frames sent before the socket is read again.
BURST = 64


class RefusedError(Exception):
    """The server does not take this run, and asking again would not help."""


class Connection:
    """Speaks the protocol over one socket, in the sender's thread."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        outbox: Outbox,
        account: Account,
        waker: Waker,
        make_start: StartMaker,
    ) -> None:
        self._socket = socket
        self._outbox = outbox
        self._account = account
        self._waker = waker
        self._make_start = make_start
        self._welcome: messages.Welcome
        self._clock = ClockOffset()
        self._credit = Credit(0)
        self._start: messages.Start | None = None
        self._reported: dict[str, int] = {}
        self._end_sent = False
        self._at_work_since = time.monotonic()
        self._lost = False
        self.unacknowledged: dict[int, Parcel] = {}

    def greet(self) -> bool:
        """Say HELLO and take WELCOME; False when nobody answers."""
        account = self._account
        if not self._socket.poll(int(1000 * CONNECT_S), zmq.POLLOUT):
            return False
        asked_ns = time.perf_counter_ns()
        self._post(messages.Hello(version=messages.PROTOCOL))
        deadline = time.monotonic() + ANSWER_S
        while not account.stop.is_set() and not self._lost and time.monotonic() < deadline:
            self._socket.poll(100)
            answer = self._next()
            if isinstance(answer, messages.Welcome):
                check_version(answer.version)
                self._clock.sample(sent_ns=asked_ns, received_ns=time.perf_counter_ns(), peer_ns=answer.clock_ns)
                self._credit = Credit(answer.credit_bytes)
                self._welcome = answer
                account.greet(answer)
                return True
            if answer is not None:
                self._take(answer)
        return False

    def stream(self) -> None:
        """Send what waits, take what comes; return when the connection is lost or the run is closed."""
        account = self._account
        beat_s = self._welcome.heartbeat_ms / 1000
        silence = Silence(time.monotonic(), 3 * beat_s)
        next_ping = time.monotonic()
        poller = zmq.Poller()
        poller.register(self._waker, zmq.POLLIN)
        while True:
            while account.final is None and (message := self._next()) is not None:
                silence.heard(time.monotonic())
                self._take(message)
            now = time.monotonic()
            if self._lost or account.stop.is_set() or account.final is not None:
                return
            if account.ending is not None and self._outbox.form is None:
                return
            if silence.too_long(now):
                account.trouble = f"the server has been silent for {3 * beat_s:g} s"
                return
            if now >= next_ping:
                next_ping = now + beat_s
                self._post(messages.Ping(clock_ns=time.perf_counter_ns()))
                if self._start is not None:
                    self._report_drops()
            queue_full = not self._send_frames()
            self._send_end()
            self._wait(poller, queue_full, most_s=beat_s / 4)

    def _wait(self, poller: zmq.Poller, queue_full: bool, most_s: float) -> None:
        """Sleep until the server speaks, a frame is offered that could be sent, or `most_s` have passed."""
        outbox = self._outbox
        has_credit = self._credit.in_flight + self._credit.cost(outbox.frame_bytes) <= self._credit.window
        could_send = has_credit and not queue_full
        # Set before looking: a frame offered after the look finds it set and wakes us.
        outbox.sender_sleeps = could_send
        if not (could_send and outbox.waiting):
            wanted = zmq.POLLIN | zmq.POLLOUT if queue_full and has_credit else zmq.POLLIN
            poller.register(self._socket, wanted)
            if self._waker.fileno() in dict(poller.poll(int(1000 * most_s))):
                self._waker.drain()
        outbox.sender_sleeps = False

    def _send_frames(self) -> bool:
        """Send what waits as far as credit goes; False when the socket takes no more."""
        outbox, account = self._outbox, self._account
        if self._start is None:
            if outbox.form is None:
                return True
            if outbox.frame_bytes > self._welcome.max_frame_bytes:
                limit = self._welcome.max_frame_bytes
                raise RefusedError(f"a frame has {outbox.frame_bytes} bytes, the server takes {limit}")
            start = self._make_start(*outbox.form)
            if not self._post(start):
                return False
            self._start = start
        cost = self._credit.cost(outbox.frame_bytes)
        for _ in range(BURST):
            if not outbox.waiting or not self._credit.take(cost):
                return True
            parcel = outbox.waiting[0]
            pixels = outbox.pixels(parcel)
            t_ns = parcel.t_ns + self._clock.ns
            frame = Frame(run=self._start.run, seq=parcel.seq, t_ns=t_ns, axes=parcel.axes, pixels=pixels)
            header = encode(frame_header(frame))
            # The slot is not used again before its frame is acknowledged, so libzmq may read it in place.
            if not send(self._socket, [header, pixels.reshape(-1).view("u1").data]):
                self._credit.give(cost)
                return False
            outbox.waiting.popleft()
            if not self.unacknowledged:
                self._at_work_since = time.monotonic()
            self.unacknowledged[parcel.seq] = parcel
            account.step()
        return True

    def _send_end(self) -> None:
        ending, start = self._account.ending, self._start
        if ending is None or start is None or self._end_sent or self._outbox.waiting:
            return
        if not self._report_drops():
            return
        dropped = sum(ranges.count() for _, ranges in self._gaps())
        end = messages.End(run=start.run, n=ending.n, exit_status=ending.exit_status, dropped=dropped)
        if self._post(end):
            self._end_sent = True
            self._at_work_since = time.monotonic()

    def _gaps(self) -> list[tuple[str, Ranges]]:
        return [*self._outbox.refused.items(), *self._account.lost.items()]

    def _report_drops(self) -> bool:
        """Tell the server of the gaps since the last report; False when the socket takes no more."""
        start = self._start
        if start is None:
            return True
        for reason, ranges in self._gaps():
            told = self._reported.get(reason, -1)
            news = Ranges((max(first, told + 1), last) for first, last in ranges if last > told)
            for group in span_groups(news):
                if not self._post(messages.Drop(run=start.run, ranges=group, reason=reason)):
                    return False
                self._reported[reason] = group[-1][1]
        return True

    def _take(self, message: messages.Message) -> None:
        account = self._account
        match message:
            case messages.Credit():
                self._credit.give(message.bytes)
                for first, last in message.live:
                    self._acknowledge(first, last)
            case messages.Pong():
                now_ns = time.perf_counter_ns()
                self._clock.sample(sent_ns=message.ping_ns, received_ns=now_ns, peer_ns=message.clock_ns)
                at_work = self._end_sent or bool(self.unacknowledged)
                if at_work and time.monotonic() - self._at_work_since < PATIENCE_S:
                    account.step()
            case messages.Final():
                account.close(message)
            case messages.Error(fatal=True):
                raise RefusedError(message.message)
            case messages.Error():
                account.trouble = message.message
                self._lost = True
            case _:
                raise ProtocolError(f"a server does not send {type(message).__name__}")

    def _acknowledge(self, first: int, last: int) -> None:
        if last - first >= len(self.unacknowledged):
            raise ProtocolError(f"frames {first}-{last} were acknowledged, but not all of them were sent")
        for seq in range(first, last + 1):
            parcel = self.unacknowledged.pop(seq, None)
            if parcel is not None:
                self._account.live.add(seq)
                self._outbox.release(parcel)
        self._at_work_since = time.monotonic()
        self._account.step()

    def _next(self) -> messages.Message | None:
        parts = receive(self._socket)
        return None if parts is None else unpack(parts)[0]

    def _post(self, message: messages.Message) -> bool:
        return send(self._socket, [encode(message)])
