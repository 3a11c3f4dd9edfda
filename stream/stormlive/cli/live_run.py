"""One live run, for the terminal and for the window: server, acquisition, how it is followed and what became of it."""

import contextlib
import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET

from stormlive.acquire.acquisition import AcquisitionProgress, AcquisitionSettings
from stormlive.acquire.process import LOG_NAME, AcquisitionProcess, AcquisitionReport, HookSettings
from stormlive.acquire.report import HookReport
from stormlive.cli.live import connected, own_server
from stormlive.output.manifest import refuse_taken_folder
from stormlive.wire.calibration import Calibration
from stormlive.wire.client import LiveClient
from stormlive.wire.fields import Region
from stormlive.wire.run_name import run_name_from
from stormlive.wire.text import counted
from stormlive.wire.viewing import Status
from stormlive_sim.errors import InputError

_CONVERGED = "the picture has converged: more frames would hardly improve it"
_NOT_CONVERGED = "the picture had not converged when the frames were over; run.json has how the resolution went"


@dataclass(frozen=True, kw_only=True)
class Session:
    """What to run.

    Attributes
    ----------
    acquisition : AcquisitionSettings
        Camera, frames, exposure; its `out` is where the raw data goes.
    calibration : Calibration
        The camera's.
    model, device : str
        For a server of this session's own.
    server : str or None
        Address of a running server to use instead.
    keys : Path or None
        This client's folder of keys, for that server.
    localizations : Path or None
        The table that a server of this session's own writes.
    stop_when_converged : bool
        End the acquisition when the server says that more frames would hardly improve the picture.
    region : tuple of int or None
        The part of the frames that is computed to begin with, as `StreamHook` has it.
    """

    acquisition: AcquisitionSettings
    calibration: Calibration
    model: str
    device: str
    server: str | None = None
    keys: Path | None = None
    localizations: Path | None = None
    stop_when_converged: bool = False
    region: Region | None = None


@dataclass(frozen=True, kw_only=True)
class LiveRun:
    """A server that is ready, and an acquisition for it.

    Attributes
    ----------
    client : LiveClient
        Of the server, for one thread.
    acquisition : AcquisitionProcess
        Not started yet.
    until : str or None
        The name of the run, where it is to end when it has converged.
    token : bytes
        With which a window may choose what of the run's frames is computed.
    """

    client: LiveClient
    acquisition: AcquisitionProcess
    until: str | None
    token: bytes

    @property
    def never_began(self) -> bool:
        """Whether the acquisition has ended without a frame, and without a picture on the server."""
        ended, begun = self.acquisition.report, self.acquisition.progress.hook
        return ended is not None and ended.result is None and ended.hook is None and begun is None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a session leaves: the account of its frames, where the raw data lies, and what is to be said of it."""

    hook: HookReport
    dataset: Path | None
    remarks: tuple[str, ...]


@contextlib.contextmanager
def opened(session: Session, out: Path) -> Iterator[LiveRun]:
    """Have a server for a session, whose files go to `out`; its own ends with the context.

    Raises
    ------
    InputError
        When the session cannot start.
    ConnectionError
        When no server answers.
    """
    refuse_taken_folder(out)
    was_there = out.exists()
    own = own_server(out, model=session.model, device=session.device, localizations=session.localizations)
    run: LiveRun | None = None
    try:
        with connected(session.server, session.keys, own, session.calibration.pixel_size_nm) as client:
            hook = HookSettings(
                address=client.address,
                calibration=session.calibration,
                name=run_name_from(out.name),
                keys=session.keys,
                region=session.region,
                token=secrets.token_bytes(),
            )
            acquisition = AcquisitionProcess(session.acquisition, hook=hook, log=out / LOG_NAME)
            until = hook.name if session.stop_when_converged else None
            run = LiveRun(client=client, acquisition=acquisition, until=until, token=hook.token or b"")
            yield run
    finally:
        if run is not None and run.never_began and not was_there:
            _remove_unused(out)


def follow(
    acquisition: AcquisitionProcess,
    client: LiveClient,
    until: str | None,
    show: Callable[[AcquisitionProgress, Status | None], None],
) -> tuple[AcquisitionReport, str | None]:
    """Run an acquisition to its end, or until the run of that name has converged.

    `show` is called a few times a second, with what the server says where that is new. Returns what is to be said of
    the convergence too, where it mattered.
    """
    stopping = False

    def status_now(progress: AcquisitionProgress) -> Status | None:
        # A server that is shared tells of others' runs too, and of ours not before there is a hook.
        run = None if progress.hook is None else progress.hook.run
        status = client.status(0.0, run)
        return status if status is not None and status.run in (run, None) else None

    def look(progress: AcquisitionProgress) -> None:
        nonlocal stopping
        status = status_now(progress)
        show(progress, status)
        if status is None or stopping or status.name != until or status.state != "running":
            return
        if converged(status):
            stopping = True
            acquisition.stop()

    report = acquisition.run(look)
    show(acquisition.progress, status_now(acquisition.progress))
    if until is None:
        return report, None
    return report, _CONVERGED if stopping else _NOT_CONVERGED


def converged(status: Status) -> bool:
    """Return whether the server says that a run has converged."""
    return status.judgement is not UNSET and bool(status.judgement.converged)


def judged(report: AcquisitionReport, calibration: Calibration) -> Outcome:
    """Return what an acquisition that has ended leaves.

    Raises
    ------
    InputError
        When it failed, or the server did not take the run. What was acquired is saved all the same, and the message
        says where.
    """
    if report.failure is not None:
        raise InputError(report.failure)
    if report.hook is None or report.result is None:
        raise InputError("the acquisition gave no account of its frames; see acquisition.log in the output folder")
    hook = report.hook
    if hook.failed is not None or hook.folder is None:
        saved = report.result.dataset
        hint = f"; the raw data is safe: stormlive reconstruct {saved} -o picture.ome.tif" if saved else ""
        reason = hook.failed or "the server was lost, and with it the live picture"
        raise InputError(f"{reason} ({hook.sentence}){hint}")
    remarks = []
    reported_nm = report.result.reported_pixel_size_nm
    if reported_nm is not None and not math.isclose(reported_nm, calibration.pixel_size_nm, rel_tol=0.05):
        remarks.append(
            f"Micro-Manager's calibration says {reported_nm:g} nm pixels, --pixel-size-nm says "
            f"{calibration.pixel_size_nm:g}: one of them is wrong; the picture's scale follows --pixel-size-nm"
        )
    if report.result.stopped:
        remarks.append(f"stopped early after {counted(report.result.seen, 'frame')}")
    return Outcome(hook=hook, dataset=report.result.dataset, remarks=(*remarks, hook.sentence))


def _remove_unused(folder: Path) -> None:
    """Remove the folder of an acquisition that never began, if there is nothing in it to read."""
    log = folder / LOG_NAME
    with contextlib.suppress(OSError):
        if list(folder.iterdir()) == [log] and log.stat().st_size == 0:
            log.unlink()
            folder.rmdir()
