"""One run on the server: its frames on the way to the canvas, its account, its pace."""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from stormlive.ranges import Ranges
from stormlive.server.canvases import Canvases
from stormlive.server.checkpoint import Checkpoint
from stormlive.server.dataset import Dataset
from stormlive.server.ledger import Ledger
from stormlive.server.neighbours import Neighbours
from stormlive.server.waiting import Waiting
from stormlive.wire.fields import Axes, Lane, Region, RunState
from stormlive.wire.flow import Credit
from stormlive.wire.frame import Frame
from stormlive.wire.messages import Final, Start
from stormlive.wire.text import one_line

if TYPE_CHECKING:
    from stormlive.server.watch import Turns

_LATENCY_WINDOW = 1024
_CAMERA_WINDOW = 256
_CAMERA_SILENCE_NS = 5_000_000_000
_PACE_WINDOW_S = 2.0
# A batch should take about this long: viewers and other runs wait for it.
BATCH_TARGET_S = 0.25
# How long a sender that answers pings may leave a REPORT unanswered.
REPORT_PATIENCE_S = 60.0
# How long a dataset that does not grow any more is searched for frames after END.
DATASET_PATIENCE_S = 5.0
_MOST_NOTICES = 20

# A run's course. The sender's END leads through the backfill; every other ending takes what there is.
COURSE: Mapping[RunState, tuple[RunState, ...]] = {
    "opening": ("running", "finished"),
    "running": ("backfill", "finishing"),
    "backfill": ("finishing",),
    "finishing": ("finished",),
    "finished": (),
}


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Why a run ends; `n` is its number of frames where the sender told it."""

    exit_status: str
    n: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Owner:
    """The session that feeds a run: where to answer, and the credit that its frames spend."""

    peer: bytes
    credit: Credit
    user: str = ""  # its public key; empty for a server without keys, and for a run that was interrupted
    lane: Lane = "tcp"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A frame that is to be read from the run's dataset."""

    seq: int
    axes: Axes
    replay: bool


