"""The engine thread: the only one that adds to canvases.

Batches and views take turns here, and files are written by the scribe's thread. So no lock is held while the engine
computes, the IO thread never waits for it, a viewer waits for one batch at most, and a slow viewer or disk costs no
frame.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stormlive.ranges import Ranges
from stormlive.server.closing import Closing, moment_of
from stormlive.server.dataset import Dataset
from stormlive.server.jobs import BatchJob, FinishJob, KeepJob, OpenJob, ReportJob, ViewJob
from stormlive.server.protocols import Engine, Finish, OpenTable, no_table
from stormlive.server.run import Ending, Owner, Reference, Run
from stormlive.server.runs import Runs
from stormlive.server.scribe import Scribe
from stormlive.server.shelf import Shelf
from stormlive.server.views import answer
from stormlive.wire import flow
from stormlive.wire.codec import span_groups
from stormlive.wire.frame import Frame
from stormlive.wire.messages import Credit, Drop, Error, Final, Message, Report, one_line
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)

CHECKPOINT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A message for a peer of one of the two ROUTERs."""

    channel: Literal["data", "view"]
    peer: bytes
    message: Message
    pixels: NDArray[Any] | None = None
    credit: flow.Credit | None = None  # what a CREDIT gives back to


Post: TypeAlias = Callable[[Outgoing], None]


