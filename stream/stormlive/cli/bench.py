"""``stormlive bench``: how fast this machine is, and where the time goes."""

import json
import math
import os
import platform
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.progress import Progress
from rich.table import Table

from stormlive.cli import options
from stormlive.cli.advice import RESERVE, exposure, keeps_up, per_second, span
from stormlive.cli.terminal import answers, console, note
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.cli.engine_times import EngineTimes
    from stormlive.server.engine import Engine

_LEAST_SIDE, _MOST_SIDE = 16, 4096
# A size that would take longer is left out, and how often about a frame is computed for its figures.
_MOST_S, _TIMES = 240.0, 9


def bench(
    model: options.Model = "livenet",
    device: options.Device = "auto",
    sides: Annotated[
        str, typer.Option("--sides", metavar="A,B,…", help="Sides of the square frames, in camera pixels.")
    ] = "64,128,256,512,1024,2048",
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", min=0.05, max=600, metavar="SECONDS", help="How long each measurement lasts at least."
        ),
    ] = 1.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT.json", help="Write all figures there.")
    ] = None,
) -> None:
    """Measure the engine on this machine: frames per second, latency, and where the time goes.

    It tells what share of the processor's peak the network reaches; the peak is measured in between. Whether a certain
    camera is kept up with, the way from the camera included, is what [bold]stormlive preflight[/bold] tells.
    Sizes for which there is too little memory, or that would take more than four minutes, are left out.
    """
    from stormlive.cli.engine_times import measure
    from stormlive.server.engine import Engine
    from stormlive_models.peak import Peak

    numbers = _sides(sides)
    engine = Engine(model, device)
    in_terminal = console.is_terminal
    if not in_terminal:
        note(f"measuring {engine.model_name} on {engine.device}: {', '.join(f'{side}²' for side in numbers)} pixels")
    meter = Peak(engine.runtime, engine.torch_device)
    meter.measure()
    rows: list[EngineTimes] = []
    left_out: list[str] = []
    with Progress(console=console, transient=True, disable=not in_terminal) as bar:
        for side in bar.track(numbers, description="measuring"):
            expected_s = _TIMES * rows[-1].latency_p50_ms / 1000 * (side / rows[-1].side) ** 2 if rows else 0.0
            if expected_s > max(_MOST_S, _TIMES * seconds):
                left_out.append(f"{side}² was left out: it would take {span(expected_s)}.")
                continue
            try:
                rows.append(measure(engine, side, seconds, meter))
                if not in_terminal:
                    note(f"{side}²: {per_second(rows[-1].frames_per_s)} frames/s")
            except InputError as error:
                if not rows:
                    raise
                left_out.append(f"{side}² was left out: {error}.")
    meter.measure()
    peak = meter.macs_per_s
    answers.print(_table(rows, peak))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    place = f"{cores} processor core{'' if cores == 1 else 's'}"
    answers.print(f"{engine.model_name} on {engine.device}, {place}, convolutions at {peak / 1e9:.0f} GMAC/s at most.")
    if any(row.macs_per_s > peak for row in rows):
        answers.print(
            "No network is faster than the peak: the machine was busy with other things, so the shares of the peak are "
            "not reliable. Measure again when nothing else runs."
        )
    slower = _halved(rows)
    if slower is not None:
        answers.print(
            f"At {slower.side}² the network reaches less than half of the share that it had before: the machine was "
            "busy with other things meanwhile. Measure again when nothing else runs."
        )
    for sentence in left_out + _advice(engine, rows):
        answers.print(sentence, markup=False)
    if json_file is not None:
        record = {
            "machine": platform.platform(),
            "processor": platform.processor(),
            "cores": cores,
            "model": engine.model_name,
            "device": engine.device,
            "peak_gmac_per_s": peak / 1e9,
            "rows": [
                {k: None if np.isnan(v) else v for k, v in {**asdict(row), "peak_share": row.macs_per_s / peak}.items()}
                for row in rows
            ],
        }
        json_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        note(f"wrote {json_file}")


def _sides(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or any(not _LEAST_SIDE <= number <= _MOST_SIDE for number in numbers):
        raise InputError(
            f"--sides must be whole numbers from {_LEAST_SIDE} to {_MOST_SIDE}, such as 64,512; got {text!r}"
        )
    return numbers


def _table(rows: "list[EngineTimes]", peak: float) -> Table:
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
            "–" if np.isnan(row.macs_per_s) else f"{100 * row.macs_per_s / peak:.0f} %",
        )
    return table


def _ms(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _advice(engine: "Engine", rows: "list[EngineTimes]") -> list[str]:
    """Return what to do to be faster."""
    from importlib.util import find_spec

    import torch

    # The server leaves a core to the acquisition's program.
    cores = torch.get_num_threads()
    share = (cores - 1) / cores if engine.torch_device.type == "cpu" and cores > 1 else 1.0
    regions = {fps: side for fps in (30, 100) if (side := _largest(rows, fps, share)) >= _LEAST_SIDE}
    listed = ", ".join(f"{side}x{side} pixels at {fps} frames/s" for fps, side in regions.items())
    said = [f"Live, beside an acquisition: {listed}." if regions else "Nothing is live at 30 frames/s here."]
    slow = [row for row in rows if not keeps_up(share * row.frames_per_s, 30)]
    if slow:
        exposures = ", ".join(f"{row.side}² with {exposure(RESERVE / share / row.frames_per_s)}" for row in slow)
        said.append(f"Longer exposures are live too: {exposures}; or `stormlive reconstruct` afterwards.")
    if engine.torch_device.type == "cpu":
        if find_spec("openvino") is None:
            said.append("OpenVINO is two to three times faster on most CPUs: pip install 'stormlive[openvino]'.")
        if engine.model_name == "livenet":
            said.append(
                "--model small computes less than half of livenet; `stormlive models` says what it costs and which "
                "cameras it takes."
            )
        said.append("A GPU is what larger fields take; the acquisition's program needs a core of its own.")
    return said


def _halved(rows: "list[EngineTimes]") -> "EngineTimes | None":
    """Return the first size for which the network is less than half as fast as for the one before, in multiply-adds."""
    return next((row for last, row in pairwise(rows) if row.macs_per_s < last.macs_per_s / 2), None)


def _largest(rows: "list[EngineTimes]", fps: float, share: float) -> int:
    """Return the side of the largest square that keeps up with a camera on a share of what was measured."""
    enough = [row for row in rows if keeps_up(share * row.frames_per_s, fps)]
    near = max(enough, key=lambda row: row.side) if enough else min(rows, key=lambda row: row.side)
    above = share * near.frames_per_s / (RESERVE * fps)
    larger = [row for row in rows if row.side > near.side]
    if above < 1:
        side = near.side * above**0.5  # below what was measured, time shrinks with the pixels
    elif larger:
        following = min(larger, key=lambda row: row.side)
        part = math.log(above) / math.log(near.frames_per_s / following.frames_per_s)
        side = near.side * (following.side / near.side) ** part
    else:
        side = near.side  # of larger ones nothing is known
    return int(side) // 8 * 8
