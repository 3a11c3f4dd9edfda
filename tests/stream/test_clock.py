"""Clocks that differ, or are set during a run, change nothing."""

import itertools
import time

import numpy as np
import pytest

import fake_engine as fake
from cable import Cable
from served import Closed, make_hook, movie, soon
from stormlive.acquire import connection, outbox
from stormlive.server.loop import Server


class OtherClock:
    """The time module of a machine that was started at another time."""

    def __init__(self, shift_ns: int) -> None:
        self._shift_ns = shift_ns

    def perf_counter_ns(self) -> int:
        return time.perf_counter_ns() + self._shift_ns

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


@pytest.mark.parametrize("hours", [-1, 1])
def test_latency_does_not_depend_on_the_hooks_clock(
    hours: int, server: Server, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (connection, outbox):
        monkeypatch.setattr(module, "time", OtherClock(hours * 3_600_000_000_000))
    with make_hook(server.address) as hook:
        for frame in movie(20):
            hook(frame, None)
    assert 0 < closed.runs[0][0].latency_p50_ms < 60_000


def test_a_wall_clock_that_jumps_ends_nothing(
    server: Server, closed: Closed, hurry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, jumps = movie(60), itertools.cycle((0.0, 86_400.0, -86_400.0))
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + next(jumps))
    assert abs(time.time() - time.time()) > 80_000
    cable = Cable(server.address)
    try:
        hook = make_hook(cable.address)
        for frame in frames[:30]:
            hook(frame)
        soon(lambda: hook.progress.live == 30)
        cable.stall()  # so that silence and pauses are measured too
        for frame in frames[30:]:
            hook(frame)
        soon(lambda: not hook.progress.connected)
        cable.mend()
        report = hook.close(20)
    finally:
        cable.close()
    assert report.complete, report.sentence
    ((run, canvas),) = closed.runs
    assert run.exit_status == "ok"
    assert 0 < run.duration_s < 100
    assert run.frames_per_s > 0
    np.testing.assert_array_equal(canvas.canvas, fake.direct_canvas(frames))
