"""What the hook knows about its run: shared by the sender's thread, which writes, and whoever asks."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias
from uuid import UUID

from stormlive.acquire.outage import Outage
from stormlive.ranges import Ranges
from stormlive.wire.messages import Final, Welcome
from stormlive.wire.text import one_line

SenderState: TypeAlias = Literal["idle", "hello", "streaming", "drain", "backfill", "detached", "done"]

# A sender's course. Whatever it was doing, a lost connection leaves it detached, and a new one begins with HELLO; it
# streams, after the hook is closed it drains what waits, and after END it answers the server's REPORTs.
COURSE: Mapping[SenderState, tuple[SenderState, ...]] = {
    "idle": ("hello", "done"),
    "hello": ("streaming", "detached", "done"),
    "streaming": ("drain", "detached", "done"),
    "drain": ("backfill", "detached", "done"),
    "backfill": ("detached", "done"),
    "detached": ("hello", "done"),
    "done": (),
}


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How the hook was closed: `n` frames were offered."""

    n: int
    exit_status: str


class Account:
    """The state of a run as its sender sees it.

    Attributes
    ----------
    live, replayed
        Frames that the present server has in its picture.
    lost
        Frames that a former server had in its picture when it was lost and that cannot be replayed, by reason.
    state
        Where in its `COURSE` the sender is.
    welcome
        The last WELCOME; None as long as no server was found.
    connected
        Whether a server is answering now.
    ending
        Set when the hook is closed: the run ends once everything in the outbox was sent.
    final
        The server's FINAL, once the run is closed.
    failed
        Why the server will not take the run (any further), on one line.
    trouble
        The last reason why there was no connection.
    outage
        For how long there is none.
    progress_at
        `time.monotonic` of the last step forward.
    stop, done
        Set to give up; set when the sender has ended.
    """

    def __init__(self, address: str, run: UUID) -> None:
        self.run = run
        self.state: SenderState = "idle"
        self.live = Ranges()
        self.replayed = Ranges()
        self.lost: dict[str, Ranges] = {}
        self.welcome: Welcome | None = None
        self.connected = False
        self.ending: Ending | None = None
        self.final: Final | None = None
        self.failed: str | None = None
        self.trouble = f"no answer from {address}: is stormlive serve running there?"
        self.outage = Outage(address)
        self.progress_at = time.monotonic()
        self.stop = threading.Event()
        self.done = threading.Event()

    def step(self) -> None:
        """Note a step forward."""
        self.progress_at = time.monotonic()

    def enter(self, state: SenderState) -> None:
        """Go one step on in `COURSE`."""
        if state not in COURSE[self.state]:
            raise RuntimeError(f"a sender that is {self.state} cannot become {state}")
        self.state = state

    def greet(self, welcome: Welcome) -> Ranges:
        """Note a server; return what is no longer in the picture, if it is one of another epoch."""
        gone = Ranges()
        if self.welcome is not None and self.welcome.epoch != welcome.epoch:
            have = Ranges(welcome.have)
            gone = self.in_picture().subtract(have)
            self.live, self.replayed = self.live.intersect(have), self.replayed.intersect(have)
        self.welcome = welcome
        self.connected = True
        self.step()
        return gone

    def lose(self, ranges: Ranges, reason: str) -> None:
        """Note frames that cannot be had any more."""
        if ranges:
            self.lost.setdefault(reason, Ranges()).merge(ranges)

    def in_picture(self) -> Ranges:
        """Return the frames that the present server has in its picture."""
        return self.live.union(self.replayed)

    def close(self, final: Final) -> None:
        """Note the server's FINAL: what it says of the picture is the last word."""
        live, replayed = Ranges(final.live_ranges), Ranges(final.replayed_ranges)
        if (live.count(), replayed.count()) == (final.live, final.replayed):
            self.live, self.replayed = live, replayed
        self.final = final
        if self.ending is None or final.exit_status != self.ending.exit_status:
            self.failed = one_line(f"the server ended the run: {final.exit_status}")
        self.step()

    def remainder_reason(self) -> str:
        """Return why frames that are neither live nor dropped are missing, once the sender has ended."""
        if self.failed is not None:
            return self.failed
        if self.welcome is None:
            return "no server"
        return "not processed before close" if self.connected else "server lost"
