"""The data port's side of the protocol, without sockets: sessions, credit, and who may say what when."""

import logging
from collections.abc import Callable, Sequence
from uuid import UUID

from msgspec import UNSET, structs

from stormlive.ranges import Ranges
from stormlive.server.limits import Client, Limits
from stormlive.server.run import Ending, Reference, Run
from stormlive.server.runs import Runs
from stormlive.wire.codec import Buffer, ProtocolError, check_version, frame_of, unpack
from stormlive.wire.fields import Lane
from stormlive.wire.flow import Credit, Silence
from stormlive.wire.frame import WIRE_DTYPES
from stormlive.wire.messages import (
    Drop,
    End,
    Error,
    Final,
    FrameHeader,
    Hello,
    Message,
    Ping,
    Pong,
    Refer,
    Report,
    Start,
    Welcome,
)
from stormlive.wire.segment import PeerSegment, attach
from stormlive.wire.text import one_line
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)


class Session:
    """A connected sender: its credit, its last sign of life, its memory where it shares it, its run once it has one."""

    def __init__(self, credit_bytes: int, now: float, beat_s: float, client: Client = Client()) -> None:
        self.client = client
        self.credit = Credit(credit_bytes)
        self.silence = Silence(now, 3 * beat_s)
        self.segment: PeerSegment | None = None
        self.run: Run | None = None

    @property
    def lane(self) -> Lane:
        """How its frames come."""
        return "tcp" if self.segment is None else "shm"


