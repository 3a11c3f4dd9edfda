"""An acquisition in a process of its own, which may hang, crash or chatter without harm to this one."""

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from stormlive.acquire.acquisition import (
    AcquisitionProgress,
    AcquisitionReport,
    AcquisitionSettings,
    HookSettings,
)
from stormlive.acquire.acquisition_child import run_child
from stormlive.wire.text import one_line
from stormlive_sim.errors import InputError

__all__ = ["AcquisitionProcess", "AcquisitionReport", "HookSettings"]

LOG_NAME = "acquisition.log"
# How long each phase may show no change at all before the process is taken for dead. Devices may take minutes
# to load, and the server to write its files; an acquisition without frames ends itself, earlier than this.
_PATIENCE_S = {"starting": 180.0, "acquiring": 60.0, "finishing": 240.0}
_EXIT_PATIENCE_S = 10.0


class AcquisitionProcess:
    """Runs `acquire` in a child process and tells how far it is.

    The child ignores Ctrl-C and dies with this process; `run` turns Ctrl-C into an orderly end. It starts by
    ``spawn``, so a script needs ``if __name__ == "__main__":``.

    Parameters
    ----------
    settings
        What to acquire.
    hook
        The live picture to feed, or None.
    log
        File for what Micro-Manager and Pycro-Manager print; by default ``acquisition.log`` in the settings'
        `out`, and nowhere when nothing is saved.

    Attributes
    ----------
    progress : AcquisitionProgress
        The last that was heard.
    report : AcquisitionReport or None
        Set at the end.
    log : Path or None
        The log file.
    """

    def __init__(
        self, settings: AcquisitionSettings, *, hook: HookSettings | None = None, log: Path | None = None
    ) -> None:
        self._settings = settings
        self.log = settings.out / LOG_NAME if log is None and settings.out is not None else log
        self.progress = AcquisitionProgress()
        self.report: AcquisitionReport | None = None
        context = multiprocessing.get_context("spawn")
        child_commands, self._commands = context.Pipe(duplex=False)
        self._reports, child_reports = context.Pipe(duplex=False)
        self._child_ends: tuple[Connection, ...] = (child_commands, child_reports)
        self._process = context.Process(
            target=run_child,
            args=(settings, hook, self.log, child_commands, child_reports),
            name="stormlive-acquisition",
            daemon=True,
        )
        self._moved_s = 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int | None:
        """Process id; None before the start."""
        return self._process.pid

    def start(self) -> None:
        """Start the process, if it is not started; its devices load while this returns.

        Start it from the main thread where Ctrl-C may come: only there can it be kept from the newborn child.
        """
        if self._process.pid is not None:
            return
        if self.log is not None:
            try:
                self.log.parent.mkdir(parents=True, exist_ok=True)
                self.log.touch()
            except OSError as error:
                raise InputError(
                    f"could not write to {self.log.parent}: {error.strerror}; choose another folder"
                ) from None
        with _interrupts_ignored():
            self._process.start()
        # Only with these closed does the end of the child end the pipes.
        for connection in self._child_ends:
            connection.close()
        self._moved_s = time.monotonic()

    def run(self, on_progress: Callable[[AcquisitionProgress], None] | None = None) -> AcquisitionReport:
        """Start, follow to the end, and return the report; the first Ctrl-C stops, the second kills."""
        stopping = False
        with self:
            while True:
                try:
                    report = self.wait(0.2)
                    if report is not None:
                        return report
                    if on_progress is not None:
                        on_progress(self.progress)
                except KeyboardInterrupt:
                    if stopping:
                        raise
                    stopping = True
                    self.stop()

    def stop(self) -> None:
        """Ask for an early end: the frames so far are saved and the live picture gets its end."""
        with contextlib.suppress(OSError):
            self._commands.send("stop")

    def kill(self) -> None:
        """End the process at once, if it has not ended."""
        if self._process.pid is not None and self._process.is_alive():
            self._process.kill()
            self._process.join(_EXIT_PATIENCE_S)
        if self.report is None:
            self.report = AcquisitionReport(result=None, hook=None, failure="the acquisition process was killed")
        self._commands.close()
        self._reports.close()

    def wait(self, timeout_s: float) -> AcquisitionReport | None:
        """Take in what the process says for up to `timeout_s`; return the report once it has ended."""
        deadline = time.monotonic() + timeout_s
        while self.report is None:
            now = time.monotonic()
            if now - self._moved_s > self._patience_s():
                self._give_up()
            elif self._reports.poll(max(0.0, min(deadline - now, 0.1))):
                self._take_message()
            elif now >= deadline:
                return None
        return self.report

    def _take_message(self) -> None:
        try:
            message = self._reports.recv()
        except (EOFError, OSError):
            self._process.join(_EXIT_PATIENCE_S)
            self.report = self._obituary(f"ended unexpectedly ({_exit_reason(self._process.exitcode)})")
            return
        if isinstance(message, AcquisitionReport):
            self.report = message
            # A driver's thread may keep it from leaving; all that matters has arrived.
            self._process.join(_EXIT_PATIENCE_S)
            if self._process.is_alive():
                self._process.kill()
                self._process.join(_EXIT_PATIENCE_S)
        elif message != self.progress:
            self.progress = message
            self._moved_s = time.monotonic()

    def _patience_s(self) -> float:
        patience = _PATIENCE_S[self.progress.phase]
        if self.progress.phase == "acquiring":
            patience += self._settings.patience_s
        return patience

    def _give_up(self) -> None:
        waited = time.monotonic() - self._moved_s
        self._process.kill()
        self._process.join(_EXIT_PATIENCE_S)
        self.report = self._obituary(f"hung for {waited:.0f} s while {self.progress.phase} and was killed")

    def _obituary(self, what: str) -> AcquisitionReport:
        saved = f"; about {self.progress.saved} frames are saved" if self.progress.saved else ""
        log = "" if self.log is None else f"; see {self.log}"
        return AcquisitionReport(
            result=None, hook=None, failure=one_line(f"the acquisition process {what}{saved}{log}", 1000)
        )


def _exit_reason(code: int | None) -> str:
    if code is None:
        return "it does not answer"
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let a new process be born deaf to Ctrl-C: it would die of it while it still imports."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
