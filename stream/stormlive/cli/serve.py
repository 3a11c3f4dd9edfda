"""``stormlive serve``: the inference server, for hooks in other people's scripts."""

import signal
import threading
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from stormlive.cli import options
from stormlive.cli.status import StatusLine
from stormlive.cli.terminal import note
from stormlive.server.limits import CHECKPOINT_S
from stormlive.wire.transport import DEFAULT_ADDRESS

if TYPE_CHECKING:
    from stormlive.server.protocols import FinishedRun


def serve(
    bind: Annotated[
        str,
        typer.Option(
            "--bind",
            metavar="HOST[:PORT]",
            help="Where hooks connect; port 0 takes a free one. Anything but loopback needs --keys, and uses the next "
            "two ports too.",
        ),
    ] = DEFAULT_ADDRESS,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            metavar="DIR",
            help="The server's folder of keys (see `stormlive keys`): encrypt, and let in those it allows alone.",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Read frames that did not come live from acquisitions' datasets below this folder alone; may be given "
            "several times. By default from any without --keys, from none with.",
        ),
    ] = None,
    model: options.Model = "livenet",
    device: options.Device = "auto",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Every run gets a folder of its own in it.")] = Path(
        "stormlive-runs"
    ),
    checkpoint_every: Annotated[
        float,
        typer.Option(
            "--checkpoint-every",
            min=0,
            max=3600,
            metavar="SECONDS",
            help="How often what a run has so far is written to disk, for the next server to go on from if this one is "
            "killed. 0: never; then the picture so far is lost with the server, and frames that came before are "
            "counted as missing. Raw data is not touched by either.",
        ),
    ] = CHECKPOINT_S,
    patience: Annotated[
        float,
        typer.Option(
            "--patience",
            min=0,
            max=86_400,
            metavar="SECONDS",
            help="How long a sender that has fallen silent may take to come back. Then its run is ended with the "
            "frames that came, and what it still keeps does not get into the picture any more.",
        ),
    ] = 60,
    max_frame_mb: Annotated[
        float,
        typer.Option(
            "--max-frame-mb",
            min=0.001,
            max=4096,
            metavar="MIB",
            help="Largest frame that is taken, in MiB. Each of eight senders may have that much under way, and 64 MiB "
            "at least: it bounds the server's memory.",
        ),
    ] = 64,
    steer: Annotated[
        bool,
        typer.Option(
            "--steer",
            help="Let everyone who looks choose in the window which part of the frames is computed; otherwise only the "
            "program that runs the acquisition may.",
        ),
    ] = False,
    localizations: Annotated[
        Path | None,
        typer.Option(
            "--localizations",
            metavar="NAME.csv|NAME.hdf5",
            help="Also write what was localized, as it comes: a file of this name in each run's folder; .csv for "
            "ThunderSTORM (1-based frames, nm), .hdf5 with a .yaml beside it for Picasso.",
        ),
    ] = None,
) -> None:
    """Wait for frames, reconstruct them live, and leave each run's files in a folder.

    In the acquisition script: [bold]from stormlive import StreamHook[/bold], then
    [bold]hook = StreamHook(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=30)[/bold],
    [bold]Acquisition(..., image_process_fn=hook)[/bold] and, at the end, [bold]print(hook.close().sentence)[/bold].
    The camera's calibration comes with each run. Ctrl-C finishes open runs and writes their files.
    """
    from stormlive.server.process import ServerSettings, build_server
    from stormlive.wire.client import LiveClient

    settings = ServerSettings(
        bind=options.server_address(bind),
        model=model,
        device=device,
        out=out.absolute(),  # whoever sends may be in another folder
        localizations=localizations,
        keys=keys,
        data=None if data is None else tuple(data),
        checkpoint_s=checkpoint_every,
        grace_s=patience,
        max_frame_mb=max_frame_mb,
        open_steering=steer,
    )
    options.check_can_fill(out)

    ended: SimpleQueue[str] = SimpleQueue()

    def when_written(run: "FinishedRun", folder: str) -> None:
        table = "" if localizations is None else f", {localizations.name} among them"
        ended.put(f"{run.start.name}: {run.ledger.sentence()} Its files{table}: {folder}")
        if run.judgement is not None:
            final = run.judgement.final
            ended.put(f"{run.start.name}: judgement: {final.gauge}. {final.sentence}")

    def tell() -> None:
        while not ended.empty():
            note(ended.get())

    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    with build_server(settings, when_written) as server:
        signal.signal(signal.SIGTERM, end)
        clients = "this machine may connect" if keys is None else f"encrypted, for the keys in {keys}"
        note(
            f"listening on {server.address}, model {server.engine.model_name} on {server.engine.device}, "
            f"runs go to {settings.out}; {clients}; Ctrl-C ends"
        )
        for told in server.recovered:
            note(told)
        if not checkpoint_every:
            note("no checkpoints: if this server is killed, the pictures of its open runs are lost; raw data is not")
        with LiveClient(server.own_address, keys=server.own_keys) as client, StatusLine() as line:
            try:
                while not stop.is_set():
                    server.raise_if_failed()
                    status = client.status(0.5)
                    if status is not None:
                        line.show(status)
                    tell()
            except KeyboardInterrupt:
                pass
    tell()
    note("stopped")
