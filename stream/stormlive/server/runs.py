"""All runs of a server, shared by the IO thread that feeds them and the engine thread that works them off."""

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from uuid import UUID

from stormlive.ranges import Ranges
from stormlive.server.run import Ending, Owner, Run
from stormlive.wire.flow import Credit
from stormlive.wire.frame import Frame
from stormlive.wire.messages import Final, Start, View

# Finished runs stay viewable, but a canvas may take a gigabyte: only the last one is kept.
KEPT_CANVASES = 1
KEPT_FINALS = 64
MAX_VIEWERS = 8  # that wait for an answer


@dataclass(frozen=True, kw_only=True)
class OpenJob:
    """Make a canvas for a run."""

    run: Run


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """Add frames to a run's canvas."""

    run: Run
    owner: Owner
    frames: list[Frame]


@dataclass(frozen=True, kw_only=True)
class FinishJob:
    """Close a run."""

    run: Run
    ending: Ending


@dataclass(frozen=True, kw_only=True)
class ViewJob:
    """Answer a viewer."""

    viewer: bytes
    view: View
    run: Run | None


Job = OpenJob | BatchJob | FinishJob | ViewJob


class Runs:
    """The registry of runs and the queue of work on them; every method holds the one lock briefly."""

    def __init__(self, *, max_open: int, max_batch: int) -> None:
        self._changed = threading.Condition()
        self._max_open = max_open
        self._max_batch = max_batch
        self._active: OrderedDict[UUID, Run] = OrderedDict()
        self._kept: deque[Run] = deque()
        self._finals: OrderedDict[UUID, Final] = OrderedDict()
        self._views: OrderedDict[bytes, View] = OrderedDict()
        self._view_next = True
        self._started = 0
        self._stopping = False

    # The IO thread's side.

    def start(self, start: Start, peer: bytes, credit: Credit | None = None) -> Run | Final | None:
        """Open a run or hand it to its sender's new connection; FINAL when it has ended, None when full.

        Its frames spend `credit`, if they come from a session that has to be limited.
        """
        owner = Owner(peer=peer, credit=credit or Credit(0))
        with self._changed:
            if start.run in self._finals:
                return self._finals[start.run]
            run = self._active.get(start.run)
            if run is not None:
                run.owner = owner
                # The sender repeats whatever was not acknowledged, so keeping these would exceed its credit.
                run.queue.clear()
                return run
            if len(self._active) >= self._max_open or self._stopping:
                return None
            self._started += 1
            run = self._active[start.run] = Run(start, owner, self._started)
            self._changed.notify()
            return run

    def put(self, run: Run, frame: Frame) -> None:
        """Queue a frame; one for a run that has ended is let go, its sender will learn from FINAL."""
        with self._changed:
            if run.open:
                run.received += 1
                run.queue.append(frame)
                self._changed.notify()

    def drop(self, run: Run, ranges: Ranges, reason: str) -> None:
        """Record what the sender will not send."""
        with self._changed:
            if run.open:
                run.ledger.add_missing(ranges, reason)

    def end(self, run: Run, ending: Ending) -> None:
        """End a run once its queue is worked off; the first ending counts."""
        with self._changed:
            run.ending = run.ending or ending
            self._changed.notify()

    def ask(self, viewer: bytes, view: View) -> bool:
        """Queue a view; a viewer's newer question replaces its older one. False when there are too many."""
        with self._changed:
            if viewer not in self._views and len(self._views) >= MAX_VIEWERS:
                return False
            self._views[viewer] = view
            self._changed.notify()
            return True

    def stop(self, exit_status: str) -> None:
        """End all runs and let `take` return None when the work is done."""
        with self._changed:
            self._stopping = True
            for run in self._active.values():
                run.ending = run.ending or Ending(exit_status=exit_status)
            self._changed.notify()

    def shown(self) -> list[Run]:
        """Return the runs to publish: the open ones, or else the one that ended last."""
        with self._changed:
            return list(self._active.values()) or list(self._kept)[-1:]

    @property
    def lock(self) -> threading.Condition:
        """Held by whoever reads or changes a run's fields."""
        return self._changed

    # The engine thread's side.

    def take(self) -> Job | None:
        """Wait for work and return it; None when the server stops and nothing is left to do."""
        with self._changed:
            while True:
                job = self._next_job()
                if job is not None:
                    return job
                if self._stopping and not self._active:
                    return None
                self._changed.wait()

    def closed(self, run: Run, final: Final) -> None:
        """Move a run from the open to the finished ones."""
        with self._changed:
            run.state, run.final = "finished", final
            del self._active[run.start.run]
            self._finals[run.start.run] = final
            while len(self._finals) > KEPT_FINALS:
                self._finals.popitem(last=False)
            self._kept.append(run)
            while len(self._kept) > KEPT_CANVASES:
                self._kept.popleft()

    def refused(self, run: Run) -> None:
        """Forget a run that the engine did not take."""
        with self._changed:
            run.state = "finished"
            run.queue.clear()
            del self._active[run.start.run]

    def _next_job(self) -> Job | None:
        """Alternate between viewers and runs, and among runs, so that nobody starves the others."""
        self._view_next = not self._view_next
        if self._views and self._view_next:
            return self._view_job()
        for identity, run in self._active.items():
            job = self._run_job(run)
            if job is not None:
                self._active.move_to_end(identity)
                return job
        return self._view_job() if self._views else None

    def _view_job(self) -> ViewJob:
        viewer, view = self._views.popitem(last=False)
        return ViewJob(viewer=viewer, view=view, run=self._find(view.run))

    def _find(self, wanted: UUID | None) -> Run | None:
        runs = [run for run in (*self._active.values(), *self._kept) if wanted in (None, run.start.run)]
        return max(runs, key=lambda run: run.number, default=None)

    def _run_job(self, run: Run) -> Job | None:
        if run.state == "opening":
            return OpenJob(run=run)
        if run.queue:
            size = min(run.next_batch_size(self._max_batch), len(run.queue))
            return BatchJob(run=run, owner=run.owner, frames=[run.queue.popleft() for _ in range(size)])
        if run.ending is not None and run.state != "finishing":
            run.state = "finishing"
            return FinishJob(run=run, ending=run.ending)
        return None
