"""The engine thread: the only one that adds to canvases.

Batches and views take turns here, and files are written by the scribe's thread. So no lock is held while the engine
computes, the IO thread never waits for it, a viewer waits for one batch at most, also where many frames that waited
for others can be computed at once, and a slow viewer or disk costs no frame.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import UNSET
from numpy.typing import NDArray

from stormlive.ranges import Ranges
from stormlive.server.adding import Adding
from stormlive.server.canvases import Canvases
from stormlive.server.closing import Closing, moment_of
from stormlive.server.dataset import DataRoots
from stormlive.server.jobs import BatchJob, FinishJob, HeldJob, KeepJob, OpenJob, ReportJob, SettleJob, ViewJob
from stormlive.server.limits import CHECKPOINT_S
from stormlive.server.packer import Packer
from stormlive.server.protocols import Engine, Finish, OpenTable, no_table
from stormlive.server.run import Owner, Run
from stormlive.server.runs import Runs
from stormlive.server.scribe import Scribe
from stormlive.server.shelf import Shelf
from stormlive.server.views import Answer, answer
from stormlive.wire import flow
from stormlive.wire.codec import span_groups
from stormlive.wire.messages import Credit, Error, Final, Message, Report
from stormlive.wire.region import computed_region
from stormlive.wire.text import one_line
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.server.judge import Judge

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
        data: DataRoots = DataRoots(None),
        judge: "Judge | None" = None,
    ) -> None:
        self._runs = runs
        self._data = data
        self._engine = engine
        self._post = post
        self._open_table = open_table
        self._shelf = shelf
        self._judge = judge
        self._adding = Adding(runs, judge, self._tell)
        self._keeps = checkpoint_s > 0
        # A run that was interrupted has been promised to be kept, whatever this server does for new ones.
        self._closing = Closing(runs, finish, shelf, checkpoint_s or CHECKPOINT_S, self._tell_kept, judge)
        self.scribe = Scribe()
        self.packer = Packer(post)

    def work(self) -> None:
        """Work until the server stops and every run is closed."""
        while (job := self._runs.take()) is not None:
            match job:
                case OpenJob():
                    self._open(job.run)
                case BatchJob():
                    credit = self._adding.add(job)
                    if credit is not None:
                        owner = job.owner
                        self._post(Outgoing(channel="data", peer=owner.peer, message=credit, credit=owner.credit))
                case KeepJob():
                    self._keep(job.run)
                case ReportJob():
                    self._tell(job.owner, _report(job.run, job.missing))
                case HeldJob():
                    self._adding.go_on(job.run)
                case SettleJob():
                    self._adding.settle(job.run)
                case FinishJob():
                    if self._judge is not None:
                        self._judge.ends(job.run)
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
            region = computed_region(start.region or None, start.shape)
            canvases = Canvases(start, self._engine, self._open_table)
            dataset = self._data.find(start)
        except Exception as error:
            if not isinstance(error, InputError):
                _log.exception("the engine could not open run %s", start.name)
            self._runs.refused(run)
            message = one_line(error) or type(error).__name__
            self._tell(run.owner, Error(code="refused", fatal=True, message=message))
            return
        with self._runs.lock:
            run.open(canvases, dataset)
            run.region = region
            run.enter("running")
            if self._shelf is not None:
                for trouble in self._shelf.troubles():
                    run.notice(trouble)
                try:
                    run.checkpoint = self._shelf.checkpoint(start) if self._keeps else None
                except InputError as error:
                    run.notice(f"no checkpoints, the run goes on without: {error}")
            owner = run.owner
        self._tell(owner, _report(run))
        _log.info("run %s: %s frames of %s", start.name, start.dtype, start.shape)

    def _keep(self, run: Run) -> None:
        """Take a copy of a run, and have it written."""
        began = time.monotonic()
        if run.canvases is None:
            raise RuntimeError("a run that was never open has nothing to keep")
        with self._runs.lock:
            moment, have = moment_of(run), run.ledger.in_picture()
        arrays = run.canvases.snapshot()
        if run.neighbours is not None:
            arrays.update(run.neighbours.snapshot())
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
        try:
            found = answer(job.run, job.view)
        except Exception as error:
            _log.exception("a view could not be made")
            text = one_line(f"the view could not be made: {error}")
            found = Answer(Error(code="view-failed", fatal=False, message=text, request=job.view.request))
        outgoing = Outgoing(channel="view", peer=job.viewer, message=found.message, pixels=found.pixels)
        if found.pixels is None or (job.view.accept is UNSET and found.measure is None):
            self._post(outgoing)
        else:
            self.packer.submit(outgoing, job.view.accept, found.measure)

    def _tell(self, owner: Owner, message: Message) -> None:
        if owner.peer:
            self._post(Outgoing(channel="data", peer=owner.peer, message=message))


def _report(run: Run, missing: Ranges | None = None) -> Report:
    return Report(run=run.start.run, missing=tuple(missing or ()), by_dataset=run.dataset is not None)