class Run:
    """A run's state. The server's threads all use it, under the lock of `Runs`.

    The queues are bounded by the owner's byte credit: a sender that exceeds it is cut off. ``number`` counts
    the server's runs in the order of their start.

    Attributes
    ----------
    durable
        Frames that are in a checkpoint; `told_durable` those of them that the sender knows of.
    asked, owed
        Frames that were named in a REPORT, and those of them that the sender has not answered for yet.
    turns
        How its canvases take turns with the server's judge; None where there is none.
    region
        In which alone the engine computes the frames that it takes from now on.
    neighbours
        Where frames wait for those beside them; None where the model sees each frame alone.
    abandoned
        Whether nothing more is to be expected from the sender.
    """

    def __init__(self, start: Start, owner: Owner, number: int) -> None:
        self.start = start
        self.owner = owner
        self.number = number
        self.state: RunState = "opening"
        self.ledger = Ledger()
        self.queue = Waiting[Frame]()
        self.references = Waiting[Reference]()
        self.look_again_at = 0.0
        self.durable, self.told_durable = Ranges(), Ranges()
        self.asked, self.owed = Ranges(), Ranges()
        self.answered_at = time.monotonic()
        self.abandoned = False
        self.canvases: Canvases | None = None
        self.dataset: Dataset | None = None
        self.neighbours: Neighbours | None = None
        self.turns: Turns | None = None
        self.region: Region | None = None
        self.checkpoint: Checkpoint | None = None
        self.checkpoint_at = 0.0
        self.changed = self.being_kept = False
        self.ending: Ending | None = None
        self.final: Final | None = None
        self.notices: list[str] = []
        self.received = 0
        self.started_at = datetime.now(UTC)
        self.began_s = time.monotonic()
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCY_WINDOW)
        self._pace: deque[tuple[float, int]] = deque()
        self._offered: deque[tuple[int, int]] = deque(maxlen=_CAMERA_WINDOW)
        self._first_batch_at: float | None = None
        self._last_batch_at: float | None = None
        self._frame_s: float | None = None

    def open(self, canvases: Canvases, dataset: Dataset | None) -> None:
        """Take the canvases, and where the raw data is saved."""
        self.canvases, self.dataset = canvases, dataset
        if canvases.first.reconstruction.context:
            self.neighbours = Neighbours(dataset, latest=self.start.mode == "latest")

    def enter(self, state: RunState) -> None:
        """Go one step on in `COURSE`."""
        if state not in COURSE[self.state]:
            raise RuntimeError(f"a run that is {self.state} cannot become {state}")
        self.state = state

    @property
    def takes_frames(self) -> bool:
        """Whether frames are still welcome: until it ends, and for the backfill after the sender's END."""
        return self.state in ("opening", "running", "backfill") and not self.abandoned

    @property
    def held(self) -> Ranges:
        """Frames that wait for those beside them."""
        return Ranges() if self.neighbours is None else self.neighbours.held

    @property
    def takes_new_frames(self) -> bool:
        """Whether the sender has not ended the run yet."""
        return self.takes_frames and self.ending is None

    def notice(self, text: str) -> None:
        """Note what a user should know; the last one is shown, all are in run.json."""
        if text not in self.notices[-1:]:
            self.notices = [*self.notices[1 - _MOST_NOTICES :], one_line(text)]

    def reconnected(self) -> None:
        """Forget what the connection before was asked and had sent: the sender repeats what was not acknowledged."""
        self.queue.clear()
        self.references.clear()
        self.asked, self.owed = Ranges(), Ranges()
        self.told_durable = Ranges()
        self.answered_at = time.monotonic()

    def answered(self, ranges: Ranges) -> None:
        """Note that the sender has answered for frames, and when, if it was asked for them."""
        owed = self.owed
        self.settled(ranges)
        if self.owed != owed:
            self.answered_at = time.monotonic()

    def settled(self, ranges: Ranges) -> None:
        """Note frames for which no answer is to be expected."""
        self.owed = self.owed.subtract(ranges)

    def to_ask(self, most: int) -> Ranges:
        """Return up to `most` ranges of the run's frames that are not here and were not asked for."""
        n = 0 if self.ending is None or self.ending.n is None else self.ending.n
        lacking = self.ledger.in_picture().union(self.held, self.asked).complement(n)
        return Ranges(lacking.to_list()[:most])

    def gives_up_reading(self, now: float) -> bool:
        """Return whether a frame that is not in the dataset now will never be there."""
        if self.ending is None:
            return False
        grew_at = 0.0 if self.dataset is None else self.dataset.grew_at
        return self.abandoned or now - max(self.answered_at, grew_at) > DATASET_PATIENCE_S

    def next_batch_size(self, most: int) -> int:
        """Return how many frames to take so that a batch takes about `BATCH_TARGET_S`."""
        if self._frame_s is None:
            return 1
        return max(1, min(most, int(BATCH_TARGET_S / max(self._frame_s, 1e-9))))

    def note_batch(self, n: int, seconds: float, *, offered_ns: Iterable[int]) -> None:
        """Note that `n` frames reached the canvas, `seconds` after the engine took them.

        The latency is that of those among them that came live: when the hook was handed them.
        """
        now, now_ns = time.monotonic(), time.perf_counter_ns()
        per_frame = seconds / n
        self._frame_s = per_frame if self._frame_s is None else 0.5 * (self._frame_s + per_frame)
        self._latencies_ms.extend(max(0.0, (now_ns - one_ns) / 1e6) for one_ns in offered_ns)
        self._pace.append((now, n))
        while self._pace[0][0] < now - _PACE_WINDOW_S:
            self._pace.popleft()
        self._first_batch_at = self._first_batch_at or now - seconds
        self._last_batch_at = now

    def note_offered(self, frame: Frame) -> None:
        """Note when a frame that comes live was handed to the hook."""
        if not frame.replay:
            self._offered.append((frame.seq, frame.t_ns))

    def camera_per_s(self) -> float | None:
        """Return the rate at which the hook got the newest frames; None where none comes live."""
        if len(self._offered) < 2 or not self.takes_new_frames:
            return None
        (first, began_ns), (last, ended_ns) = self._offered[0], self._offered[-1]
        # What waits may be older: its sender is waiting for room.
        if not self.queue and time.perf_counter_ns() - ended_ns > _CAMERA_SILENCE_NS:
            return None
        return (last - first) * 1e9 / (ended_ns - began_ns) if last > first and ended_ns > began_ns else None

    def seconds(self) -> float:
        """Return the time since the start on the monotonic clock: setting the machine's clock does not change it."""
        return time.monotonic() - self.began_s

    def frames_per_s(self) -> float:
        """Return the rate at which frames reached the canvas during the last seconds."""
        now = time.monotonic()
        recent = [(at, count) for at, count in self._pace if at > now - _PACE_WINDOW_S]
        since = self._first_batch_at
        if not recent or since is None:
            return 0.0
        return sum(count for _, count in recent) / max(min(_PACE_WINDOW_S, now - since), 1e-3)

    def mean_frames_per_s(self) -> float:
        """Return the rate over the whole run."""
        if self._first_batch_at is None or self._last_batch_at is None:
            return 0.0
        return self.ledger.picture_count() / max(self._last_batch_at - self._first_batch_at, 1e-3)

    def latency_ms(self) -> tuple[float | None, float | None]:
        """Return median and 99th percentile from the hook to the canvas, over the last live frames."""
        if not self._latencies_ms:
            return None, None
        p50, p99 = np.percentile(np.array(self._latencies_ms), [50, 99])
        return float(p50), float(p99)
