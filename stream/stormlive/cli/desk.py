"""Runs that are started and stopped from the window, one at a time, each with a server of its own."""

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from stormlive.acquire.acquisition import AcquisitionProgress
from stormlive.acquire.request import RunRequest
from stormlive.cli.live_run import LiveRun, Session, follow, judged, opened
from stormlive.cli.options import check_can_fill
from stormlive.cli.prepare import prepare
from stormlive.viewer.runs import RunState
from stormlive.wire.viewing import Status
from stormlive_models.zoo import CEL0, DEFAULT, families
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)


class Desk:
    """Runs acquisitions in processes of their own, and follows each in a thread.

    A run's server stays after its end, so that its picture can still be looked at, until the next run or `close`.

    Parameters
    ----------
    device : str
        Where the networks run.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._state = RunState()
        self._stop, self._leave = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.models = [DEFAULT, *(name for name in families() if name != DEFAULT), CEL0]

    @property
    def state(self) -> RunState:
        """How far the run is, or how the last one ended."""
        return self._state

    def start(self, request: RunRequest) -> None:
        """Begin a run; what is wrong with it, `state` tells.

        Raises
        ------
        InputError
            When one goes on.
        """
        if self._state.phase != "idle":
            raise InputError("a run goes on; stop it first")
        before = self._thread
        self._leave.set()
        self._stop, self._leave = threading.Event(), threading.Event()
        self._state = RunState(phase="starting", told="looking for the camera and loading the model …")
        self._thread = threading.Thread(
            target=self._run, args=(request, before, self._stop, self._leave), name="stormlive-run", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Have the run end early: what was acquired is saved, and the picture's files are written."""
        self._stop.set()

    def close(self) -> None:
        """Have the run end, and return when its files are written and its server has ended."""
        self._stop.set()
        self._leave.set()
        if self._thread is not None:
            self._thread.join()

    def _run(
        self, request: RunRequest, before: threading.Thread | None, stop: threading.Event, leave: threading.Event
    ) -> None:
        if before is not None:
            before.join()
        try:
            check_can_fill(request.out)
            session = prepare(request, device=self._device)
            with opened(session, request.out) as run:
                if not stop.is_set():
                    self._acquire(run, session, request.out, stop)
                    leave.wait()
                    return
            self._tell(phase="idle", told="stopped before the first frame")
        except (InputError, ConnectionError) as error:
            self._fail(str(error), request.out)
        except Exception as error:
            _log.exception("a run could not be started")
            told = f"the run could not be started: {type(error).__name__}: {error}; the terminal has more"
            self._fail(told, request.out)

    def _acquire(self, run: LiveRun, session: Session, out: Path, stop: threading.Event) -> None:
        stopping = False

        def show(progress: AcquisitionProgress, _status: Status | None) -> None:
            nonlocal stopping
            if stop.is_set() and not stopping:
                stopping = True
                run.acquisition.stop()
            self._tell(phase=progress.phase, told=_progress_told(progress, session.acquisition.n_frames, stopping))

        run.acquisition.start()
        self._tell(told="the camera starts …", address=run.client.address, token=run.token, folder=out)
        report, convergence = follow(run.acquisition, run.client, run.until, show)
        try:
            outcome = judged(report, session.calibration)
        except InputError as error:
            if run.never_began:
                raise  # there is no picture to look at: its server may go, and its folder
            self._tell(phase="idle", failed=True, told=str(error))
        else:
            remarks = [*outcome.remarks, convergence or ""]
            told = " ".join(f"{remark[0].upper()}{remark[1:].rstrip('.')}." for remark in remarks if remark)
            self._tell(phase="idle", told=f"{told} Files: {out}")

    def _fail(self, told: str, out: Path) -> None:
        """Tell of a run that has left no picture, and has no server any more."""
        self._tell(phase="idle", failed=True, told=told, address=None, folder=out if out.exists() else None)

    def _tell(self, **changes: Any) -> None:  # noqa: ANN401
        self._state = replace(self._state, **changes)


def _progress_told(progress: AcquisitionProgress, n_frames: int, stopping: bool) -> str:
    if progress.phase == "starting":
        return "the camera starts …"
    if progress.phase == "finishing":
        return "the camera has stopped; the picture catches up and its files are written …"
    return f"{progress.seen} of {n_frames} frames acquired" + ("; stopping …" if stopping else "")
