"""``stormlive watch``: the live picture of a recording that any other program is writing."""

import contextlib
import datetime
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stormlive.cli import options
from stormlive.cli.status import StatusLine
from stormlive.cli.terminal import note
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.acquire.stream import FrameStream
    from stormlive.viewer.remote import RemoteView
    from stormlive.wire.client import LiveClient
    from stormlive_sim.growing import FollowedRecording

_ENDS = {
    "complete": "the recording is complete",
    "idle": "nothing was written any more",
    "stopped": "stopped early",
}


def watch(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="An NDTiff dataset folder or a TIFF file; it need not exist yet."),
    ],
    idle: Annotated[
        float,
        typer.Option(
            "--idle",
            min=0.1,
            max=86_400,
            metavar="SECONDS",
            help="The recording has ended when nothing was written for so long; longer than its longest pause.",
        ),
    ] = 10.0,
    headless: options.Headless = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder for picture and record; by default a new one here, named after date and time.",
        ),
    ] = None,
    server: options.Server = None,
    keys: options.ClientKeysFolder = None,
    localizations: options.Localizations = None,
    model: options.Model = "livenet",
    device: options.Device = "auto",
    pixel_size_nm: options.NeededPixelSize = options.DEFAULT_PIXEL_SIZE_NM,
    baseline_adu: options.NeededBaseline = options.DEFAULT_BASELINE_ADU,
    photons_per_adu: options.NeededPhotonsPerAdu = options.DEFAULT_PHOTONS_PER_ADU,
    exposure_ms: options.NeededExposure = options.DEFAULT_EXPOSURE_MS,
) -> None:
    """Watch a recording grow that another program is writing: its files are read, nothing else is touched.

    For every program that has no hook: Micro-Manager's own window, a vendor's. Frames are shown as soon as they are
    whole on disk. It ends when an NDTiff dataset is complete, or nothing was written for --idle seconds.
    """
    from stormlive.acquire.hook import StreamHook
    from stormlive.acquire.stream import FrameStream
    from stormlive.cli.live import connected, own_server, told_tables
    from stormlive.viewer.screen import has_display
    from stormlive.wire.calibration import Calibration
    from stormlive.wire.curve import load_client_keys
    from stormlive.wire.run_name import run_name_from
    from stormlive_sim.growing import FollowedRecording

    options.require_calibration(context)
    calibration = Calibration(
        pixel_size_nm=pixel_size_nm,
        baseline_adu=baseline_adu,
        photons_per_adu=photons_per_adu,
        exposure_ms=exposure_ms,
    )
    address = options.check_server(server, keys, out=out, localizations=localizations)
    folder = out or Path(f"stormlive-watch-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    table = options.own_table(localizations, folder)
    own = own_server(folder, model=model, device=device, localizations=table)
    with connected(address, keys, own, pixel_size_nm) as client:
        hook = StreamHook(
            client.address,
            calibration=calibration,
            name=run_name_from(path.name),
            mode="block",
            dataset=str(path.absolute()),
            keys=keys,
        )
        view = None
        if not headless and has_display():
            from stormlive.viewer.remote import RemoteView

            # A server that others use too has their runs as well.
            view = RemoteView(client.address, keys=load_client_keys(keys), run=lambda: hook.run)
        stop = threading.Event()
        live = FrameStream(hook, stop=stop)
        followed = FollowedRecording(path, idle_s=idle, stop=stop)
        note(f"watching {path}; Ctrl-C ends")
        lost = ""
        try:
            _follow(followed, live, client, view, stop)
        except InputError as error:
            # What came before it is in the files that the run leaves all the same.
            shown = f" ({live.report.sentence})" if live.report is not None and live.report.offered else ""
            raise InputError(f"{error}{shown}") from error
        except ConnectionError as error:
            lost = str(error)
    report = live.report
    if report is not None and not report.offered and stop.is_set() and not lost and report.failed is None:
        note("stopped before a frame had come")
        return
    if lost or report is None or report.failed is not None or report.folder is None:
        reason = (report and report.failed) or lost or "the server was lost, and with it the live picture"
        shown = f" ({report.sentence})" if report is not None and report.offered else ""
        hint = f"the recording is untouched: stormlive reconstruct {path} -o picture.ome.tif"
        raise InputError(f"{reason}{shown}; {hint}")
    note(f"{_ENDS[followed.ended or 'stopped']}: {report.sentence}")
    if followed.left_out:
        note(
            f"frames at the end of {path} that are not in the picture: {followed.left_out}; they are nothing but "
            "zeros, or were not written to their end"
        )
    note(f"picture and record: {report.folder}{told_tables(localizations)}")


def _follow(
    followed: "FollowedRecording",
    live: "FrameStream",
    client: "LiveClient",
    view: "RemoteView | None",
    stop: threading.Event,
) -> None:
    """Send frames in a thread until the recording ends; the main thread shows the window or a status line."""

    def send() -> None:
        with live:
            for axes, frame in followed:
                live.send(frame, axes)

    with ThreadPoolExecutor(1, "watch") as pool, StatusLine() as line:
        sending = pool.submit(send)
        while True:
            try:
                if view is not None:
                    _show_window(view, client.address)
                    view = None
                with contextlib.suppress(TimeoutError):
                    sending.result(0.2)
                if (status := client.status(0.0, live.hook.run)) is not None:
                    line.show(status)
                if sending.done():
                    line.tell_judgement()
                    return sending.result()
            except KeyboardInterrupt:
                stop.set()
            except BaseException:
                stop.set()
                raise


def _show_window(view: "RemoteView", address: str) -> None:
    from stormlive.viewer.window import run_window

    try:
        run_window(view, f"stormlive – {address}", whole=view.whole, waits_for=view.waits_for, leave=view.leave)
    finally:
        view.close()
