"""``stormlive preflight``: will this machine keep up? Measured, not guessed."""

import contextlib
import inspect
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from stormlive.cli import options
from stormlive.cli.advice import Asked, Way, advise, keeps_up, per_second
from stormlive.cli.terminal import answers, console

if TYPE_CHECKING:
    from stormlive.wire.calibration import Calibration

# A smaller field shows hardly anything of a cell.
_LEAST_SIDE = 64


def preflight(
    roi: Annotated[
        str, typer.Option("--roi", metavar="WIDTHxHEIGHT", help="The camera's region, in its (binned) pixels.")
    ],
    fps: Annotated[
        float, typer.Option("--fps", min=0.001, max=1_000_000, metavar="RATE", help="Frames per second of the camera.")
    ],
    minutes: Annotated[
        float,
        typer.Option(
            "--minutes", min=0.01, max=100_000, metavar="MINUTES", help="How long the acquisition is to last."
        ),
    ] = 10.0,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, max=600, metavar="SECONDS", help="How long each measurement lasts.")
    ] = 2.0,
    server: options.Server = None,
    keys: options.ClientKeysFolder = None,
    model: options.Model = "livenet",
    device: options.Device = "auto",
    pixel_size_nm: options.PixelSize = options.DEFAULT_PIXEL_SIZE_NM,
) -> None:
    """Measure whether this machine keeps up with a camera, and say what to do where it does not.

    Sends frames of that size through the real link into the real server, once without and once with the network.
    Where that is too slow it measures smaller regions, binned pixels and the other models too. With --server it
    measures a running server with its model, through the network; each measurement leaves a small run among its own.
    """
    from stormlive.cli.link import link_server
    from stormlive.wire.calibration import Calibration
    from stormlive.wire.region import LEAST_PX

    shape = options.image_size(roi, LEAST_PX)
    given = options.check_server(server, keys)
    asked = Asked(shape=shape, fps=fps, seconds=60 * minutes)
    calibration = Calibration(
        pixel_size_nm=pixel_size_nm,
        baseline_adu=options.DEFAULT_BASELINE_ADU,
        photons_per_adu=options.DEFAULT_PHOTONS_PER_ADU,
        exposure_ms=1000 / fps,
    )
    rows: list[tuple[str, float]] = []
    link = None
    with contextlib.ExitStack() as stack, console.status("") as status:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stormlive-preflight-")))
        if given is None:
            status.update("measuring the link …")
            with link_server() as address:
                link = _Bench(address, calibration, seconds).rate(shape)
            rows.append(("the link alone", link))
        status.update(f"measuring {given or model} at {roi} …")
        with _server(model, device, folder) if given is None else _remote(given, keys) as (address, where):
            bench = _Bench(address, calibration, seconds, keys)
            engine = bench.rate(shape)
            rows.append((where, engine))
            ways: list[Way] = []
            if not keeps_up(engine, fps):
                status.update("measuring smaller regions …")
                ways += _smaller(bench, asked)
                ways += _binned(bench, asked)
        if given is None and not keeps_up(engine, fps):
            for other in _other_models(model, pixel_size_nm):
                status.update(f"measuring {other} …")
                with _server(other, device, folder) as (address, _):
                    rate = _Bench(address, calibration, seconds).rate(shape)
                ways.append(Way(what=f"--model {other}", rate=rate))
        free_disk_bytes = shutil.disk_usage(tempfile.gettempdir()).free
    table = Table("measured", "frames/s", f"of {fps:g}", title=f"{roi} pixels, 16 bit")
    for name, rate in rows + [(way.what, way.rate) for way in ways]:
        table.add_row(name, per_second(rate), f"{rate / fps:.0%}")
    for column in table.columns[1:]:
        column.justify = "right"
    answers.print(table)
    outbox_mb, spool_mb = _hook_defaults()
    sentences = advise(
        asked,
        link=link,
        engine=engine,
        ways=ways,
        outbox_bytes=outbox_mb * 2**20,
        spool_bytes=spool_mb * 2**20,
        free_disk_bytes=free_disk_bytes,
    )
    for sentence in sentences:
        answers.print(sentence, soft_wrap=True, markup=False)


