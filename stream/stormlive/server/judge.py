"""The judge: looks at runs' pictures now and then, and thinks about them in a thread of its own.

The engine's thread only makes copies, for less than 2 % of its time; the judge works for a twentieth of a core's.
What fails here costs a run nothing but its judgement.
"""

import contextlib
import logging
import os
import queue
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stormlive.output.growth import MOST_BYTES, Growth
from stormlive.output.judgement import JudgementRecord
from stormlive.server.judging import Judging, coarseness
from stormlive.server.look import Look, Part
from stormlive.server.memory import available_bytes
from stormlive.server.protocols import Canvas
from stormlive.server.reconstruction import Reconstruction
from stormlive.server.run import Run
from stormlive.wire.text import one_line
from stormlive_models.judge.convergence import busiest_window
from stormlive_models.judge.mismatch import Trained
from stormlive_models.judge.slabs import SLAB_BYTES

_log = logging.getLogger(__name__)

PART_PX = 1024
"""Canvas pixels a side that are looked at closely."""
WHOLE_PX = 16384**2
"""Larger canvases are not copied whole, and the drift of theirs is shown but not taken out."""
GROWTH_PX = 4096**2
"""Of larger ones is not kept how they grew."""
_COPIES = 6
"""Of a canvas, that there must be memory for: two looks, the corrected one and the one before it, two on the way."""
_RAW_FRAMES = 16
_LOOK_SHARE = 0.02
_WORK_SHARE = 0.05
_COMPARE_SHARE = 0.02
_NICENESS = 10


