"""What one call of the hook takes, with the server healthy, stopped (SIGSTOP) and absent.

A loop in the place of the acquisition calls the hook at a camera's rate, each time with a frame that was written just
before; beside it, before or after in turn, it copies the same frame with numpy into touched memory, which is what the
hook cannot do without. The server is the product's with an engine that computes nothing. Where nobody takes the frames,
the hook's memory (256 MiB) and then its spool (2 GiB on disk) fill up; "kept" is the share of the frames that found a
place, the others cost no copy. "at once" is the median of the first calls, which follow each other without a pause:
between the frames of a camera, whatever else runs on the core takes the processor's caches. "hook's own" is the time of
the processor that the call takes; the rest of "hook" is other threads' turns, of the sender that the frame has woken
and of whatever else runs on the core.
"""

import argparse
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from _report import report
from _rig import CALIBRATION, NOBODY, null_server
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stormlive.acquire.hook import StreamHook

# Side of the frames and frames a second.
CAMERAS = {128: 100.0, 512: 100.0, 2048: 30.0}
STATES = ("healthy", "stopped", "absent")
WARM_UP = 30
COPIES_BYTES = 64 * 2**20
PERCENTILES = {"p50": 50, "p99": 99, "p99.9": 99.9}


@contextmanager
def hook_with(state: str) -> Iterator[StreamHook]:
    """Open a hook whose server is in that state from its first frame on."""
    if state == "absent":
        hook = StreamHook(NOBODY, calibration=CALIBRATION)
        yield hook
        hook.close(timeout_s=0)
        return
    with null_server() as server:
        hook = StreamHook(server.address, calibration=CALIBRATION)
        hook.check(30)
        try:
            if state == "stopped":
                os.kill(server.pid, signal.SIGSTOP)
            yield hook
            hook.close(timeout_s=0 if state == "stopped" else 10)
        finally:
            if state == "stopped":
                os.kill(server.pid, signal.SIGCONT)


def measure(side: int, state: str, calls: int, step: Callable[[], None]) -> list[dict[str, Any]]:
    """Return the rows of a cell; `step` is called after each frame."""
    ring = np.random.default_rng(0).integers(90, 500, (4, side, side)).astype(np.uint16)
    copies = np.zeros((max(2, COPIES_BYTES // ring[0].nbytes), side, side), np.uint16)
    camera = np.zeros((2, side, side), np.uint16)
    taken_us = {what: np.zeros(WARM_UP + calls) for what in ("hook", "hook's own", "copy")}
    period_s = 1 / CAMERAS[side]
    with hook_with(state) as hook:
        due_s = 0.0
        for number in range(WARM_UP + calls):
            if number >= WARM_UP:
                due_s = (due_s or time.perf_counter()) + period_s
                time.sleep(max(0.0, due_s - time.perf_counter()))
            image, metadata, copied = camera[number % 2], {"Axes": {"time": number}}, copies[number % len(copies)]
            np.copyto(image, ring[number % len(ring)])
            for what in ("hook", "copy") if number % 2 else ("copy", "hook"):
                own_ns, began_ns = time.thread_time_ns(), time.perf_counter_ns()
                if what == "hook":
                    hook(image, metadata)
                else:
                    np.copyto(copied, image)
                taken_us[what][number] = (time.perf_counter_ns() - began_ns) / 1000
                if what == "hook":
                    taken_us["hook's own"][number] = (time.thread_time_ns() - own_ns) / 1000
            step()
        kept = 1 - hook.progress.missing / (WARM_UP + calls)
    return [
        {
            "side": side,
            "frames/s": CAMERAS[side],
            "server": state,
            "kept": kept,
            "time of": what,
            "calls": calls,
            **{f"{point} µs": float(np.percentile(times[WARM_UP:], share)) for point, share in PERCENTILES.items()},
            "longest µs": float(times[WARM_UP:].max()),
            "at once µs": float(np.median(times[WARM_UP // 3 : WARM_UP])),
        }
        for what, times in taken_us.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--sides", type=int, nargs="+", choices=list(CAMERAS), default=list(CAMERAS))
    options = parser.parse_args()
    rows = list[dict[str, Any]]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=len(options.sides) * len(STATES) * (WARM_UP + options.calls))
        for side in options.sides:
            for state in STATES:
                bar.update(task, description=f"{side}², {state}")
                rows += measure(side, state, options.calls, lambda: bar.advance(task))
    report("offer", rows, vars(options))


if __name__ == "__main__":
    main()
