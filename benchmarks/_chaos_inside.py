"""Faults inside a process, where nothing outside can cause them: a slow or full disk, a clock that is set."""

import errno
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _chaos_plan import Plan

_FULL_FOR_S = (0.5, 2.0)


def disturb_server(plan: Plan, full_disk: Path) -> None:
    """Make this server's disk slow or full; `full_disk` is there for as long as files cannot be written."""
    from stormlive.output import ome_tiff
    from stormlive.server import checkpoint

    began = time.monotonic()

    def full_for_a_while() -> None:
        if _FULL_FOR_S[0] < time.monotonic() - began < _FULL_FOR_S[1]:
            raise OSError(errno.ENOSPC, "No space left on device")

    def full_at_the_end() -> None:
        if full_disk.exists():
            raise OSError(errno.ENOSPC, "No space left on device")

    _before(checkpoint, "save_file", lambda: time.sleep(plan.slow_disk_s))
    _before(ome_tiff, "write_image", lambda: time.sleep(plan.slow_disk_s))
    if plan.full_disk == "checkpoints":
        _before(checkpoint, "save_file", full_for_a_while)
    if plan.full_disk == "files":
        _before(ome_tiff, "write_image", full_at_the_end)
    _step_clock(plan)


def disturb_sender(plan: Plan) -> None:
    """Make this sender's disk slow or full."""
    from stormlive.acquire.spool import Spool

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    # A frame is a thousandth of a checkpoint.
    _before(Spool, "put", lambda: time.sleep(plan.slow_disk_s / 50))
    if plan.full_disk == "spool":
        import tempfile

        _before(tempfile, "TemporaryFile", full)
    _step_clock(plan)


def _before(owner: object, name: str, first: Callable[[], None]) -> None:
    """Have `first` called before every call of a function."""
    whole = getattr(owner, name)

    def both(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        first()
        return whole(*args, **kwargs)

    setattr(owner, name, both)


def _step_clock(plan: Plan) -> None:
    """Set what this process takes for the time of day, soon: the machine's own clock is not ours to set."""
    if not plan.clock_step_s:
        return

    def step() -> None:
        import datetime

        now = time.time

        class SetClock(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> "datetime.datetime":  # type: ignore[override]
                return datetime.datetime.fromtimestamp(time.time(), tz)

        time.time = lambda: now() + plan.clock_step_s
        run = sys.modules.get("stormlive.server.run")
        if run is not None:
            run.datetime = SetClock  # type: ignore[attr-defined]

    timer = threading.Timer(plan.seconds / 2, step)
    timer.daemon = True
    timer.start()
