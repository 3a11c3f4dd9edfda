"""The engine thread: the only one that touches canvases.

Batches, views and the writing of files take turns here. So no lock is held while the engine computes, the IO
thread never waits for it, a viewer waits for one batch at most, and a slow viewer costs no frame.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stormlive.ranges import Ranges
from stormlive.server.protocols import Engine, Finish, FinishedRun
from stormlive.server.run import Ending, Owner, Run
from stormlive.server.run_table import RunTable
from stormlive.server.runs import BatchJob, FinishJob, OpenJob, Runs, ViewJob
from stormlive.server.views import answer
from stormlive.wire import flow
from stormlive.wire.frame import Frame
from stormlive.wire.messages import Credit, Error, Final, Message, Start, one_line
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A message for a peer of one of the two ROUTERs."""

    channel: Literal["data", "view"]
    peer: bytes
    message: Message
    pixels: NDArray[Any] | None = None
    credit: flow.Credit | None = None  # what a CREDIT gives back to


Post: TypeAlias = Callable[[Outgoing], None]
OpenTable: TypeAlias = Callable[[Start], RunTable | None]


class Worker:
    """Works off the jobs of `Runs`; what fails for one run ends that run and nothing else."""

    def __init__(
        self, runs: Runs, engine: Engine, finish: Finish, post: Post, open_table: OpenTable = lambda _: None
    ) -> None:
        self._runs = runs
        self._engine = engine
        self._finish = finish
        self._post = post
        self._open_table = open_table

    def work(self) -> None:
        """Work until the server stops and every run is closed."""
        while (job := self._runs.take()) is not None:
            match job:
                case OpenJob():
                    self._open(job.run)
                case BatchJob():
                    self._add(job)
                case FinishJob():
                    self._close(job.run, job.ending)
                case ViewJob():
                    self._view(job)

    def _open(self, run: Run) -> None:
        start = run.start
        try:
            reconstruction = self._engine.open(start.shape, start.calibration)
            table = self._open_table(start)
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
            run.state = "running"
        _log.info("run %s: %s frames of %s", start.name, start.dtype, start.shape)

    def _add(self, job: BatchJob) -> None:
        run, reconstruction = job.run, job.run.reconstruction
        if reconstruction is None:
            raise RuntimeError("a batch was taken for a run that is not open")
        with self._runs.lock:
            fresh = list({frame.seq: frame for frame in job.frames if frame.seq not in run.ledger}.values())
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
                self._fail(run, job.frames, f"engine failed: {one_line(error) or type(error).__name__}")
                return
            seconds = time.monotonic() - began
        with self._runs.lock:
            for frame in job.frames:
                run.ledger.add_live(frame.seq)
            if fresh:
                run.note_batch(fresh, seconds)
            live = Ranges((frame.seq, frame.seq) for frame in job.frames if frame.seq in run.ledger.live)
        peer, credit = job.owner.peer, job.owner.credit
        nbytes = sum(credit.cost(frame.pixels.nbytes) for frame in job.frames)
        message = Credit(bytes=nbytes, live=tuple(live))
        self._post(Outgoing(channel="data", peer=peer, message=message, credit=credit))

    def _fail(self, run: Run, frames: list[Frame], reason: str) -> None:
        """End a run whose engine failed: what is queued will not be in its picture either."""
        with self._runs.lock:
            gone = Ranges((frame.seq, frame.seq) for frame in [*frames, *run.queue])
            run.queue.clear()
            run.ledger.add_missing(gone, reason)
            n = None if run.ending is None else run.ending.n
            run.ending = Ending(exit_status=one_line(reason), n=n)

    def _close(self, run: Run, ending: Ending) -> None:
        with self._runs.lock:
            run.ledger.close(ending.n or 0)
        if run.table is not None:
            run.table.close(run.ledger.total)
        folder, trouble = self._write(run, ending)
        if run.table is not None:
            trouble = trouble or run.table.trouble
        ledger = run.ledger
        final = Final(
            run=run.start.run,
            frames=ledger.total,
            live=ledger.live_count(),
            missing=ledger.missing_counts(),
            exit_status=ending.exit_status,
            sentence=one_line(ledger.sentence(), 1000),
            folder=None if folder is None else one_line(folder, 1000),
            error=trouble,
        )
        self._runs.closed(run, final)
        self._tell(run.owner, final)
        _log.info("run %s has ended (%s). %s", run.start.name, ending.exit_status, final.sentence)

    def _write(self, run: Run, ending: Ending) -> tuple[str | None, str | None]:
        """Let the run's files be written; return their folder and what went wrong."""
        if run.reconstruction is None:
            raise RuntimeError("a run that was never open cannot be closed")
        p50, p99 = run.latency_ms()
        finished = FinishedRun(
            start=run.start,
            ledger=run.ledger,
            exit_status=ending.exit_status,
            started_at=run.started_at,
            ended_at=datetime.now(UTC),
            frames_per_s=run.mean_frames_per_s(),
            latency_p50_ms=p50,
            latency_p99_ms=p99,
        )
        try:
            return self._finish(finished, run.reconstruction), None
        except Exception as error:
            _log.exception("the files of run %s could not be written; its canvas is kept", run.start.name)
            return None, one_line(f"the files could not be written: {one_line(error) or type(error).__name__}")

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
        self._post(Outgoing(channel="data", peer=owner.peer, message=message))
