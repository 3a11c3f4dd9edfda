"""What viewers do to themselves changes nothing for a run."""

import os
import signal
import subprocess
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import psutil
import pytest

import fake_engine as fake
from served import Closed, make_hook, movie, script, soon
from stormlive.server.loop import Server
from stormlive.wire.client import LiveClient

SCRIPT = Path(__file__).with_name("viewer_scenario.py")
SHAPE = (512, 512)  # its canvas takes 4 MiB: more than a connection swallows at once
N_FRAMES = 50


def viewer(kind: str, address: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return script(SCRIPT, kind, address)


def memory() -> int:
    return int(psutil.Process().memory_info().rss)


class Run:
    """A run that goes on beside what happens to the viewers, and must end live to its last frame."""

    def __init__(self, server: Server) -> None:
        self.frames = movie(8, shape=SHAPE)
        # Not by shared memory: this process would count its pages twice, the server's as it reads them.
        self.hook = make_hook(server.address, outbox_mb=256, mode="block", lane="tcp")
        self.sent = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        while not (self._over.is_set() and self.sent >= N_FRAMES):
            self.hook(self.frames[self.sent % 8])
            self.sent += 1
            self._over.wait(0.005)

    def __enter__(self) -> "Run":
        self._thread.start()
        soon(lambda: self.hook.progress.live > 0)
        return self

    def goes_on(self) -> None:
        live = self.hook.progress.live
        soon(lambda: self.hook.progress.live > live + 5)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.report = self.hook.close()

    def check(self, closed: Closed) -> None:
        assert self.report.live.count() == self.report.offered == self.sent, self.report.sentence
        ((run, canvas),) = closed.runs
        assert (run.exit_status, run.ledger.live) == ("ok", self.report.live)
        counts = np.bincount(np.arange(self.sent) % 8, minlength=8)
        whole = sum(count * fake.direct_canvas(self.frames[i : i + 1]) for i, count in enumerate(counts))
        np.testing.assert_allclose(canvas.canvas, whole, rtol=1e-4)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_viewer_that_is_killed_or_stops_amid_its_answers_changes_nothing(
    how: str, server: Server, closed: Closed
) -> None:
    if how == "stopped" and not hasattr(signal, "SIGSTOP"):
        pytest.skip("this system suspends no process by signal")
    with Run(server) as run, LiveClient(server.address, 20.0) as other:
        for _ in range(2):
            with viewer("reads", server.address) as process:
                for _ in range(3):
                    assert process.stdout.readline() == "answered\n"
                if how == "killed":
                    process.kill()
                    process.wait(10)
                else:
                    os.kill(process.pid, signal.SIGSTOP)
                run.goes_on()
                assert other.view("canvas") is not None
    run.check(closed)


def test_a_viewer_that_asks_and_never_reads_is_not_waited_for_and_fills_nothing(
    server: Server, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[int] = []
    view = fake.FakeReconstruction.view

    def counted(self: fake.FakeReconstruction, *rectangle: int) -> np.ndarray:
        answered.append(1)
        return view(self, *rectangle)

    monkeypatch.setattr(fake.FakeReconstruction, "view", counted)
    with Run(server) as run, LiveClient(server.address, 20.0) as other, viewer("deaf", server.address):
        soon(lambda: len(answered) > 15)  # more than the connection and the server's queue for it hold
        before = memory()
        soon(lambda: len(answered) > 55, wait_s=60)
        assert memory() - before < 80 * 2**20  # of 40 answers of 4 MiB
        run.goes_on()
        assert other.view("canvas") is not None
    run.check(closed)
