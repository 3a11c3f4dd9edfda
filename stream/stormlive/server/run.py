"""One run on the server: its frames on the way to the canvas, its account, its pace."""

import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from stormlive.server.ledger import Ledger
from stormlive.server.protocols import Reconstruction
from stormlive.server.run_table import RunTable
from stormlive.wire.flow import Credit
from stormlive.wire.frame import Frame
from stormlive.wire.messages import Final, RunState, Start

_LATENCY_WINDOW = 1024
_PACE_WINDOW_S = 2.0
# A batch should take about this long: viewers and other runs wait for it.
BATCH_TARGET_S = 0.25


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


class Run:
    """A run's state. The IO thread and the engine thread both use it, under the lock of `Runs`.

    The queue is bounded by the owner's byte credit: a sender that exceeds it is cut off. ``number`` counts
    the server's runs in the order of their start.
    """

    def __init__(self, start: Start, owner: Owner, number: int) -> None:
        self.start = start
        self.owner = owner
        self.number = number
        self.state: RunState = "opening"
        self.ledger = Ledger()
        self.queue: deque[Frame] = deque()
        self.reconstruction: Reconstruction | None = None
        self.table: RunTable | None = None
        self.ending: Ending | None = None
        self.final: Final | None = None
        self.received = 0
        self.started_at = datetime.now(UTC)
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCY_WINDOW)
        self._pace: deque[tuple[float, int]] = deque()
        self._first_batch_at: float | None = None
        self._last_batch_at: float | None = None
        self._frame_s: float | None = None

    @property
    def open(self) -> bool:
        """Whether the run still takes frames."""
        return self.state in ("opening", "running") and self.ending is None

    def next_batch_size(self, most: int) -> int:
        """Return how many frames to take so that a batch takes about `BATCH_TARGET_S`."""
        if self._frame_s is None:
            return 1
        return max(1, min(most, int(BATCH_TARGET_S / max(self._frame_s, 1e-9))))

    def note_batch(self, frames: list[Frame], seconds: float) -> None:
        """Note that `frames` reached the canvas, `seconds` after the engine took them."""
        now, now_ns = time.monotonic(), time.perf_counter_ns()
        per_frame = seconds / len(frames)
        self._frame_s = per_frame if self._frame_s is None else 0.5 * (self._frame_s + per_frame)
        self._latencies_ms.extend(max(0.0, (now_ns - frame.t_ns) / 1e6) for frame in frames)
        self._pace.append((now, len(frames)))
        while self._pace[0][0] < now - _PACE_WINDOW_S:
            self._pace.popleft()
        self._first_batch_at = self._first_batch_at or now - seconds
        self._last_batch_at = now

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
        return self.ledger.live_count() / max(self._last_batch_at - self._first_batch_at, 1e-3)

    def latency_ms(self) -> tuple[float | None, float | None]:
        """Return median and 99th percentile from the hook to the canvas, over the last frames."""
        if not self._latencies_ms:
            return None, None
        p50, p99 = np.percentile(np.array(self._latencies_ms), [50, 99])
        return float(p50), float(p99)