@dataclass(frozen=True)
class _Bench:
    """A server, and how to measure it."""

    address: str
    calibration: "Calibration"
    seconds: float
    keys: Path | None = None

    def rate(self, shape: tuple[int, int], calibration: "Calibration | None" = None) -> float:
        from stormlive.acquire.rates import measure_rate

        return measure_rate(self.address, shape, calibration or self.calibration, self.seconds, keys=self.keys)


@contextlib.contextmanager
def _server(model: str, device: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Run the product's own server; yield its address, and what computes where."""
    from stormlive.server.process import ServerProcess, ServerSettings
    from stormlive.wire.client import LiveClient

    with ServerProcess(ServerSettings(bind="tcp://127.0.0.1:0", model=model, device=device, out=folder)) as server:
        with LiveClient(server.address) as client:
            status = client.status(5.0)
        yield server.address, f"{model} on {'?' if status is None else status.device}"


@contextlib.contextmanager
def _remote(address: str, keys: Path | None) -> Iterator[tuple[str, str]]:
    """Look at a running server; yield its address, and what computes where."""
    from stormlive.wire.client import LiveClient
    from stormlive.wire.curve import load_client_keys

    with LiveClient(address, keys=load_client_keys(keys)) as client:
        status = client.status(5.0)
        where = "?" if status is None else status.device
        yield client.address, f"{client.welcome.model} on {where} at {address.removeprefix('tcp://')}"


def _smaller(bench: _Bench, asked: Asked) -> list[Way]:
    """Halve the region until it keeps up."""
    ways: list[Way] = []
    height, width = asked.shape
    while min(height, width) >= 2 * _LEAST_SIDE and not (ways and keeps_up(ways[-1].rate, asked.fps)):
        height, width = height // 2, width // 2
        rate = bench.rate((height, width))
        ways.append(Way(what=f"a region of {width}x{height}", rate=rate))
    return ways


def _binned(bench: _Bench, asked: Asked) -> list[Way]:
    """Try the camera's 2x2 binning, where the model takes pixels of twice the size."""
    from stormlive.wire.client import LiveClient
    from stormlive.wire.curve import load_client_keys

    with LiveClient(bench.address, keys=load_client_keys(bench.keys)) as client:
        takes_nm = client.welcome.model_takes_nm
    binned_nm = 2 * bench.calibration.pixel_size_nm
    if not any(low <= binned_nm <= high for low, high in takes_nm):
        return []
    shape = (asked.shape[0] // 2, asked.shape[1] // 2)
    rate = bench.rate(shape, msgspec.structs.replace(bench.calibration, pixel_size_nm=binned_nm))
    return [Way(what=f"2x2 binning on the camera and --pixel-size-nm {binned_nm:g}", rate=rate)]


def _other_models(model: str, pixel_size_nm: float) -> list[str]:
    """Return the shipped models of other families that take this camera; one that looks at neighbours is not faster."""
    from stormlive_models.checkpoint import read_card
    from stormlive_models.zoo import camera_pixels_nm, families, family, shipped

    names = [name for name in families() if name not in family(model) and not read_card(shipped()[name]).context]
    cards = {name: camera_pixels_nm(read_card(shipped()[member]) for member in family(name)) for name in names}
    return [name for name, spans in cards.items() if any(low <= pixel_size_nm <= high for low, high in spans)]


def _hook_defaults() -> tuple[int, int]:
    """Return the MiB of memory and of disk that a `StreamHook` takes for frames that wait."""
    from stormlive.acquire.hook import StreamHook

    parameters = inspect.signature(StreamHook).parameters
    return int(parameters["outbox_mb"].default), int(parameters["spool_mb"].default)
