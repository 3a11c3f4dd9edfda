"""What is written of a run: checkpoints while it goes on, its files when it has ended. In the scribe's thread."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from stormlive.ranges import Ranges
from stormlive.server.checkpoint import Moment
from stormlive.server.protocols import Finish, FinishedRun
from stormlive.server.run import Ending, Run
from stormlive.server.runs import Runs
from stormlive.server.shelf import Shelf
from stormlive.server.verdicts import overall_record
from stormlive.server.watch import MOST_JUDGED
from stormlive.wire.messages import Final
from stormlive.wire.text import one_line

if TYPE_CHECKING:
    from stormlive.server.judge import Judge

_log = logging.getLogger(__name__)

# A checkpoint may take a share of the disk's and the memory's time, not all of it.
_PAUSE_PER_COST = 10.0


def growth_prefix(number: int) -> str:
    """Return with what the names begin of that which a checkpoint has of how a canvas grew."""
    return f"growth/{number}/"


def moment_of(run: Run, ending: Ending | None = None) -> Moment:
    """Return a run as it is now; under the lock of `Runs`, in the engine thread."""
    if run.canvases is None:
        raise RuntimeError("a run that was never open has nothing to keep")
    return Moment(
        start=run.start,
        account=run.ledger.as_dict(),
        fingerprint=run.canvases.first.reconstruction.fingerprint,
        canvases=run.canvases.moments(),
        started_at=run.started_at,
        seconds=run.seconds(),
        notices=run.notices,
        ending=None if ending is None else (ending.exit_status, ending.n),
        neighbours=None if run.neighbours is None else run.neighbours.moment(run.canvases.all),
    )


class Closing:
    """Writes for the worker; what a disk refuses costs no frame."""

    def __init__(
        self,
        runs: Runs,
        finish: Finish,
        shelf: Shelf | None,
        checkpoint_s: float,
        tell: Callable[[Run, Any], None],
        judge: "Judge | None" = None,
    ) -> None:
        self._runs = runs
        self._finish = finish
        self._shelf = shelf
        self._checkpoint_s = checkpoint_s
        self._tell = tell
        self._judge = judge

    def keep(self, run: Run, moment: Moment, arrays: Mapping[str, NDArray[Any]], have: Ranges, began_s: float) -> None:
        """Write a checkpoint of a run that goes on."""
        written = self._write(run, moment, lambda: arrays)
        cost_s = time.monotonic() - began_s
        self._runs.kept(run, have if written else None, max(self._checkpoint_s, _PAUSE_PER_COST * cost_s))
        if written:
            self._tell(run, have)

    def close(self, run: Run, ending: Ending) -> None:
        """Write what a run leaves, and tell its sender, whatever happens."""
        try:
            final = self._close(run, ending)
        except Exception as error:
            _log.exception("run %s could not be closed well", run.start.name)
            trouble = one_line(f"the run could not be closed well: {one_line(error) or type(error).__name__}")
            final = run.ledger.final(run.start.run, ending.exit_status, None, trouble)
        self._runs.closed(run, final)
        self._tell(run, final)
        _log.info("run %s has ended (%s). %s", run.start.name, ending.exit_status, final.sentence)

    def _close(self, run: Run, ending: Ending) -> Final:
        with self._runs.lock:
            run.ledger.close(ending.n)
            moment = moment_of(run, ending) if run.checkpoint is not None else None
        if moment is not None and run.canvases is not None:
            # Killed from here on, the next server only has to write the files.
            self._write(run, moment, run.canvases.snapshot)
        if run.canvases is not None:
            run.canvases.close_tables(run.ledger.total)
        folder, trouble = self._write_files(run, ending)
        if self._shelf is not None:
            self._shelf.forget(run.start)
        if run.checkpoint is not None and trouble is None:
            run.checkpoint.remove()
        elif run.checkpoint is not None:
            run.checkpoint.release()
            trouble = one_line(f"{trouble}; what is needed to write them is kept in {run.checkpoint.folder}")
        if run.canvases is not None:
            trouble = trouble or run.canvases.table_trouble()
        return run.ledger.final(run.start.run, ending.exit_status, folder, trouble)

    def _write(self, run: Run, moment: Moment, arrays: Callable[[], Mapping[str, NDArray[Any]]]) -> bool:
        """Write a checkpoint; False, and the user told, when the disk does not take it."""
        if run.checkpoint is None:
            return False
        try:
            if run.canvases is not None:
                # First: a checkpoint must not count on rows that are not on disk.
                run.canvases.sync_tables()
            run.checkpoint.write(moment, {**arrays(), **_grown(run, moment)})
        except Exception as error:
            text = f"no checkpoint, the run goes on without: {one_line(error) or type(error).__name__}"
            _log.warning("run %s: %s", run.start.name, text)
            with self._runs.lock:
                run.notice(text)
            return False
        return True

    def _write_files(self, run: Run, ending: Ending) -> tuple[str | None, str | None]:
        """Let the run's files be written; return their folder and what went wrong."""
        if run.canvases is None:
            raise RuntimeError("a run that was never open cannot be closed")
        p50, p99 = run.latency_ms()
        canvases = run.canvases
        if self._judge is not None:
            self._judge.close(run)
        finished = FinishedRun(
            start=run.start,
            ledger=run.ledger,
            exit_status=ending.exit_status,
            started_at=run.started_at,
            duration_s=run.seconds(),
            notices=tuple(run.notices),
            frames_per_s=run.mean_frames_per_s(),
            latency_p50_ms=p50,
            latency_p99_ms=p99,
            judgement=overall_record([canvas.judgement for canvas in canvases.all[:MOST_JUDGED]]),
        )
        try:
            return self._finish(finished, canvases.all), None
        except Exception as error:
            _log.exception("the files of run %s could not be written; its canvases are kept", run.start.name)
            return None, one_line(f"the files could not be written: {one_line(error) or type(error).__name__}")
        finally:
            # The run stays viewable for as long as there is no other, but not how it came about.
            for canvas in canvases.all:
                canvas.growth = None


def _grown(run: Run, moment: Moment) -> dict[str, NDArray[Any]]:
    """Return what a checkpoint keeps of how the canvases grew: no more than is in them."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, then in enumerate(moment.canvases):
        growth = None if run.canvases is None else run.canvases.all[number].growth
        if growth is not None:
            kept = growth.snapshot(then.n_frames)
            arrays |= {f"{growth_prefix(number)}{name}": array for name, array in kept.items()}
    return arrays
