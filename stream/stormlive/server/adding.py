"""Frames on their way to their canvases: read where only their place is known, dealt out, computed, accounted for."""

import itertools
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormlive.ranges import Ranges
from stormlive.server.jobs import BatchJob
from stormlive.server.kept_frames import Kept
from stormlive.server.neighbours import Neighbours
from stormlive.server.protocols import Canvas
from stormlive.server.run import Ending, Owner, Reference, Run
from stormlive.server.runs import Runs
from stormlive.wire.frame import Frame
from stormlive.wire.messages import Credit, Drop, Message
from stormlive.wire.text import one_line
from stormlive_sim.errors import InputError
from stormlive_sim.routes import Route, route_of

if TYPE_CHECKING:
    from stormlive.server.judge import Judge

_log = logging.getLogger(__name__)


class Adding:
    """Adds the batches of all runs, in the engine thread; `tell` sends a message to a run's owner."""

    def __init__(self, runs: Runs, judge: "Judge | None", tell: Callable[[Owner, Message], None]) -> None:
        self._runs = runs
        self._judge = judge
        self._tell = tell

    def add(self, job: BatchJob) -> Credit | None:
        """Add a batch; return what its sender is told, or None when the engine failed."""
        run = job.run
        read, later = self._read(job)
        frames = [*job.frames, *read]
        with self._runs.lock:
            held = run.held
            taken = {frame.seq: frame for frame in frames if frame.seq not in run.ledger and frame.seq not in held}
            fresh = list(taken.values())
        live_ns = {frame.seq: frame.t_ns for frame in job.frames if not frame.replay}
        routes: dict[Route, list[Frame]] = {}
        for frame in fresh:
            routes.setdefault(route_of(frame.axes), []).append(frame)
        began = time.monotonic()
        try:
            for route, some in routes.items():
                self._deal(run, job.owner, route, some, live_ns)
            # When a frame that is read from the dataset was taken is not known: it has no latency.
            n, offered_ns = len(fresh), list(live_ns.values())
            if run.neighbours is not None:
                n, offered_ns = self._work_off(run, run.neighbours, len(fresh))
        except Exception as error:
            self._engine_failed(run, frames, error)
            return None
        self._note(run, n, began, offered_ns)
        with self._runs.lock:
            run.ledger.refused_duplicates += len(frames) - len(fresh)
            came = Ranges((frame.seq, frame.seq) for frame in frames)
            run.answered(came)
            live, replayed = came.intersect(run.ledger.live), came.intersect(run.ledger.replayed)
            # What waits for the next frame is here to stay: the sender need not wait for that too.
            held = run.held
            for frame in frames if held else ():
                if frame.seq in held:
                    (replayed if frame.replay else live).add(frame.seq)
        if later:
            self._runs.look_again(run, job.owner, later)
        credit = job.owner.credit
        nbytes = sum(credit.cost(frame.pixels.nbytes) for frame in job.frames)
        nbytes += credit.cost(0) * (len(job.references) - len(later))
        # Where there are no checkpoints, to be in the picture is all that a frame can come to.
        durable = live.union(replayed) if run.checkpoint is None else Ranges()
        return Credit(bytes=nbytes, live=tuple(live), replayed=tuple(replayed), durable=tuple(durable))

    def _deal(self, run: Run, owner: Owner, route: Route, frames: list[Frame], live_ns: Mapping[int, int]) -> None:
        """Add frames of one route to their canvas, or hold them; those for which there can be none are missing."""
        if run.canvases is None:
            raise RuntimeError("a batch was taken for a run that is not open")
        try:
            canvas = run.canvases.of(route)
        except InputError as error:
            with self._runs.lock:
                run.notice(str(error))
            self._give_up(run, owner, Ranges((frame.seq, frame.seq) for frame in frames), str(error))
            if run.neighbours is not None:
                run.neighbours.pass_by([frame.seq for frame in frames])
            return
        frames, pixels = _copied(frames)
        if not frames:
            return
        if run.neighbours is None:
            self._compute(run, canvas, frames, pixels)
        else:
            run.neighbours.take(canvas, frames, pixels, live_ns)

    def _compute(
        self,
        run: Run,
        canvas: Canvas,
        frames: Sequence[Frame] | Sequence[Kept],
        pixels: NDArray[Any],
        own: slice = slice(None),
        alone: Collection[int] = (),
    ) -> None:
        """Add frames, which are the `own` ones of `pixels`, to their canvas."""
        sink = None if canvas.table is None else canvas.table.sink([frame.seq for frame in frames])
        region = run.region
        canvas.reconstruction.add(pixels, sink, own, region=region)
        with self._runs.lock:
            canvas.n_frames += len(frames)
            for frame in frames:
                run.ledger.add(frame.seq, replay=frame.replay, region=region)
            for seq in alone:
                run.ledger.alone.add(seq)
        if self._judge is not None:
            self._judge.saw(run, canvas, pixels[own])

    def _work_off(self, run: Run, neighbours: Neighbours, least: int = 0) -> tuple[int, list[int]]:
        """Compute a batch of those that have frames beside them; return how many, and when the live ones came."""
        n, offered_ns = 0, list[int]()
        with self._runs.lock:
            queued = {frame.seq for frame in run.queue} if run.start.mode == "latest" else ()
        for stretch in neighbours.ready(max(least, self._runs.batch_size(run)), queued):
            self._compute(run, stretch.canvas, stretch.frames, stretch.pixels, stretch.own, stretch.alone)
            n += len(stretch.frames)
            offered_ns += [frame.offered_ns for frame in stretch.frames if frame.offered_ns is not None]
        return n, offered_ns

    def _note(self, run: Run, n: int, began_s: float, offered_ns: list[int]) -> None:
        seconds = time.monotonic() - began_s
        with self._runs.lock:
            if n:
                run.note_batch(n, seconds, offered_ns=offered_ns)
                run.changed = True

    def go_on(self, run: Run) -> None:
        """Compute a batch of the frames that waited for others."""
        if run.neighbours is None:
            raise RuntimeError("no frame of this run can have waited")
        began = time.monotonic()
        try:
            n, offered_ns = self._work_off(run, run.neighbours)
        except Exception as error:
            self._engine_failed(run, [], error)
            return
        self._note(run, n, began, offered_ns)

    def settle(self, run: Run) -> None:
        """Let the frames that wait for others, which will not come, be computed."""
        if run.neighbours is None:
            raise RuntimeError("there is nothing that a frame of this run could wait for")
        with self._runs.lock:
            n = max(run.ledger.total, 0 if run.ending is None else run.ending.n or 0)
        run.neighbours.settle(n)

    def _engine_failed(self, run: Run, frames: list[Frame], error: Exception) -> None:
        _log.error("the engine failed in run %s", run.start.name, exc_info=error)
        self._fail(run, frames, f"engine failed: {one_line(error) or type(error).__name__}")

    def _give_up(self, run: Run, owner: Owner, ranges: Ranges, reason: str) -> None:
        """Note, and tell the owner that gave them, that frames will not be in the picture.

        On a new connection they have been sent again: there it would have the sender use their memory for others.
        """
        with self._runs.lock:
            run.ledger.add_missing(ranges, reason)
            # Not the sender's answer: it must not prolong the search for the other frames in the dataset.
            run.settled(ranges)
        self._tell(owner, Drop(run=run.start.run, ranges=tuple(ranges), reason=one_line(reason)))

    def _read(self, job: BatchJob) -> tuple[list[Frame], list[Reference]]:
        """Return the frames that the dataset has, and the references that it does not have yet."""
        run, frames, later, now = job.run, list[Frame](), list[Reference](), time.monotonic()
        given_up: dict[str, Ranges] = {}
        for reference in job.references:
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
                given_up.setdefault(reason, Ranges()).add(reference.seq)
            else:
                later.append(reference)
        for reason, ranges in given_up.items():
            self._give_up(run, job.owner, ranges, reason)
        return frames, later

    def _fail(self, run: Run, frames: list[Frame], reason: str) -> None:
        """End a run whose engine failed: what is queued will not be in its picture either."""
        with self._runs.lock:
            gone = Ranges((frame.seq, frame.seq) for frame in [*frames, *run.queue])
            gone.merge(Ranges((reference.seq, reference.seq) for reference in run.references))
            gone.merge(run.held)
            run.queue.clear()
            run.references.clear()
            run.neighbours = None
            run.ledger.add_missing(gone, reason)
            n = None if run.ending is None else run.ending.n
            run.ending = Ending(exit_status=one_line(reason), n=n)
            run.abandoned = True


def _copied(frames: list[Frame]) -> tuple[list[Frame], NDArray[Any]]:
    """Return frames and their pixels (T, Y, X), without those whose sender has taken back its memory.

    It does so when the connection is lost, and sends them again on the next one.
    """
    pixels = np.stack([frame.pixels for frame in frames])
    intact = [frame.intact() for frame in frames]
    if all(intact):
        return frames, pixels
    return list(itertools.compress(frames, intact)), pixels[intact]
