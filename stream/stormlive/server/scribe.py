"""The thread that writes files, so that neither frames nor viewers wait for a disk."""

import queue
from collections.abc import Callable


class Scribe:
    """Does what it is given, one after the other; bounded, since a run has one checkpoint or its end under way."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def submit(self, job: Callable[[], None]) -> None:
        """Have `job` done; never waits."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Let `work` return once everything is done."""
        self._jobs.put(None)

    def work(self) -> None:
        """Work until `stop`."""
        while (job := self._jobs.get()) is not None:
            job()
