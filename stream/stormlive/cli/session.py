"""One live session: server, acquisition and display together, and what is said at the end."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET

from stormlive.acquire.acquisition import AcquisitionSettings
from stormlive.acquire.hook import HookReport
from stormlive.acquire.process import AcquisitionProcess, AcquisitionReport, HookSettings
from stormlive.cli.live import connected, own_server
from stormlive.cli.status import StatusLine
from stormlive.cli.terminal import note
from stormlive.output.manifest import refuse_taken_folder
from stormlive.viewer.remote import RemoteView
from stormlive.wire.client import LiveClient
from stormlive.wire.curve import load_client_keys
from stormlive.wire.messages import Calibration, Status, run_name_from
from stormlive_sim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Session:
    """What to run.

    Attributes
    ----------
    acquisition : AcquisitionSettings
        Camera, frames, exposure; its `out` is where everything goes.
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
    window : bool
        Show the live window; otherwise a status line.
    stop_when_converged : bool
        End the acquisition when the server says that more frames would hardly improve the picture.
    """

    acquisition: AcquisitionSettings
    calibration: Calibration
    model: str
    device: str
    server: str | None = None
    keys: Path | None = None
    localizations: Path | None = None
    window: bool
    stop_when_converged: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a session leaves: the account of its frames, and where the raw data lies."""

    hook: HookReport
    dataset: Path | None


def run_session(session: Session, out: Path) -> Outcome:
    """Acquire and reconstruct live.

    Raises
    ------
    InputError
        When the session cannot start, the acquisition failed, or the server did not take the run. What was
        acquired is saved all the same, and the message says where.
    """
    refuse_taken_folder(out)
    own = own_server(out, model=session.model, device=session.device, localizations=session.localizations)
    with connected(session.server, session.keys, own, session.calibration.pixel_size_nm) as client:
        hook = HookSettings(
            address=client.address, calibration=session.calibration, name=run_name_from(out.name), keys=session.keys
        )
        acquisition = AcquisitionProcess(session.acquisition, hook=hook)
        until = hook.name if session.stop_when_converged else None
        if session.window:
            view = RemoteView(client.address, keys=load_client_keys(session.keys))
            report = _show_window(acquisition, client, view, until)
        else:
            report = _follow(acquisition, client, until)
    return _judge(report, session.calibration)


def _follow(acquisition: AcquisitionProcess, client: LiveClient, until: str | None) -> AcquisitionReport:
    """Run the acquisition to its end under a live status line; or until the run of that name has converged."""
    stopping = False
    with StatusLine() as line:

        def show(_progress: object) -> None:
            nonlocal stopping
            status = client.status(0.0)
            if status is None:
                return
            line.show(status)
            if not stopping and status.name == until and status.state == "running" and converged(status):
                stopping = True
                acquisition.stop()

        report = acquisition.run(show)
        show(None)
    if stopping:
        note("the picture has converged: more frames would hardly improve it")
    elif until is not None:
        note("the picture had not converged when the frames were over; run.json has how the resolution went")
    return report


def converged(status: Status) -> bool:
    """Return whether the server says that a run has converged."""
    return status.judgement is not UNSET and bool(status.judgement.converged)


def _show_window(
    acquisition: AcquisitionProcess, client: LiveClient, view: RemoteView, until: str | None
) -> AcquisitionReport:
    """Follow the acquisition in a thread, since the window needs the main one; it stays open at the end."""
    from stormlive.viewer.window import run_window

    def follow() -> AcquisitionReport:
        report = _follow(acquisition, client, until)
        if report.hook is not None:
            note(f"{report.hook.sentence} Close the window to end.")
        return report

    # From the main thread, where the newborn process can be shielded from Ctrl-C.
    acquisition.start()
    with ThreadPoolExecutor(1, "acquisition") as pool:
        following = pool.submit(follow)
        try:
            run_window(view, f"stormlive – {client.address}", whole=view.whole)
        except KeyboardInterrupt:
            acquisition.stop()
        finally:
            view.close()
        while True:
            try:
                return following.result(0.5)
            except TimeoutError:
                if following.done():
                    raise
            except KeyboardInterrupt:
                acquisition.stop()


def _judge(report: AcquisitionReport, calibration: Calibration) -> Outcome:
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
    reported_nm = report.result.reported_pixel_size_nm
    if reported_nm is not None and not math.isclose(reported_nm, calibration.pixel_size_nm, rel_tol=0.05):
        note(
            f"Micro-Manager's calibration says {reported_nm:g} nm pixels, --pixel-size-nm says "
            f"{calibration.pixel_size_nm:g}: one of them is wrong; the picture's scale follows --pixel-size-nm"
        )
    if report.result.stopped:
        note(f"stopped early after {report.result.seen} frames")
    note(hook.sentence)
    return Outcome(hook=hook, dataset=report.result.dataset)
