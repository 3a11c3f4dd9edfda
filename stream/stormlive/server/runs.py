"""All runs of a server, shared by the IO thread that feeds them and the engine thread that works them off."""

import threading
import time
from collections import OrderedDict, deque
from uuid import UUID

from stormlive.ranges import Ranges
from stormlive.server.jobs import BatchJob, FinishJob, HeldJob, Job, KeepJob, OpenJob, ReportJob, SettleJob, ViewJob
from stormlive.server.run import REPORT_PATIENCE_S, Ending, Owner, Reference, Run
from stormlive.wire.codec import ProtocolError
from stormlive.wire.fields import MAX_SPANS, Lane
from stormlive.wire.flow import Credit
from stormlive.wire.frame import Frame
from stormlive.wire.messages import Final, Start
from stormlive.wire.viewing import View

# Finished runs stay viewable, but a canvas may take a gigabyte: only the last one is kept.
KEPT_CANVASES = 1
KEPT_FINALS = 64
MAX_GAPS = 100_000
MAX_VIEWERS = 8  # that wait for an answer
# How often the engine thread looks whether time alone has made work: a checkpoint, a dataset that has grown.
_LOOK_S = 0.2


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

    def start(
        self, start: Start, peer: bytes, credit: Credit | None = None, user: str = "", lane: Lane = "tcp"
    ) -> Run | Final | None:
        """Open a run or hand it to its sender's new connection; FINAL when it has ended, None when full.

        Its frames spend `credit`, if they come from a session that has to be limited.
        """
        owner = Owner(peer=peer, credit=credit or Credit(0), user=user, lane=lane)
        with self._changed:
            if start.run in self._finals:
                return self._finals[start.run]
            run = self._active.get(start.run)
            if run is not None:
                # Before anything changes: who only knows the name of another's run does not disturb it.
                if run.start != start or run.owner.user not in ("", user):
                    raise ProtocolError("a run is taken up again by its own sender, with the START that began it")
                run.owner = owner
                run.abandoned = run.ending is not None and run.ending.n is None
                # The sender repeats whatever was not acknowledged, so keeping these would exceed its credit.
                run.reconnected()
                return run
            if len(self._active) >= self._max_open or self._stopping:
                return None
            self._started += 1
            run = self._active[start.run] = Run(start, owner, self._started)
            self._changed.notify()
            return run

    def adopt(self, run: Run) -> None:
        """Take a run that was interrupted, and wait for its sender."""
        with self._changed:
            self._started += 1
            run.number = self._started
            self._active[run.start.run] = run
            self._changed.notify()

    def taking(self, identity: UUID) -> Run | None:
        """Return a run that still takes frames."""
        with self._changed:
            run = self._active.get(identity)
            return run if run is not None and run.takes_frames else None

    def have(self, identity: UUID | None) -> Ranges:
        """Return the frames of a run that will not be lost if the server is."""
        with self._changed:
            run = None if identity is None else self._active.get(identity)
            return Ranges() if run is None else Ranges(run.durable)

    def put(self, run: Run, frame: Frame) -> None:
        """Queue a frame; one for a run that has ended is let go, its sender will learn from FINAL."""
        with self._changed:
            if run.takes_frames:
                run.received += 1
                run.note_offered(frame)
                run.queue.append(frame)
                self._changed.notify()

    def refer(self, run: Run, references: list[Reference]) -> None:
        """Queue frames that are to be read from the run's dataset."""
        with self._changed:
            if run.takes_frames:
                run.received += len(references)
                run.references.extend(references)
                run.look_again_at = 0.0
                self._changed.notify()

    def look_again(self, run: Run, owner: Owner, references: list[Reference]) -> None:
        """Queue frames again that were not in the dataset yet, unless their sender has come back without them."""
        with self._changed:
            if run.owner is owner:
                run.references.extend(references)
                run.look_again_at = time.monotonic() + _LOOK_S

    def drop(self, run: Run, ranges: Ranges, reason: str) -> None:
        """Record what the sender will not send."""
        with self._changed:
            if run.takes_frames:
                # Gaps lie between frames: more of them than frames were sent is nobody's account.
                if run.ledger.gaps() > MAX_GAPS + 2 * run.received:
                    raise ProtocolError(f"a run may have {MAX_GAPS} more gaps than frames, this one has too many")
                run.ledger.add_missing(ranges, reason)
                run.answered(ranges)
                self._changed.notify()

    def end(self, run: Run, ending: Ending) -> None:
        """End a run once its queue is worked off; the first ending counts.

        Only the sender's own, which tells the number of frames, lets it send what is missing.
        """
        with self._changed:
            run.ending = run.ending or ending
            run.abandoned = run.abandoned or ending.n is None
            run.answered_at = time.monotonic()
            self._changed.notify()

    def kept(self, run: Run, have: Ranges | None, pause_s: float) -> None:
        """Note that a checkpoint with the frames `have` was written, None if it was not; the next waits a while."""
        with self._changed:
            run.being_kept = False
            run.checkpoint_at = time.monotonic() + pause_s
            if have is None:
                run.changed = True
            else:
                run.durable = have

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
                run.abandoned = True
            self._changed.notify()

    def shown(self) -> list[Run]:
        """Return the runs to publish: the open ones, the newest last, or else the one that ended last."""
        with self._changed:
            return sorted(self._active.values(), key=lambda run: run.number) or list(self._kept)[-1:]

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
                self._changed.wait(_LOOK_S)

    def batch_size(self, run: Run) -> int:
        """Return how many frames of a run to compute before others have their turn."""
        return run.next_batch_size(self._max_batch)

    def closed(self, run: Run, final: Final) -> None:
        """Move a run from the open to the finished ones."""
        with self._changed:
            run.enter("finished")
            run.final = final
            del self._active[run.start.run]
            self._finals[run.start.run] = final
            while len(self._finals) > KEPT_FINALS:
                self._finals.popitem(last=False)
            self._kept.append(run)
            while len(self._kept) > KEPT_CANVASES:
                self._kept.popleft()
            self._changed.notify()

    def refused(self, run: Run, final: Final | None = None) -> None:
        """Forget a run that the engine did not take, or that was closed by an earlier server, with its FINAL."""
        with self._changed:
            run.enter("finished")
            if final is not None:
                self._finals[run.start.run] = final
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
        """Return what is to be done for a run now; whatever was said about its course comes from here."""
        now = time.monotonic()
        if run.state == "opening":
            return OpenJob(run=run)
        if run.state == "finishing":
            return None
        if run.changed and not run.being_kept and run.checkpoint is not None and now >= run.checkpoint_at:
            run.changed, run.being_kept = False, True
            return KeepJob(run=run)
        # Before others come, so that what is in memory for them stays bounded.
        if run.neighbours is not None and run.neighbours.busy:
            return HeldJob(run=run)
        readable = run.references and now >= run.look_again_at
        if run.queue or readable:
            size = self.batch_size(run)
            frames = run.queue.take(size)
            references = run.references.take(size - len(frames)) if readable else []
            return BatchJob(run=run, owner=run.owner, frames=frames, references=references)
        return self._ending_job(run, now)

    def _ending_job(self, run: Run, now: float) -> Job | None:
        if run.ending is None or run.references or run.being_kept:
            return None
        if not run.abandoned and run.start.mode != "latest":
            if run.state == "running":
                run.enter("backfill")
            if run.owed and now < run.answered_at + REPORT_PATIENCE_S:
                return None
            missing = run.to_ask(MAX_SPANS)
            if missing:
                run.asked, run.owed = run.asked.union(missing), missing
                run.answered_at = now
                return ReportJob(run=run, owner=run.owner, missing=missing)
        if run.held:
            return SettleJob(run=run)
        run.enter("finishing")
        return FinishJob(run=run, ending=run.ending)