@dataclass(kw_only=True, eq=False)
class Watch:
    """The judge's notes on one run; the engine's thread writes all but `busy`, `compare_at` and `trouble`.

    Attributes
    ----------
    raw
        Consecutive frames since the last look.
    due_at
        When the next look is due; `compare_at` when one that is compared with the widefield picture is.
    busy
        Whether a look is being thought about.
    closed
        Whether the last look has been taken.
    trouble
        What went wrong; then nothing more is judged.
    """

    judging: Judging | None = None
    raw: list[NDArray[Any]] = field(default_factory=list)
    due_at: float = 0.0
    compare_at: float = 0.0
    busy: bool = False
    closed: bool = False
    trouble: str = ""
    look: Look | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Judge:
    """Judges the first canvas of each run.

    Parameters
    ----------
    runs_lock
        Of whoever changes a run's fields.
    every_s
        Seconds between two looks at a run, or more where they are dear.

    Attributes
    ----------
    looked_s
        Time that the engine's thread has spent on looking.
    """

    def __init__(self, runs_lock: threading.Condition, every_s: float) -> None:
        self._lock = runs_lock
        self._every_s = every_s
        self._looks: queue.SimpleQueue[tuple[Run, Watch, Look] | None] = queue.SimpleQueue()
        self.looked_s = 0.0

    # The engine thread's side.

    def saw(self, run: Run, canvas: Canvas, pixels: NDArray[Any]) -> None:
        """Note that frames (T, Y, X), ADU, have been added to a run's canvas."""
        if run.canvases is None or canvas is not run.canvases.first:
            return
        began = time.perf_counter()
        watch = run.watch
        if watch is None:
            watch = run.watch = Watch()
        try:
            self._see(run, watch, canvas, pixels)
        except Exception as error:
            self._give_up(run, watch, error)
        self.looked_s += time.perf_counter() - began

    def ends(self, run: Run) -> None:
        """Take a last look at a run of which no more frames come."""
        watch = run.watch
        if run.canvases is None or watch is None or watch.trouble or watch.judging is None:
            return
        try:
            watch.look = self._look(run, watch, watch.judging, run.canvases.first, compare=True)
        except Exception as error:
            self._give_up(run, watch, error)

    def _see(self, run: Run, watch: Watch, canvas: Canvas, pixels: NDArray[Any]) -> None:
        if watch.trouble:
            return
        if watch.judging is not None and not watch.busy and not watch.judging.part.meets(run.region):
            # Where it looked nothing grows any more: it looks elsewhere, and forgets what it knew.
            watch.judging, watch.raw = None, []
        if watch.judging is None:
            if time.monotonic() < watch.due_at:
                return
            watch.judging = self._begin(run, canvas)
            watch.due_at = time.monotonic() + self._every_s
            if watch.judging is None:
                return
        if len(watch.raw) < _RAW_FRAMES:
            rows, columns = watch.judging.part.on_camera
            watch.raw += [frame[rows, columns].copy() for frame in pixels[: _RAW_FRAMES - len(watch.raw)]]
        now = time.monotonic()
        if watch.busy or now < watch.due_at:
            return
        began = time.perf_counter()
        look = self._look(run, watch, watch.judging, canvas, compare=now >= watch.compare_at)
        watch.raw = []
        watch.due_at = now + max(self._every_s, (time.perf_counter() - began) / _LOOK_SHARE)
        watch.busy = True
        self._looks.put((run, watch, look))

    def _begin(self, run: Run, canvas: Canvas) -> Judging | None:
        """Choose what to look at closely, where there is most; None while there is nothing on a large canvas."""
        start, reconstruction = run.start, canvas.reconstruction
        (height, width), u = start.shape, reconstruction.upsampling
        side = max(1, PART_PX // u)
        row = column = 0
        if max(height, width) > side:
            level = (u & -u).bit_length() - 1
            size = 2**level
            coarse = reconstruction.view(level, 0, 0, width * u // size, height * u // size)
            if run.region is not None:
                left, top, right, bottom = (
                    edge * u // size
                    for edge in (*run.region[:2], run.region[0] + run.region[2], run.region[1] + run.region[3])
                )
                inside = np.zeros_like(coarse)
                inside[top:bottom, left:right] = coarse[top:bottom, left:right]
                coarse = inside
            if not coarse.any():
                return None
            row, column = (at * size // u for at in busiest_window(coarse, side * u // size))
        part = Part(row=row, column=column, height=min(side, height), width=min(side, width), upsampling=u)
        trained, counts = None, False
        if isinstance(reconstruction, Reconstruction):
            card = reconstruction.model.card
            trained = Trained.from_card(card.training, start.calibration.pixel_size_nm, reconstruction.binning)
            counts = card.architecture == "livenet"
        whole = (height * u, width * u) if _has_room_for(height * width * u**2) else None
        if whole is None or height * width * u**2 > GROWTH_PX:
            run.growth, run.no_growth = None, "the canvas was too large, or the memory too short, to keep how it grew"
        elif run.growth is None:
            run.growth = Growth(whole)
        return Judging(start.calibration, part, whole, trained, counts=counts)

    def _look(self, run: Run, watch: Watch, judging: Judging, canvas: Canvas, *, compare: bool) -> Look:
        reconstruction, part = canvas.reconstruction, judging.part
        (height, width), u = run.start.shape, part.upsampling
        rows, columns = (slice(0, height * u), slice(0, width * u)) if judging.is_whole else part.on_canvas
        picture = reconstruction.view(
            0, columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        )
        coarse = None
        if compare and not judging.is_whole:
            size = u // coarseness((height, width), u)
            level = (size & -size).bit_length() - 1
            coarse = reconstruction.view(level, 0, 0, width * u // 2**level, height * u // 2**level)
        several = run.canvases is not None and bool(run.canvases.names)
        return Look(
            n_frames=canvas.n_frames,
            name=canvas.name if several else "",
            # A copy whatever the reconstruction gives: the next batch changes its canvas.
            canvas=np.array(picture, np.float32),
            coarse=coarse,
            widefield=np.array(reconstruction.widefield(), np.float32) if compare else None,
            raw=np.stack(watch.raw) if watch.raw else np.zeros((0, part.height, part.width), np.uint16),
            region=run.region,
        )

    # The judge's own thread.

    def work(self) -> None:
        """Think about looks until `stop`."""
        if sys.platform == "linux":
            # Of this thread alone: where cores are short, the engine goes first.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while (job := self._looks.get()) is not None:
            run, watch, look = job
            began = time.thread_time()
            with watch.lock:
                if watch.judging is not None and not watch.closed and not watch.trouble:
                    try:
                        watch.judging.take(look)
                        if run.growth is not None:
                            run.growth.add(look.canvas, look.n_frames)
                        if watch.judging.drift_shows and watch.judging.uncorrected:
                            self._tell_once(run, watch.judging.uncorrected)
                    except Exception as error:
                        self._give_up(run, watch, error)
            took_s = time.thread_time() - began
            if look.widefield is not None:
                watch.compare_at = time.monotonic() + took_s / _COMPARE_SHARE
            watch.due_at = max(watch.due_at, time.monotonic() + took_s * (1 / _WORK_SHARE - 1))
            watch.busy = False

    def stop(self) -> None:
        """Let `work` return when it has thought about what it has."""
        self._looks.put(None)

    # The scribe's thread.

    def close(self, run: Run) -> tuple[JudgementRecord | None, NDArray[np.float32] | None]:
        """Return the judgement of a run that has ended, and its canvas without drift where that makes a difference."""
        watch = run.watch
        if watch is None or watch.judging is None:
            return None, None
        with watch.lock:
            watch.closed = True
            try:
                if watch.look is not None and not watch.trouble:
                    watch.judging.take(watch.look)
                watch.judging.finish()
                corrected = watch.judging.corrected
                # After trouble it is without the frames since then.
                shows = watch.judging.drift_shows and not watch.trouble
                return watch.judging.record(), corrected[0] if corrected is not None and shows else None
            except Exception as error:
                self._give_up(run, watch, error)
                return None, None
            finally:
                watch.look, watch.raw = None, []

    def _tell_once(self, run: Run, text: str) -> None:
        with self._lock:
            if text not in run.notices:
                run.notice(text)

    def _give_up(self, run: Run, watch: Watch, error: Exception) -> None:
        _log.error("the judge failed in run %s, which goes on without", run.start.name, exc_info=error)
        watch.trouble = one_line(f"the picture is not judged any more: {one_line(error) or type(error).__name__}")
        with self._lock:
            run.notice(watch.trouble)


def _has_room_for(n_pixels: int) -> bool:
    """Return whether a canvas may be copied whole, and be kept in slabs."""
    if n_pixels > WHOLE_PX:
        return False
    there = available_bytes(torch.device("cpu"))
    # A slab has 8 bytes for each pixel that is not empty; as much again for others.
    return there is None or there > 2 * (4 * _COPIES * n_pixels + min(SLAB_BYTES + MOST_BYTES, 64 * 4 * n_pixels))
