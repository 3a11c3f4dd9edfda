"""``stormlive bench``: how fast this machine is, and where the time goes."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.progress import Progress
from rich.table import Table

from stormlive.cli import options
from stormlive.cli.advice import per_second
from stormlive.cli.terminal import answers, console, note
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stormlive.server.engine import Engine

# Emitters of 1000 photons per µm² and frame, over a background of 10 photons per pixel: a usual, rather dense frame.
_DENSITY, _PHOTONS, _BACKGROUND = 3.0, 1000.0, 10.0
_BATCH = 16
_MOST_SIDE = 4096


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured for frames of side x side pixels; times in ms.

    Attributes
    ----------
    side : int
        Pixels.
    frames_per_s : float
        Of batches as large as the live engine forms them, camera ADU in, canvas out.
    latency_p50_ms, latency_p99_ms : float
        Of a single frame.
    scaling_ms, network_ms, rendering_ms, rest_ms : float
        Where the time of a frame in a batch goes; NaN for CEL0, which has no such parts.
    peak_share : float
        Of the convolutions' peak, reached by the network; NaN where it is not known.
    """

    side: int
    frames_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float
    scaling_ms: float
    network_ms: float
    rendering_ms: float
    rest_ms: float
    peak_share: float


def bench(
    model: options.Model = "livenet",
    device: options.Device = "auto",
    sides: Annotated[
        str, typer.Option(metavar="A,B,…", help="Sides of the square frames, in camera pixels.")
    ] = "64,128,256,512,1024,2048",
    seconds: Annotated[float, typer.Option(min=0.05, max=600, help="How long each measurement lasts at least.")] = 1.0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="The figures as JSON.")] = None,
) -> None:
    """Measure the engine on this machine: frames per second, latency, and where the time goes.

    It tells what share of the processor's peak the network reaches; the peak is measured in the same run. Whether a
    certain camera is kept up with, the way from the camera included, is what [bold]stormlive preflight[/bold] tells.
    """
    from stormlive.server.engine import Engine
    from stormlive_models.peak import peak_macs_per_s

    numbers = _sides(sides)
    engine = Engine(model, device)
    peak = peak_macs_per_s(engine.runtime) if engine.torch_device.type == "cpu" else float("nan")
    rows = []
    with Progress(console=console, transient=True) as bar:
        for side in bar.track(numbers, description="measuring"):
            rows.append(_measure(engine, side, seconds, peak))
    answers.print(_table(rows))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    peak_text = "" if np.isnan(peak) else f", convolutions at {peak / 1e9:.0f} GMAC/s at most"
    place = f"{cores} processor core{'' if cores == 1 else 's'}"
    answers.print(f"{engine.model_name} on {engine.device}, {place}{peak_text}.")
    for sentence in _advice(engine, rows):
        answers.print(sentence, markup=False)
    if json_file is not None:
        record = {
            "machine": platform.platform(),
            "processor": platform.processor(),
            "cores": cores,
            "model": engine.model_name,
            "device": engine.device,
            "peak_gmac_per_s": None if np.isnan(peak) else peak / 1e9,
            "rows": [{k: None if np.isnan(v) else v for k, v in asdict(row).items()} for row in rows],
        }
        json_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        note(f"wrote {json_file}")


