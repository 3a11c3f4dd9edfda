"""What the hook knows about its run: shared by the sender's thread, which writes, and whoever asks."""

import threading
import time
from dataclasses import dataclass

from stormlive.ranges import Ranges
from stormlive.wire.messages import Final, Welcome, one_line


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How the hook was closed: `n` frames were offered."""

    n: int
    exit_status: str


class Account:
    """The state of a run as its sender sees it.

    Attributes
    ----------
    live
        Frames that the present server has in its picture.
    lost
        Frames that a former server had in its picture when it was lost, by reason.
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
    progress_at
        `time.monotonic` of the last step forward.
    stop, done
        Set to give up; set when the sender has ended.
    """

    def __init__(self, address: str) -> None:
        self.live = Ranges()
        self.lost: dict[str, Ranges] = {}
        self.welcome: Welcome | None = None
        self.connected = False
        self.ending: Ending | None = None
        self.final: Final | None = None
        self.failed: str | None = None
        self.trouble = f"no answer from {address}: is stormlive serve running there?"
        self.progress_at = time.monotonic()
        self.stop = threading.Event()
        self.done = threading.Event()

    def step(self) -> None:
        """Note a step forward."""
        self.progress_at = time.monotonic()

    def greet(self, welcome: Welcome) -> None:
        """Note a server; one of another epoch has nothing of what the last one had in its picture."""
        if self.welcome is not None and self.welcome.epoch != welcome.epoch and self.live:
            self.lost.setdefault("server lost", Ranges()).merge(self.live)
            self.live = Ranges()
        self.welcome = welcome
        self.connected = True
        self.step()

    def close(self, final: Final) -> None:
        """Note the server's FINAL."""
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
