"""Runs that a server before this one was killed in: taken up again from their last checkpoint."""

import logging
import time
from contextlib import suppress

from stormlive.output.growth import Growth
from stormlive.server.canvases import Canvases, below
from stormlive.server.checkpoint import Checkpoint, Kept
from stormlive.server.closing import growth_prefix
from stormlive.server.dataset import DataRoots
from stormlive.server.ledger import Ledger
from stormlive.server.protocols import Engine, OpenTable
from stormlive.server.run import Ending, Owner, Run
from stormlive.server.shelf import Shelf, final_of
from stormlive.wire.flow import Credit
from stormlive.wire.region import computed_region
from stormlive.wire.text import one_line
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)


def recover(shelf: Shelf, engine: Engine, open_table: OpenTable, data: DataRoots, most: int) -> list[Run]:
    """Return up to `most` runs that were interrupted, as they were at their last whole checkpoint.

    Their senders replay what came after it. A run without a whole checkpoint, or of another model, begins anew when its
    sender comes back, in a folder of its own.
    """
    runs: list[Run] = []
    for checkpoint in shelf.interrupted():
        folder = checkpoint.folder.parent
        if len(runs) >= most:
            checkpoint.release()
            _log.warning("the run in %s waits for the next start: there are %d already", folder, most)
            continue
        kept, troubles = checkpoint.read()
        final = final_of(folder)
        if final is not None and (kept is None or kept.moment.start.run == final.run):
            checkpoint.remove()  # killed after the last word was written
            continue
        if kept is None and not troubles:
            checkpoint.remove()  # killed before the first checkpoint: there is nothing to go on from
            with suppress(OSError):
                folder.rmdir()
            continue
        try:
            if kept is None:
                raise InputError("; ".join(troubles))
            runs.append(_take_up(kept, checkpoint, shelf, engine, open_table, data, troubles))
        # One run that cannot be taken up must not keep the server from the others.
        except Exception as error:
            checkpoint.release()
            shelf.trouble(one_line(f"the run in {folder.name} cannot be taken up and begins anew: {error}"))
    return runs


def described(run: Run, patience_s: float) -> str:
    """Return what is to be told of a run that was taken up: which, how many frames, where, and what comes of it."""
    folder = "" if run.checkpoint is None else f" in {run.checkpoint.folder.parent}"
    if run.ending is not None:
        waits = "it had ended, and its files are written now"
    else:
        waits = f"its sender has {patience_s:g} s to come back, then it is closed with these frames"
    return f"run {run.start.name}{folder} was interrupted: taken up with {run.durable.count()} frames; {waits}"


def _take_up(
    kept: Kept,
    checkpoint: Checkpoint,
    shelf: Shelf,
    engine: Engine,
    open_table: OpenTable,
    data: DataRoots,
    troubles: list[str],
) -> Run:
    moment, start = kept.moment, kept.moment.start
    canvases = Canvases(start, engine, open_table, moment.canvases)
    fingerprint = canvases.first.reconstruction.fingerprint
    if fingerprint != moment.fingerprint:
        raise InputError(f"another model began it ({moment.fingerprint}), this one is {fingerprint}")
    canvases.restore(kept.arrays)
    shelf.take_up(start, checkpoint.folder.parent)
    canvases.open_tables(moment.canvases)
    run = Run(start, Owner(peer=b"", credit=Credit(0)), 0)
    run.open(canvases, data.find(start))
    if run.neighbours is not None and moment.neighbours is not None:
        run.neighbours.restore(moment.neighbours, canvases.all, kept.arrays)
    _restore_growth(kept, canvases)
    run.ledger = Ledger.from_dict(moment.account)
    run.durable = run.ledger.in_picture()
    regions = list(run.ledger.regions)
    run.region = regions[-1] if regions else computed_region(start.region or None, start.shape)
    run.checkpoint = checkpoint
    run.started_at = moment.started_at
    run.began_s = time.monotonic() - moment.seconds
    run.notices = list(moment.notices)
    for trouble in troubles:
        run.notice(trouble)
    run.notice(f"taken up again after the server was lost, with {run.durable.count()} frames")
    run.enter("running")
    if moment.ending is not None:
        exit_status, n = moment.ending
        run.ending, run.abandoned = Ending(exit_status=exit_status, n=n), True
    _log.info("run %s: %s", start.name, run.notices[-1])
    return run


def _restore_growth(kept: Kept, canvases: Canvases) -> None:
    """Go on from how the canvases grew, as far as the checkpoint tells."""
    height, width = (side * canvases.first.reconstruction.upsampling for side in kept.moment.start.shape)
    for number, canvas in enumerate(canvases.all):
        arrays = below(kept.arrays, growth_prefix(number))
        canvas.growth = Growth.restored((height, width), arrays) if arrays else None