def _sides(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or any(not 16 <= number <= _MOST_SIDE for number in numbers):
        raise InputError(f"--sides must be whole numbers from 16 to {_MOST_SIDE}, such as 64,512; got {text!r}")
    return numbers


def _frames(side: int, n: int) -> "NDArray[np.uint16]":
    """Return simulated frames of a camera of 100 nm, 100 ADU offset and 2 ADU per photon."""
    import torch

    from stormlive_sim.psf import render_gaussians
    from stormlive_sim.sensor import scmos

    generator = torch.Generator().manual_seed(0)
    count = round(_DENSITY * (side / 10) ** 2) * n
    x, y = torch.rand(2, count, generator=generator) * side
    clean = torch.full((n, side, side), _BACKGROUND)
    frame = torch.arange(count) % n
    render_gaussians(clean, frame, x, y, torch.full((count,), _PHOTONS), torch.tensor(1.15), radius=5)
    return scmos().expose(clean, generator).numpy().astype(np.uint16)


def _measure(engine: "Engine", side: int, seconds: float, peak: float) -> Row:
    import torch

    from stormlive.server.engine import localizing_network
    from stormlive.wire.messages import Calibration
    from stormlive_models.normalize import livenet_input
    from stormlive_models.peak import median_seconds, network_macs
    from stormlive_models.zoo import CEL0

    calibration = Calibration(
        pixel_size_nm=100,
        baseline_adu=options.DEFAULT_BASELINE_ADU,
        photons_per_adu=options.DEFAULT_PHOTONS_PER_ADU,
        exposure_ms=10,
    )
    reconstruction = engine.open((side, side), calibration)
    n = max(1, min(_BATCH, _BATCH * 64**2 // side**2)) if engine.torch_device.type == "cpu" else _BATCH
    adu = _frames(side, n)
    whole, _ = median_seconds(lambda: reconstruction.add(adu), seconds)
    p50, p99 = median_seconds(lambda: reconstruction.add(adu[:1]), seconds)
    whole_ms, parts, share = 1000 * whole / n, [float("nan")] * 3, float("nan")
    card = reconstruction.model.card
    if card.architecture == "livenet":
        network = localizing_network(reconstruction.model)
        photons = (torch.from_numpy(adu.astype(np.float32)).to(engine.torch_device) - 100) * 0.5

        def synchronized(work: object) -> object:
            if engine.torch_device.type == "cuda":
                torch.cuda.synchronize()
            return work

        with torch.no_grad():
            tiles = list(network.tiles(photons))
            canvas = torch.zeros(side * network.upsampling, side * network.upsampling, device=engine.torch_device)
            scaling, _ = median_seconds(lambda: synchronized(livenet_input(photons)), seconds / 4)
            both, _ = median_seconds(lambda: synchronized([*network.tiles(photons)]), seconds / 2)
            rendering, _ = median_seconds(
                lambda: synchronized([network.render(tile, canvas) for tile in tiles]), seconds / 4
            )
        parts = [1000 * value / n for value in (scaling, max(0.0, both - scaling), rendering)]
        share = network_macs(network) * (side / 64) ** 2 / (parts[1] / 1000) / peak
    elif card.architecture != CEL0:
        parts = [0.0, whole_ms, 0.0]
    return Row(
        side=side,
        frames_per_s=1000 / whole_ms,
        latency_p50_ms=1000 * p50,
        latency_p99_ms=1000 * p99,
        scaling_ms=parts[0],
        network_ms=parts[1],
        rendering_ms=parts[2],
        rest_ms=max(0.0, whole_ms - sum(parts)),
        peak_share=share,
    )


def _table(rows: list[Row]) -> Table:
    table = Table(
        "frame",
        "frames/s",
        "latency, ms\np50 / p99",
        "scaling\nms",
        "network\nms",
        "drawing\nms",
        "rest\nms",
        "of peak",
    )
    for row in rows:
        parts = (row.scaling_ms, row.network_ms, row.rendering_ms, row.rest_ms)
        table.add_row(
            f"{row.side}²",
            per_second(row.frames_per_s),
            f"{_ms(row.latency_p50_ms)} / {_ms(row.latency_p99_ms)}",
            *(_ms(part) for part in parts),
            "–" if np.isnan(row.peak_share) else f"{100 * row.peak_share:.0f} %",
        )
    return table


def _ms(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _advice(engine: "Engine", rows: list[Row]) -> list[str]:
    """Return what to do to be faster."""
    from importlib.util import find_spec

    said = []
    video = [row for row in rows if row.frames_per_s >= 30]
    if video:
        largest = max(video, key=lambda row: row.side)
        said.append(f"Live at 30 frames/s and more up to {largest.side}² pixels.")
    else:
        said.append("Not live at 30 frames/s for any of these sizes.")
    if engine.torch_device.type == "cpu":
        if find_spec("openvino") is None:
            said.append("OpenVINO is two to three times faster on most CPUs: pip install 'stormlive[openvino]'.")
        if engine.model_name == "livenet":
            said.append("--model small computes less than half of livenet; `stormlive models` says what it costs.")
        said.append("A GPU is what larger fields take; the acquisition's program needs a core of its own.")
    return said
