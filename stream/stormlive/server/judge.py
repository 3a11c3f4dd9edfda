"""The judge: looks at runs' pictures now and then, and thinks about them in a thread of its own.

The engine's thread only makes copies, for 2 to 3 % of its time; the judge works for a twentieth of a core's.
What fails here costs a run nothing but its judgement.
"""

import contextlib
import logging
import os
import queue
import sys
import threading
import time
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from stormlive.output.growth import MOST_BYTES
from stormlive.server.beginning import begin
from stormlive.server.canvases import Canvases
from stormlive.server.judging import Judging
from stormlive.server.look import Look, look_at
from stormlive.server.protocols import Canvas
from stormlive.server.run import Run
from stormlive.server.verdicts import named
from stormlive.server.watch import MOST_JUDGED, Turns, Watch, watched
from stormlive.wire.text import one_line
from stormlive_models.judge.slabs import SLAB_BYTES

_log = logging.getLogger(__name__)

_RAW_FRAMES = 16
_LOOK_SHARE = 0.02
_WORK_SHARE = 0.05
_COMPARE_SHARE = 0.02
_NICENESS = 10


class Judge:
    """Judges the first eight canvases of each run: they share the time of one, and its memory for slabs and replay.

    Parameters
    ----------
    runs_lock
        Of whoever changes a run's fields.
    every_s
        Seconds between two looks at a canvas, or more where they are dear.

    Attributes
    ----------
    looked_s
        Time that the engine's thread has spent on looking.
    """

    def __init__(self, runs_lock: threading.Condition, every_s: float) -> None:
        self._lock = runs_lock
        self._every_s = every_s
        self._looks: queue.SimpleQueue[tuple[Run, Turns, Canvas, Look] | None] = queue.SimpleQueue()
        self.looked_s = 0.0

    # The engine thread's side.

    def saw(self, run: Run, canvas: Canvas, pixels: NDArray[Any]) -> None:
        """Note that frames (T, Y, X), ADU, have been added to a run's canvas."""
        began = time.perf_counter()
        turns = run.turns
        if turns is None:
            turns = run.turns = Turns()
        try:
            if not turns.trouble:
                self._see(run, turns, canvas, pixels)
                self._take_turn(run, turns)
        except Exception as error:
            self._give_up(run, turns, error)
        self.looked_s += time.perf_counter() - began

    def ends(self, run: Run) -> None:
        """Take a last look at a run of which no more frames come."""
        turns = run.turns
        if turns is None or turns.trouble:
            return
        try:
            for canvas, watch in watched(run):
                if watch.judging is not None:
                    watch.look = _look(run, canvas, watch, watch.judging, compare=True)
        except Exception as error:
            self._give_up(run, turns, error)

    def _see(self, run: Run, turns: Turns, canvas: Canvas, pixels: NDArray[Any]) -> None:
        """Keep some of the frames, and begin where nothing is known yet."""
        watch, others = canvas.watch, [one for one in watched(run) if one[0] is not canvas]
        if watch is None:
            if len(others) >= MOST_JUDGED:
                canvas.no_growth = f"how it grew is kept of a run's first {MOST_JUDGED} canvases only"
                return
            watch = canvas.watch = Watch()
        if watch.judging is not None and not turns.busy and not watch.judging.part.meets(run.region):
            # Where it looked nothing grows any more: it looks elsewhere, and forgets what it knew.
            watch.judging, watch.raw = None, []
        if watch.judging is None:
            if time.monotonic() < watch.due_at:
                return
            watch.judging = begin(run, canvas, beside=len(others))
            watch.due_at = time.monotonic() + self._every_s
            if watch.judging is None:
                return
        if len(watch.raw) < _RAW_FRAMES:
            rows, columns = watch.judging.part.on_camera
            watch.raw += [frame[rows, columns].copy() for frame in pixels[: _RAW_FRAMES - len(watch.raw)]]

    def _take_turn(self, run: Run, turns: Turns) -> None:
        """Look at the canvas that has waited longest, if one has grown and the time has come."""
        now = time.monotonic()
        if turns.busy or now < turns.due_at:
            return
        waiting = [
            (canvas, watch, watch.judging)
            for canvas, watch in watched(run)
            if watch.judging is not None and canvas.n_frames > watch.n_frames and now >= watch.due_at
        ]
        if not waiting:
            return
        canvas, watch, judging = min(waiting, key=lambda one: one[1].looked_at)
        # Else it would always be the same one's turn when a comparison is due.
        compare = now >= turns.compare_at and watch.compared_at == min(one.compared_at for _, one, _ in waiting)
        began = time.perf_counter()
        look = _look(run, canvas, watch, judging, compare=compare)
        watch.raw, watch.n_frames = [], look.n_frames
        watch.looked_at, watch.compared_at = now, now if compare else watch.compared_at
        watch.due_at = now + self._every_s
        turns.due_at = now + (time.perf_counter() - began) / _LOOK_SHARE
        turns.busy = True
        self._looks.put((run, turns, canvas, look))

    # The judge's own thread.

    def work(self) -> None:
        """Think about looks until `stop`."""
        if sys.platform == "linux":
            # Of this thread alone: where cores are short, the engine goes first.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while (job := self._looks.get()) is not None:
            run, turns, canvas, look = job
            began = time.thread_time()
            with turns.lock:
                if not turns.closed and not turns.trouble:
                    try:
                        self._think(run, canvas, look)
                    except Exception as error:
                        self._give_up(run, turns, error)
            took_s = time.thread_time() - began
            if look.widefield is not None:
                turns.compare_at = time.monotonic() + took_s / _COMPARE_SHARE
            turns.due_at = max(turns.due_at, time.monotonic() + took_s * (1 / _WORK_SHARE - 1))
            turns.busy = False

    def _think(self, run: Run, canvas: Canvas, look: Look) -> None:
        judging = None if canvas.watch is None else canvas.watch.judging
        if judging is None:
            return
        judging.take(look)
        if canvas.growth is not None:
            canvas.growth.add(look.canvas, look.n_frames)
        judged = watched(run)
        for one, watch in judged:
            # The more canvases there are, the less is left to those before.
            if watch.judging is not None:
                watch.judging.keep_within(SLAB_BYTES // len(judged))
            if (growth := one.growth) is not None:
                growth.keep_within(MOST_BYTES // len(judged))
        if judging.drift_shows and judging.uncorrected:
            with self._lock:
                if judging.uncorrected not in run.notices:
                    run.notice(judging.uncorrected)

    def stop(self) -> None:
        """Let `work` return when it has thought about what it has."""
        self._looks.put(None)

    # The scribe's thread.

    def close(self, run: Run) -> None:
        """Give the canvases of a run that has ended their judgements, and themselves without drift where that shows."""
        turns, canvases = run.turns, run.canvases
        if turns is None or canvases is None:
            return
        with turns.lock:
            turns.closed = True
            for canvas, watch in watched(run):
                try:
                    self._finish(canvases, canvas, watch, turns)
                except Exception as error:
                    self._give_up(run, turns, error)
                finally:
                    watch.look, watch.raw = None, []

    @staticmethod
    def _finish(canvases: Canvases, canvas: Canvas, watch: Watch, turns: Turns) -> None:
        judging = watch.judging
        if judging is None:
            return
        if watch.look is not None and not turns.trouble:
            judging.take(watch.look)
        judging.finish()
        record = judging.record()
        if record is not None:
            canvas.judgement = replace(record, final=named(canvases, canvas, record.final))
        # After trouble it is without the frames since then.
        if judging.corrected is not None and judging.drift_shows and not turns.trouble:
            canvas.corrected = judging.corrected[0]

    def _give_up(self, run: Run, turns: Turns, error: Exception) -> None:
        _log.error("the judge failed in run %s, which goes on without", run.start.name, exc_info=error)
        turns.trouble = one_line(f"the picture is not judged any more: {one_line(error) or type(error).__name__}")
        with self._lock:
            run.notice(turns.trouble)


def _look(run: Run, canvas: Canvas, watch: Watch, judging: Judging, *, compare: bool) -> Look:
    """Return copies of what a canvas is now."""
    part = judging.part
    return look_at(
        canvas.reconstruction,
        run.start.shape,
        part,
        n_frames=canvas.n_frames,
        whole=judging.is_whole,
        compare=compare,
        raw=np.stack(watch.raw) if watch.raw else np.zeros((0, part.height, part.width), np.uint16),
        region=run.region,
    )