class Worker:
    """Works off the jobs of `Runs`; what fails for one run ends that run and nothing else."""

    def __init__(
        self,
        runs: Runs,
        engine: Engine,
        finish: Finish,
        post: Post,
        open_table: OpenTable = no_table,
        shelf: Shelf | None = None,
        checkpoint_s: float = CHECKPOINT_S,
    ) -> None:
        self._runs = runs
        self._engine = engine
        self._post = post
        self._open_table = open_table
        self._shelf = shelf
        self._closing = Closing(runs, finish, shelf, checkpoint_s, self._tell_kept)
        self.scribe = Scribe()

    def work(self) -> None:
        """Work until the server stops and every run is closed."""
        while (job := self._runs.take()) is not None:
            match job:
                case OpenJob():
                    self._open(job.run)
                case BatchJob():
                    self._add(job)
                case KeepJob():
                    self._keep(job.run)
                case ReportJob():
                    self._tell(job.owner, _report(job.run, job.missing))
                case FinishJob():
                    self.scribe.submit(partial(self._closing.close, job.run, job.ending))
                case ViewJob():
                    self._view(job)

    def _open(self, run: Run) -> None:
        start = run.start
        try:
            final = None if self._shelf is None else self._shelf.finished(start)
            if final is not None:
                self._runs.refused(run, final)
                self._tell(run.owner, final)
                return
            reconstruction = self._engine.open(start.shape, start.calibration)
            table = self._open_table(start)
            dataset = Dataset.of(start)
        except Exception as error:
            if not isinstance(error, InputError):
                _log.exception("the engine could not open run %s", start.name)
            self._runs.refused(run)
            message = one_line(error) or type(error).__name__
            self._tell(run.owner, Error(code="refused", fatal=True, message=message))
            return
        with self._runs.lock:
            run.reconstruction = reconstruction
            run.table = table
            run.dataset = dataset
            run.enter("running")
            if self._shelf is not None:
                for trouble in self._shelf.troubles():
                    run.notice(trouble)
                try:
                    run.checkpoint = self._shelf.checkpoint(start)
                except InputError as error:
                    run.notice(f"no checkpoints, the run goes on without: {error}")
            owner = run.owner
        self._tell(owner, _report(run))
        _log.info("run %s: %s frames of %s", start.name, start.dtype, start.shape)

    def _add(self, job: BatchJob) -> None:
        run, reconstruction = job.run, job.run.reconstruction
        if reconstruction is None:
            raise RuntimeError("a batch was taken for a run that is not open")
        read, later = self._read(run, job.references)
        frames = [*job.frames, *read]
        with self._runs.lock:
            fresh = list({frame.seq: frame for frame in frames if frame.seq not in run.ledger}.values())
        seconds = 0.0
        if fresh:
            began = time.monotonic()
            try:
                pixels = np.stack([frame.pixels for frame in fresh])
                if run.table is None:
                    reconstruction.add(pixels)
                else:
                    reconstruction.add(pixels, run.table.sink([frame.seq for frame in fresh]))
            except Exception as error:
                _log.exception("the engine failed in run %s", run.start.name)
                self._fail(run, frames, f"engine failed: {one_line(error) or type(error).__name__}")
                return
            seconds = time.monotonic() - began
        with self._runs.lock:
            for frame in frames:
                run.ledger.add(frame.seq, replay=frame.replay)
            if fresh:
                run.note_batch(fresh, seconds)
                run.changed = True
            came = Ranges((frame.seq, frame.seq) for frame in frames)
            run.answered(came)
            live, replayed = came.intersect(run.ledger.live), came.intersect(run.ledger.replayed)
        if later:
            self._runs.look_again(run, job.owner, later)
        credit = job.owner.credit
        nbytes = sum(credit.cost(frame.pixels.nbytes) for frame in job.frames)
        nbytes += credit.cost(0) * (len(job.references) - len(later))
        # Where there are no checkpoints, to be in the picture is all that a frame can come to.
        durable = came if run.checkpoint is None else Ranges()
        message = Credit(bytes=nbytes, live=tuple(live), replayed=tuple(replayed), durable=tuple(durable))
        self._post(Outgoing(channel="data", peer=job.owner.peer, message=message, credit=credit))

    def _read(self, run: Run, references: list[Reference]) -> tuple[list[Frame], list[Reference]]:
        """Return the frames that the dataset has, and the references that it does not have yet."""
        frames, later, now = list[Frame](), list[Reference](), time.monotonic()
        for reference in references:
            try:
                pixels = None if run.dataset is None else run.dataset.frame(reference.axes)
                reason = "not in the dataset" if pixels is None else ""
                gone = run.dataset is None or run.gives_up_reading(now)
            except InputError as error:
                pixels, reason, gone = None, str(error), True
            if pixels is not None:
                now_ns = time.perf_counter_ns()
                frames.append(
                    Frame(
                        run=run.start.run,
                        seq=reference.seq,
                        t_ns=now_ns,
                        axes=reference.axes,
                        pixels=pixels,
                        replay=reference.replay,
                    )
                )
            elif gone:
                one = Ranges([(reference.seq, reference.seq)])
                with self._runs.lock:
                    run.ledger.add_missing(one, reason)
                    run.answered(one)
                self._tell(run.owner, Drop(run=run.start.run, ranges=tuple(one), reason=one_line(reason)))
            else:
                later.append(reference)
        return frames, later

    def _fail(self, run: Run, frames: list[Frame], reason: str) -> None:
        """End a run whose engine failed: what is queued will not be in its picture either."""
        with self._runs.lock:
            gone = Ranges((frame.seq, frame.seq) for frame in [*frames, *run.queue])
            gone.merge(Ranges((reference.seq, reference.seq) for reference in run.references))
            run.queue.clear()
            run.references.clear()
            run.ledger.add_missing(gone, reason)
            n = None if run.ending is None else run.ending.n
            run.ending = Ending(exit_status=one_line(reason), n=n)
            run.abandoned = True

    def _keep(self, run: Run) -> None:
        """Take a copy of a run, and have it written."""
        began = time.monotonic()
        if run.reconstruction is None:
            raise RuntimeError("a run that was never open has nothing to keep")
        with self._runs.lock:
            moment, have = moment_of(run), run.ledger.in_picture()
        arrays = run.reconstruction.snapshot()
        self.scribe.submit(partial(self._closing.keep, run, moment, arrays, have, began))

    def _tell_kept(self, run: Run, news: Ranges | Final) -> None:
        """Tell a run's sender, from the scribe's thread, what it need not keep, or that the run is closed."""
        if isinstance(news, Final):
            self._tell(run.owner, news)
            return
        with self._runs.lock:
            owner, untold = run.owner, news.subtract(run.told_durable)
            run.told_durable = news
        for group in span_groups(untold):
            self._tell(owner, Credit(bytes=0, durable=group))

    def _view(self, job: ViewJob) -> None:
        pixels = None
        try:
            message, pixels = answer(job.run, job.view)
        except Exception as error:
            _log.exception("a view could not be made")
            text = one_line(f"the view could not be made: {error}")
            message = Error(code="view-failed", fatal=False, message=text, request=job.view.request)
        self._post(Outgoing(channel="view", peer=job.viewer, message=message, pixels=pixels))

    def _tell(self, owner: Owner, message: Message) -> None:
        if owner.peer:
            self._post(Outgoing(channel="data", peer=owner.peer, message=message))


def _report(run: Run, missing: Ranges | None = None) -> Report:
    return Report(run=run.start.run, missing=tuple(missing or ()), by_dataset=run.dataset is not None)