class Reception:
    """Answers senders; in the IO thread only.

    Parameters
    ----------
    welcome
        Makes the WELCOME for a sender of a run.
    clock_ns
        The server's monotonic clock.
    client_of
        Tells who a peer is.
    excuse
        Is told of a peer whose message its credit has bounded, as it does frames.
    """

    def __init__(
        self,
        runs: Runs,
        welcome: Callable[[UUID | None], Welcome],
        clock_ns: Callable[[], int],
        limits: Limits,
        client_of: Callable[[bytes], Client] = lambda _: Client(),
        excuse: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._client_of = client_of
        self._excuse = excuse
        self._runs = runs
        self._welcome = welcome
        self._clock_ns = clock_ns
        self._limits = limits
        self._sessions: dict[bytes, Session] = {}
        self._replaced: list[Session] = []

    def take(self, peer: bytes, parts: Sequence[Buffer], now: float) -> Message | None:
        """Return the answer to a message, if it needs one; a peer that breaks the rules is cut off."""
        try:
            message, pixels = unpack(parts)
            if isinstance(message, Hello):
                return self._hello(peer, message, now)
            session = self._sessions.get(peer)
            if session is None:
                return Error(code="session", fatal=False, message="there is no session: say HELLO first")
            session.silence.heard(now)
            return self._answer(peer, session, message, pixels)
        except InputError as error:
            code = error.code if isinstance(error, ProtocolError) else "malformed"
            self._cut(peer, str(error))
            return Error(code=code, fatal=True, message=one_line(error))
        except Exception as error:
            # Nothing that one client says may end the server.
            _log.exception("a message could not be handled")
            self._cut(peer, f"{type(error).__name__}: {error}")
            return Error(code="internal", fatal=True, message="the server could not handle a message; see its log")

    def expect(self, run: Run, now: float) -> None:
        """Wait for the sender of a run that was interrupted, as for one that has fallen silent now."""
        session = Session(0, now, self._limits.heartbeat_s)
        session.run = run
        self._replaced.append(session)

    def begun_anew(self, peer: bytes, credit: Credit) -> bool:
        """Return whether a peer has said HELLO again since it spent this credit: it has none of it to get back."""
        session = self._sessions.get(peer)
        return session is not None and session.credit is not credit

    def tick(self, now: float) -> None:
        """Close the sessions that are over, and end the runs whose senders did not come back."""
        for peer, session in list(self._sessions.items()):
            if self._is_over(session, now):
                del self._sessions[peer]
        self._replaced = [session for session in self._replaced if not self._is_over(session, now)]

    def silent(self, now: float) -> set[UUID]:
        """Return the runs whose sender has missed three heartbeats."""
        sessions = [*self._sessions.values(), *self._replaced]
        return {s.run.start.run for s in sessions if s.run is not None and s.silence.too_long(now)}

    def _is_over(self, session: Session, now: float) -> bool:
        run, quiet_s = session.run, session.silence.lasts(now)
        if run is None:
            return quiet_s > 3 * self._limits.heartbeat_s
        if run.state == "finished":
            return True
        if quiet_s > self._limits.patience_s:
            self._runs.end(run, Ending(exit_status="sender lost"))
            return True
        return False

    def _hello(self, peer: bytes, hello: Hello, now: float) -> Message:
        check_version(hello.version)
        if hello.role == "viewer":
            return self._welcome(None)
        known = self._sessions.pop(peer, None)
        if known is not None and known.run is not None:
            self._replaced.append(known)
        client = self._client_of(peer)
        same = sum(session.client.address == client.address for session in self._sessions.values())
        if len(self._sessions) >= self._limits.max_sessions or same >= self._limits.sessions_of(client.address):
            text = f"the server is busy: it takes {self._limits.sessions_of(client.address)} senders at a time"
            return Error(code="busy", fatal=False, message=text)
        session = Session(self._limits.credit_bytes, now, self._limits.heartbeat_s, client)
        if client.is_near and hello.segment is not UNSET:
            session.segment = attach(hello.segment)
        self._sessions[peer] = session
        return structs.replace(self._welcome(hello.run), lane=session.lane)

    def _answer(self, peer: bytes, session: Session, message: Message, pixels: Buffer | None) -> Message | None:
        run = session.run
        match message:
            case Ping():
                return Pong(ping_ns=message.clock_ns, clock_ns=self._clock_ns())
            case Start():
                return self._start(peer, session, message)
            case FrameHeader() if run is not None and pixels is not None:
                self._frame(session, run, message, pixels)
            case Refer() if run is not None and message.run == run.start.run:
                self._refer(session, run, message)
                self._excuse(peer)
            case Drop() if run is not None and message.run == run.start.run:
                self._runs.drop(run, Ranges(message.ranges), one_line(message.reason))
            case End() if run is not None and message.run == run.start.run:
                self._runs.end(run, Ending(exit_status=one_line(message.exit_status), n=message.n))
            case _:
                raise ProtocolError(f"{type(message).__name__} is not what a sender may say now")
        return None

    def _start(self, peer: bytes, session: Session, start: Start) -> Message | None:
        if session.run is not None:
            raise ProtocolError("a connection carries one run: open another one")
        nbytes = start.shape[0] * start.shape[1] * WIRE_DTYPES[start.dtype].itemsize
        limit = self._limits.max_frame_bytes
        if nbytes > limit:
            raise ProtocolError(f"a frame would have {nbytes} bytes, the server takes {limit}", code="too-large")
        run = self._runs.start(start, peer, session.credit, session.client.user, session.lane)
        if run is None:
            # What was sent behind START is no breach: without a session it is not answered as one.
            del self._sessions[peer]
            return Error(code="busy", fatal=False, message="the server takes no more runs now")
        if isinstance(run, Final):
            del self._sessions[peer]
            return run
        for other in (*self._sessions.values(), *self._replaced):
            if other.run is run:
                other.run = None
        self._replaced = [other for other in self._replaced if other.run is not None]
        session.run = run
        # A run that is still being opened is reported on by the engine's thread.
        return None if run.state == "opening" else Report(run=start.run, by_dataset=run.dataset is not None)

    def _frame(self, session: Session, run: Run, header: FrameHeader, pixels: Buffer) -> None:
        start = run.start
        if (header.run, header.dtype, header.shape) != (start.run, start.dtype, start.shape):
            raise ProtocolError("a frame differs from what START announced")
        if not session.credit.take(session.credit.cost(header.nbytes)):
            raise ProtocolError("more was sent than there was credit for", code="credit")
        if header.at is UNSET:
            frame = frame_of(header, pixels)
        elif session.segment is not None:
            frame = session.segment.frame(header)
        else:
            raise ProtocolError("a frame is said to be in shared memory, of which WELCOME knew nothing")
        self._runs.put(run, frame)

    def _refer(self, session: Session, run: Run, message: Refer) -> None:
        if not session.credit.take(session.credit.cost(0) * len(message.axes)):
            raise ProtocolError("more was referred to than there was credit for", code="credit")
        first = message.seq
        references = [
            Reference(seq=seq, axes=axes, replay=message.replay) for seq, axes in enumerate(message.axes, first)
        ]
        self._runs.refer(run, references)

    def _cut(self, peer: bytes, reason: str) -> None:
        session = self._sessions.pop(peer, None)
        # Anybody can send garbage, and would fill the log with it: a client that has said HELLO is worth a warning.
        level = logging.INFO if session is None else logging.WARNING
        _log.log(level, "a client was cut off: %s", one_line(reason))
        if session is not None and session.run is not None:
            self._runs.end(session.run, Ending(exit_status=one_line(f"protocol error: {reason}")))
