"""Acquisitions through Pycro-Manager, on Micro-Manager's core in this process.

This module and `core` are the only importers of pycromanager and mmpycorex, and only when one starts.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stormlive.acquire.acquisition import (
    AcquisitionError,
    AcquisitionProgress,
    AcquisitionResult,
    AcquisitionSettings,
)
from stormlive.acquire.core import OpenCore, open_core
from stormlive.acquire.engine_run import EngineRun, FrameClock, Hook, Tap
from stormlive.wire.text import one_line
from stormlive_sim.errors import InputError


def acquire(
    settings: AcquisitionSettings,
    *,
    make_hook: Callable[[Path | None], Hook] | None = None,
    check_shape: Callable[[tuple[int, int]], object] | None = None,
    on_progress: Callable[[AcquisitionProgress], None] | None = None,
    stop: threading.Event | None = None,
) -> AcquisitionResult:
    """Run one acquisition through Pycro-Manager in this process; one at a time.

    Micro-Manager's threads may hang for good when a device or a hook does: acquire in a process of its own
    (`AcquisitionProcess`) wherever that matters.

    Parameters
    ----------
    settings
        What to acquire.
    make_hook
        Called with the dataset's folder (None when nothing is saved) before the first frame; returns the
        hook, which gets ``(image, metadata)`` of every frame on pycromanager's processing thread. What it
        returns is ignored, what it raises ends the acquisition.
    check_shape
        Called with the shape (Y, X) that the frames will have, before anything is saved or acquired; raises an
        InputError where it does not fit what is wanted of them.
    on_progress
        Called a few times a second on the calling thread.
    stop
        Set it to end the acquisition early; the frames so far are kept.

    Raises
    ------
    InputError
        The settings do not fit the microscope, or the simulated camera cannot deliver.
    AcquisitionError
        The acquisition began and ended badly.
    """
    with open_core(settings) as opened:
        if check_shape is not None:
            check_shape((opened.core.get_image_height(), opened.core.get_image_width()))
        return _acquire(settings, opened, make_hook, on_progress, stop or threading.Event())


def _acquire(
    settings: AcquisitionSettings,
    opened: OpenCore,
    make_hook: Callable[[Path | None], Hook] | None,
    on_progress: Callable[[AcquisitionProgress], None] | None,
    stop: threading.Event,
) -> AcquisitionResult:
    from pycromanager import multi_d_acquisition_events

    saving = settings.out is not None
    clock = FrameClock()
    # With nothing to show the frames to, pycromanager saves them straight from the engine's queue.
    tap = Tap(clock, saving=saving) if make_hook is not None or not saving else None
    acquisition = _new_acquisition(settings, tap, clock)
    dataset = Path(acquisition.get_dataset().path) if saving else None
    if tap is not None and make_hook is not None:
        try:
            tap.hook = make_hook(dataset)
        except BaseException:
            acquisition.mark_finished()
            acquisition.await_completion()
            raise
    run = EngineRun(acquisition, clock=clock, backlog=opened.core.get_remaining_image_count, saving=saving)
    if opened.simulated is not None:
        opened.simulated.on_failure = run.abort
    run.run(
        multi_d_acquisition_events(num_time_points=settings.n_frames, time_interval_s=0),
        stall_timeout_s=settings.patience_s,
        stop=stop,
        on_progress=on_progress,
    )
    ended_s = time.perf_counter()
    seen, saved = clock.seen, run.saved
    result = AcquisitionResult(
        seen=seen,
        saved=saved,
        dataset=dataset,
        seconds=ended_s - clock.first_s if seen else 0.0,
        frames_per_s=(seen - 1) / (clock.last_s - clock.first_s) if seen > 1 else 0.0,
        stopped=run.stopped,
        reported_pixel_size_nm=1000 * opened.core.get_pixel_size_um() or None,
    )
    cause = _cause(run, seen, opened, settings)
    if cause is not None:
        kept = f"; {saved} frames are saved in {dataset}" if saved else "; nothing is saved"
        raise AcquisitionError(
            f"the acquisition ended after {seen} of {settings.n_frames} frames: {cause}{kept}",
            result,
            stuck=run.stuck,
        ) from (opened.simulated.failure if opened.simulated is not None else None) or run.error
    return result


def _new_acquisition(settings: AcquisitionSettings, tap: Tap | None, clock: FrameClock) -> Any:  # noqa: ANN401
    from pycromanager import Acquisition

    try:
        return Acquisition(
            directory=None if settings.out is None else str(settings.out),
            name=settings.name,
            image_process_fn=tap,
            image_saved_fn=None if tap is not None else lambda axes, dataset: clock.tick(),
            show_display=False,
        )
    except OSError as error:
        raise InputError(
            f"could not make a folder for the raw data in {settings.out}: {one_line(error)}; choose another"
        ) from None


def _cause(run: EngineRun, seen: int, opened: OpenCore, settings: AcquisitionSettings) -> str | None:
    """Return why a run did not come to its end as asked, the first cause first; None if it did."""
    if opened.simulated is not None and opened.simulated.failure is not None:
        failure = opened.simulated.failure
        kind = "" if isinstance(failure, InputError) else f"{type(failure).__name__}: "
        return f"the simulated camera failed: {kind}{one_line(failure)}"
    if run.error is not None:
        if "buffer overflow" in str(run.error):
            return (
                "Micro-Manager's sequence buffer overflowed, since frames came faster than they were "
                "handled; use a longer exposure, a smaller region, a faster disk or a larger buffer"
            )
        return one_line(run.error) or type(run.error).__name__
    if run.stalled:
        return f"no frame came for {settings.patience_s:.0f} s; check the camera's trigger and connection" + (
            ", and restart: Micro-Manager's threads do not end" if run.stuck else ""
        )
    if run.stuck:
        return "Micro-Manager's threads do not end"
    if seen < settings.n_frames and not run.stopped:
        return "the camera stopped early; look into its settings"
    return None
