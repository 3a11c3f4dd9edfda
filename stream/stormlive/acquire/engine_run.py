"""One pycromanager acquisition from its first event to its end, under a watch.

pycromanager tends to hang where it should fail: when its saving thread dies, the other threads wait on full
queues; when it is aborted early, its event thread waits for an event that was thrown away.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from stormlive.acquire.acquisition import AcquisitionProgress

Hook = Callable[[Any, Any], Any]

_LOOK_S = 0.05
_TELL_S = 0.2
_ABORT_PATIENCE_S = 10.0


class FrameClock:
    """Counts frames and notes when the first and the last came, on `time.perf_counter`."""

    def __init__(self) -> None:
        self.seen = 0
        self.first_s = self.last_s = 0.0

    def tick(self) -> None:
        """Count a frame."""
        self.last_s = time.perf_counter()
        if self.seen == 0:
            self.first_s = self.last_s
        self.seen += 1


class Tap:
    """The ``image_process_fn``: counts frames, shows them to the hook, lets through what is to be saved."""

    def __init__(self, clock: FrameClock, *, saving: bool) -> None:
        self.hook: Hook | None = None
        self._clock = clock
        self._saving = saving

    def __call__(self, image: Any, metadata: Any) -> tuple[Any, Any] | None:  # noqa: ANN401
        """Return the pair to have it saved, None to be done with it."""
        if self.hook is not None:
            self.hook(image, metadata)
        self._clock.tick()
        return (image, metadata) if self._saving else None


class EngineRun:
    """Follows an acquisition to its end.

    Parameters
    ----------
    acquisition
        The ``pycromanager.Acquisition``.
    clock
        Counts its frames.
    backlog
        Counts the frames that wait in the core.
    saving
        Whether it saves to disk.

    Attributes
    ----------
    error : BaseException or None
        What pycromanager ended with.
    stalled, stuck, stopped : bool
        No frame came for too long; its threads do not end even after an abort; it was ended on request.
    """

    def __init__(
        self,
        acquisition: Any,  # noqa: ANN401
        *,
        clock: FrameClock,
        backlog: Callable[[], int],
        saving: bool,
    ) -> None:
        self._acquisition = acquisition
        self._engine_side = acquisition._acq
        self._dataset = acquisition.get_dataset()
        self._clock = clock
        self._backlog = backlog
        self._saving = saving
        self._waiter = threading.Thread(target=self._await, name="stormlive-acquisition", daemon=True)
        self.error: BaseException | None = None
        self.stalled = self.stuck = self.stopped = False

    @property
    def saved(self) -> int:
        """Frames in the dataset."""
        return len(self._dataset.index) if self._saving else 0

    def abort(self) -> None:
        """End the acquisition after the frames that are already on their way; from any thread."""
        # It forgets its own engine when it ends, which may be now.
        with contextlib.suppress(AttributeError):
            self._acquisition.abort()
        # The abort may have thrown away the event that ends the event thread.
        self._acquisition.mark_finished()

    def run(
        self,
        events: list[dict[str, Any]],
        *,
        stall_timeout_s: float,
        stop: threading.Event,
        on_progress: Callable[[AcquisitionProgress], None] | None,
    ) -> None:
        """Acquire `events`; return when all is saved, or given up."""
        self._acquisition.acquire(events)
        self._acquisition.mark_finished()
        self._waiter.start()
        moved_s = told_s = time.monotonic()
        # Before the first frame the engine merges the events one by one.
        patience_s = stall_timeout_s + 0.001 * len(events)
        given_up_s: float | None = None
        noted = 0
        while self._waiter.is_alive():
            self._waiter.join(_LOOK_S)
            now = time.monotonic()
            if self._clock.seen != noted:
                noted, moved_s, patience_s = self._clock.seen, now, stall_timeout_s
            if now - told_s >= _TELL_S and on_progress is not None:
                told_s = now
                on_progress(self._progress())
            if given_up_s is None and (stop.is_set() or now - moved_s > patience_s):
                self.stopped, self.stalled = stop.is_set(), not stop.is_set()
                given_up_s = now
                self.abort()
            if self._saving and self._dataset.is_finished():
                self._drain()
            if given_up_s is not None and now - max(given_up_s, moved_s) > _ABORT_PATIENCE_S:
                self.stuck = True
                return
        if on_progress is not None:
            on_progress(self._progress())

    def _progress(self) -> AcquisitionProgress:
        return AcquisitionProgress(phase="acquiring", seen=self._clock.seen, saved=self.saved, backlog=self._backlog())

    def _await(self) -> None:
        try:
            self._acquisition.await_completion()
        except BaseException as error:
            self.error = error

    def _drain(self) -> None:
        """Empty the queue that nobody reads any more once the saving thread has ended, well or badly."""
        queues = list(self._engine_side.processor_output_queues_.values()) or [self._engine_side.first_dequeue_]
        with contextlib.suppress(queue.Empty):
            while True:
                queues[-1].get_nowait()
