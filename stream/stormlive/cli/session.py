"""A live run as a command shows it: in a window or on a status line, with what is said at the end."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import UUID

from stormlive.acquire.process import AcquisitionProcess, AcquisitionReport
from stormlive.acquire.report import HookReport
from stormlive.cli.live_run import Outcome, Session, follow, judged, opened
from stormlive.cli.status import StatusLine
from stormlive.cli.terminal import note
from stormlive.viewer.remote import RemoteView
from stormlive.wire.client import LiveClient
from stormlive.wire.curve import load_client_keys
from stormlive.wire.viewing import Status


def run_session(
    session: Session, out: Path, *, window: bool, when_written: Callable[[HookReport], None] | None = None
) -> Outcome:
    """Acquire and reconstruct live, with the live window or else a status line.

    `when_written` is called once the run's files are there, while the window, if there is one, still shows it.

    Raises
    ------
    InputError
        When the session cannot start, the acquisition failed, or the server did not take the run. What was
        acquired is saved all the same, and the message says where.
    """
    with opened(session, out) as run:

        def to_its_end() -> AcquisitionReport:
            report = _follow(run.acquisition, run.client, run.until)
            if when_written is not None and report.hook is not None and report.hook.folder is not None:
                when_written(report.hook)
            return report

        if window:
            view = RemoteView(
                run.client.address,
                keys=load_client_keys(session.keys),
                token=run.token,
                run=partial(_run_of, run.acquisition),
            )
            origin = (session.acquisition.roi or (0, 0, 0, 0))[:2]
            report = _show_window(run.acquisition, to_its_end, view, run.client.address, origin)
        else:
            report = to_its_end()
    outcome = judged(report, session.calibration)
    for remark in outcome.remarks:
        note(remark)
    return outcome


def _run_of(acquisition: AcquisitionProcess) -> UUID | None:
    """Return the run of an acquisition once it has one: a server that others use too has their runs as well."""
    hook = acquisition.progress.hook
    return None if hook is None else hook.run


def _follow(acquisition: AcquisitionProcess, client: LiveClient, until: str | None) -> AcquisitionReport:
    """Run the acquisition to its end under a live status line; or until the run of that name has converged."""
    with StatusLine() as line:

        def show(_progress: object, status: Status | None) -> None:
            if status is not None:
                line.show(status)

        report, convergence = follow(acquisition, client, until, show)
    line.tell_judgement()
    if convergence is not None:
        note(convergence)
    return report


def _show_window(
    acquisition: AcquisitionProcess,
    to_its_end: Callable[[], AcquisitionReport],
    view: RemoteView,
    address: str,
    origin: tuple[int, int],
) -> AcquisitionReport:
    """Follow the acquisition in a thread, since the window needs the main one; it stays open at the end."""
    from stormlive.viewer.window import run_window

    def follow_and_tell() -> AcquisitionReport:
        report = to_its_end()
        if report.hook is not None:
            note("The run has ended. Close the window to end.")
        return report

    # From the main thread, where the newborn process can be shielded from Ctrl-C.
    acquisition.start()
    with ThreadPoolExecutor(1, "acquisition") as pool:
        following = pool.submit(follow_and_tell)
        try:
            run_window(
                view,
                f"stormlive – {address}",
                whole=view.whole,
                steer=view.steer,
                waits_for=view.waits_for,
                leave=view.leave,
                origin=origin,
            )
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
