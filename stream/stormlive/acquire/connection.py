"""One connection of the sender to the server, from HELLO to its loss or to FINAL."""

import time
from collections.abc import Callable
from typing import TypeAlias

import zmq
from msgspec import UNSET

from stormlive.acquire.account import Account
from stormlive.acquire.gaps import Gaps
from stormlive.acquire.outbox import Parcel
from stormlive.acquire.stock import Stock
from stormlive.ranges import Ranges
from stormlive.wire import messages
from stormlive.wire.codec import (
    Buffer,
    ProtocolError,
    check_version,
    encode,
    frame_header,
    how_many_references_fit,
    unpack,
)
from stormlive.wire.fields import Spans
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
        stock: Stock,
        account: Account,
        waker: Waker,
        make_start: StartMaker,
    ) -> None:
        self._socket = socket
        self._stock = stock
        self._outbox = stock.outbox
        self._account = account
        self._waker = waker
        self._make_start = make_start
        self._welcome: messages.Welcome
        self._clock = ClockOffset()
        self._credit = Credit(0)
        self._start: messages.Start | None = None
        self._gaps = Gaps(stock.outbox, account, self._post)
        self._start_answered = self._end_sent = False
        self._at_work_since = time.monotonic()
        self._lost = False

    def greet(self) -> bool:
        """Say HELLO and take WELCOME; False when nobody answers."""
        account = self._account
        if not self._socket.poll(int(1000 * CONNECT_S), zmq.POLLOUT):
            return False
        asked_ns = time.perf_counter_ns()
        segment = self._outbox.segment
        offer = UNSET if segment is None else segment.offer()
        self._post(messages.Hello(version=messages.PROTOCOL, run=account.run, segment=offer))
        deadline = time.monotonic() + ANSWER_S
        while not account.stop.is_set() and not self._lost and time.monotonic() < deadline:
            self._socket.poll(100)
            self._stock.relieve()
            answer = self._next()
            if isinstance(answer, messages.Welcome):
                check_version(answer.version)
                self._clock.sample(sent_ns=asked_ns, received_ns=time.perf_counter_ns(), peer_ns=answer.clock_ns)
                self._credit = Credit(answer.credit_bytes)
                self._welcome = answer
                account.lose(self._stock.bring_back(account.greet(answer)), "server lost")
                self._stock.durable(Ranges(answer.have))
                account.enter("streaming")
                if self._outbox.form is None:
                    account.outage.end()  # nothing is asked of it yet that it could refuse
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
            while account.final is None and not self._lost and (message := self._next()) is not None:
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
                    self._gaps.tell()
            self._stock.relieve()
            queue_full = not ((self._start is None or self._gaps.answer()) and self._send_frames())
            self._send_end()
            self._wait(poller, queue_full, most_s=beat_s / 4)

    def _wait(self, poller: zmq.Poller, queue_full: bool, most_s: float) -> None:
        """Sleep until the server speaks, a frame is offered that could be sent, or `most_s` have passed."""
        outbox = self._outbox
        has_credit = self._credit.in_flight + self._credit.cost(outbox.frame_bytes) <= self._credit.window
        could_send = has_credit and not queue_full
        # Set before looking: a frame offered after the look finds it set and wakes us.
        outbox.sender_sleeps = could_send
        if not (could_send and self._stock.sendable):
            wanted = zmq.POLLIN | zmq.POLLOUT if queue_full and has_credit else zmq.POLLIN
            poller.register(self._socket, wanted)
            if self._waker.fileno() in dict(poller.poll(int(1000 * most_s))):
                self._waker.drain()
        outbox.sender_sleeps = False

    def _send_frames(self) -> bool:
        """Send what waits as far as credit goes; False when the socket takes no more."""
        outbox, start = self._outbox, self._start
        if start is None:
            if outbox.form is None:
                return True
            if outbox.frame_bytes > self._welcome.max_frame_bytes:
                limit = self._welcome.max_frame_bytes
                raise RefusedError(f"a frame has {outbox.frame_bytes} bytes, the server takes {limit}")
            start = self._make_start(*outbox.form)
            if not self._post(start):
                return False
            self._start = start
        for _ in range(BURST):
            # A frame costs no less than a reference.
            if self._credit.left < self._credit.cost(outbox.frame_bytes):
                return True
            taken = self._stock.take()
            if taken is None:
                return True
            parcel, replay = taken
            if not (
                self._refer(start, parcel, replay=replay)
                if parcel.place == "dataset"
                else self._send(start, parcel, replay=replay)
            ):
                return False
        return True

    def _send(self, start: messages.Start, parcel: Parcel, *, replay: bool) -> bool:
        """Send a frame with its pixels; False when the socket takes no more."""
        pixels = self._stock.pixels(parcel)
        if pixels is None:
            self._account.lose(Ranges([(parcel.seq, parcel.seq)]), "lost on the sender's disk")
            return True
        t_ns = parcel.t_ns + self._clock.ns
        frame = Frame(run=start.run, seq=parcel.seq, t_ns=t_ns, axes=parcel.axes, pixels=pixels, replay=replay)
        # The slot is not used again before its frame is acknowledged, so libzmq or the server may read it in place.
        if self._welcome.lane == "shm" and parcel.place == "memory":
            parts: list[Buffer] = [encode(frame_header(frame, self._outbox.offset(parcel))), b""]
        else:
            parts = [encode(frame_header(frame)), pixels.reshape(-1).view("u1").data]
        sent = send(self._socket, parts)
        self._note([parcel], sent, cost=self._credit.cost(pixels.nbytes), replay=replay)
        return sent

    def _refer(self, start: messages.Start, parcel: Parcel, *, replay: bool) -> bool:
        """Let the server read a frame, and those in line behind it, from the dataset."""
        cost = self._credit.cost(0)
        most = min(messages.MAX_REFERENCES, self._credit.left // cost)
        parcels = self._stock.run_of_references(parcel, most, replay=replay)
        fits = how_many_references_fit([parcel.axes for parcel in parcels])
        self._stock.give_back(parcels[fits:], replay=replay)
        parcels = parcels[:fits]
        axes = tuple(parcel.axes for parcel in parcels)
        # Why they did not come live is told first: of what is said about a frame the first word counts.
        refer = messages.Refer(run=start.run, seq=parcel.seq, axes=axes, replay=replay)
        sent = self._gaps.tell() and self._post(refer)
        self._note(parcels, sent, cost=cost * len(parcels), replay=replay)
        return sent

    def _note(self, parcels: list[Parcel], sent: bool, *, cost: int, replay: bool) -> None:
        if not sent:
            self._stock.give_back(parcels, replay=replay)
            return
        self._credit.take(cost)
        if not self._stock.in_flight:
            self._at_work_since = time.monotonic()
        self._stock.sent(parcels, replay=replay)
        self._account.step()

    def _send_end(self) -> None:
        account, start = self._account, self._start
        if account.ending is None or start is None or self._end_sent:
            return
        if account.state == "streaming":
            account.enter("drain")
        # Whether the server reads the dataset is not known before its first REPORT.
        undecided = self._outbox.overflow and not self._start_answered
        if self._stock.unsent or undecided or not self._gaps.tell():
            return
        if self._post(messages.End(run=start.run, n=account.ending.n, exit_status=account.ending.exit_status)):
            self._end_sent = True
            account.enter("backfill")
            self._at_work_since = time.monotonic()

    def _take(self, message: messages.Message) -> None:
        account = self._account
        match message:
            case messages.Credit():
                self._credit.give(message.bytes)
                self._acknowledge(message.live, account.live)
                self._acknowledge(message.replayed, account.replayed)
                if message.durable:
                    self._stock.durable(Ranges(message.durable))
            case messages.Report():
                self._start_answered = True
                account.outage.end()
                self._stock.by_dataset = message.by_dataset
                if not message.by_dataset:
                    account.lose(self._stock.strand(), "the server does not see the dataset or may not read it")
                self._gaps.owe(self._stock.ask(Ranges(message.missing)))
                self._at_work_since = time.monotonic()
                account.step()
            case messages.Drop():
                gone = Ranges(message.ranges)
                self._stock.refused(gone)
                account.lose(gone, message.reason)
            case messages.Pong():
                now_ns = time.perf_counter_ns()
                self._clock.sample(sent_ns=message.ping_ns, received_ns=now_ns, peer_ns=message.clock_ns)
                at_work = self._end_sent or bool(self._stock.in_flight)
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

    def _acknowledge(self, spans: Spans, account: Ranges) -> None:
        for first, last in spans:
            if last >= self._outbox.offered:
                raise ProtocolError(f"frames {first}-{last} were acknowledged, but not all of them were sent")
            # A frame that was asked for on its way here was sent twice, and is acknowledged twice.
            sent = self._stock.in_flight
            few = last - first < len(sent)
            for seq in range(first, last + 1) if few else [seq for seq in sent if first <= seq <= last]:
                if self._stock.acknowledge(seq, keep=self._outbox.mode != "latest") is not None:
                    account.add(seq)
            self._at_work_since = time.monotonic()
            self._account.step()

    def _next(self) -> messages.Message | None:
        parts = receive(self._socket)
        return None if parts is None else unpack(parts)[0]

    def _post(self, message: messages.Message) -> bool:
        return send(self._socket, [encode(message)])
