"""What runs inside the acquisition's own process."""

import contextlib
import faulthandler
import io
import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from stormlive.acquire.acquisition import (
    AcquisitionError,
    AcquisitionProgress,
    AcquisitionReport,
    AcquisitionResult,
    AcquisitionSettings,
    HookSettings,
)
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.report import HookReport
from stormlive.wire.region import check_inside
from stormlive.wire.text import one_line
from stormlive_sim.errors import InputError

logger = logging.getLogger(__name__)

_TELL_S = 0.2


class _Child:
    """One acquisition and its two pipes to the parent; `reports` belongs to the main thread."""

    def __init__(
        self,
        settings: AcquisitionSettings,
        hook: HookSettings | None,
        commands: Connection,
        reports: Connection,
    ) -> None:
        self._settings = settings
        self._hook_settings = hook
        self._commands = commands
        self._reports = reports
        self._stop = threading.Event()
        self._hook: StreamHook | None = None
        self._progress = AcquisitionProgress()

    def run(self) -> bool:
        """Acquire and report; return whether Micro-Manager's threads are stuck."""
        threading.Thread(target=self._listen, name="stormlive-commands", daemon=True).start()
        from stormlive.acquire.micromanager import acquire

        hook = self._hook_settings
        result: AcquisitionResult | None = None
        failure: str | None = None
        stuck = False
        try:
            result = acquire(
                self._settings,
                make_hook=None if hook is None else self._make_hook,
                check_shape=None if hook is None else partial(check_inside, hook.region),
                on_progress=self._tell,
                stop=self._stop,
            )
        except AcquisitionError as error:
            logger.exception("the acquisition failed")
            result, failure, stuck = error.result, one_line(error, 1000), error.stuck
        except InputError as error:
            failure = one_line(error, 1000)
        except Exception as error:
            logger.exception("the acquisition failed")
            failure = one_line(f"the acquisition failed: {type(error).__name__}: {error}", 1000)
        account = self._close_hook(result, failure)
        self._send(AcquisitionReport(result=result, hook=account, failure=failure))
        return stuck

    def _listen(self) -> None:
        # The parent says "stop", or is gone: either way it is time to end in order.
        with contextlib.suppress(EOFError, OSError):
            self._commands.recv()
        self._stop.set()

    def _make_hook(self, dataset: Path | None) -> StreamHook:
        settings = self._hook_settings
        if settings is None:
            raise RuntimeError("no hook was asked for")
        self._hook = StreamHook(
            settings.address,
            calibration=settings.calibration,
            name=settings.name,
            outbox_mb=settings.outbox_mb,
            keys=settings.keys,
            region=settings.region,
            token=settings.token,
            expected=self._settings.n_frames,
            dataset=None if dataset is None else str(dataset.resolve()),
        )
        return self._hook

    def _close_hook(self, result: AcquisitionResult | None, failure: str | None) -> HookReport | None:
        if self._hook is None:
            return None
        hook = self._hook
        status = failure or ("stopped" if result is not None and result.stopped else "ok")
        closing = threading.Thread(
            target=hook.close,
            kwargs={"exit_status": one_line(status, 200)},
            name="stormlive-close",
            daemon=True,
        )
        closing.start()
        while closing.is_alive():
            self._tell(replace(self._progress, phase="finishing"))
            closing.join(_TELL_S)
        return hook.report

    def _tell(self, progress: AcquisitionProgress) -> None:
        self._progress = replace(progress, hook=None if self._hook is None else self._hook.progress)
        self._send(self._progress)

    def _send(self, message: AcquisitionProgress | AcquisitionReport) -> None:
        try:
            self._reports.send(message)
        except OSError:
            self._stop.set()  # nobody reads any more


def run_child(
    settings: AcquisitionSettings,
    hook: HookSettings | None,
    log: Path | None,
    commands: Connection,
    reports: Connection,
) -> None:
    """Entry point of the process."""
    # Ctrl-C reaches every process of the terminal; the parent turns it into an orderly stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _redirect_output(log)
    stuck = _Child(settings, hook, commands, reports).run()
    if stuck:
        # An ordinary exit would wait for Micro-Manager's threads.
        logging.shutdown()
        os._exit(1)


def _redirect_output(log: Path | None) -> None:
    """Send what pycromanager, the core and its drivers print to the log, below Python's own streams."""
    target = os.open(os.devnull if log is None else log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(target, descriptor)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    os.close(target)
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
