"""The report of a training: one HTML file that can be mailed, with every picture inside."""

import base64
import datetime
import html
import io
import json
import math
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from matplotlib.figure import Figure

from stormlive_models.checkpoint import ModelCard
from stormlive_models.evaluate import positions_nm, score
from stormlive_models.localize import localize
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training import report_plots
from stormlive_models.training.calibration import calibrate
from stormlive_models.training.source import TrainingData
from stormlive_models.training.state import TrainingState
from stormlive_sim.atomic import whole_file

_EXAMPLES = 8
_SEED = 2**41
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: .6rem 0; } th, td { padding: .15rem .9rem .15rem 0; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; } .note { color: #555; }
"""


def report_path(output: Path) -> Path:
    """Return where the report of the training of `output` lies: ``MODEL.report.html`` beside ``MODEL.safetensors``."""
    return output.with_name(output.name.removesuffix(".safetensors") + ".report.html")


def write_report(path: Path, run: TrainingState, card: ModelCard, source: TrainingData | None = None) -> None:
    """Write the report of a training, over or on its way.

    Parameters
    ----------
    path : Path
        The HTML file; one that exists is replaced.
    run : TrainingState
        The training.
    card : ModelCard
        What goes with the weights.
    source : TrainingData, optional
        Where the frames of examples and calibration come from; without it there are none, which takes a second
        instead of ten.
    """
    parts = [
        f"<h1>{html.escape(card.name)}</h1>",
        _paragraph(_status(run, card)),
        _facts(_where(run, card)),
        "<h2>Curves</h2>",
        _picture(report_plots.curves(run.losses, run.validations, run.epochs), "loss and validation"),
    ]
    if card.metrics and source is not None:
        parts += ["<h2>Figures</h2>", *(_figures(name, scores) for name, scores in card.metrics.items() if scores)]
    if source is not None:
        parts += _examples(run, source)
        if isinstance(run.average.module, LiveNet):
            parts += _calibration(run.average.module, run, source)
    parts += ["<h2>Recipe</h2>", f"<pre>{html.escape(recipe_text(card.training))}</pre>"]
    page = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(card.name)}: training</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """Return a recipe, as the card has it, as the TOML that it can be repeated from."""
    flat = {key: value for key, value in recipe.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in recipe.items() if isinstance(value, dict)}
    lines = _toml_lines(flat)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_toml_lines(table)]
    return "\n".join(lines) + "\n"


def _toml_lines(values: Mapping[str, Any]) -> list[str]:
    # JSON's strings, numbers, booleans and lists are TOML's, but for JSON's surrogate pairs and its way to say
    # infinite; TOML has no null: what is absent is.
    def text(value: object) -> str:
        return "inf" if value == math.inf else json.dumps(value, ensure_ascii=False)

    return [f"{key} = {text(value)}" for key, value in values.items() if value is not None]


def _status(run: TrainingState, card: ModelCard) -> str:
    if "ended" in card.trained:
        return f"Ended: {card.trained['ended']}."
    return f"On its way: {100 * run.fraction:.0f} % done. Examples and calibration come at the end."


def _where(run: TrainingState, card: ModelCard) -> dict[str, object]:
    device = run.generator.device
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    steps, seconds = run.step, max(run.seconds, 1e-9)
    parameters = sum(p.numel() for p in run.network.parameters())
    return {
        "Network": f"{card.architecture}, {parameters:,} parameters",
        "Device": f"{device.type} ({where}), torch {torch.__version__}, {platform.system()}",
        "Begun": run.begun,
        "Written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "Time used": f"{seconds / 60:.1f} min, validations included; frames {100 * run.data_seconds / seconds:.0f} %",
        "Steps": f"{steps} of {run.last_step}, {steps / seconds:.2f} per second",
        "Frames seen": f"{steps * run.recipe.training.batch:,}",
        **{key.replace("_", " ").capitalize(): value for key, value in run.origin.items()},
    }


def _figures(conditions: str, scores: Mapping[str, Mapping[str, float]]) -> str:
    rows = [[density.replace("/um2", " /µm²"), *map(str, values.values())] for density, values in scores.items()]
    head = ["density", *next(iter(scores.values()))]
    cells = "".join(_row("td", row) for row in rows)
    return f"{_paragraph(conditions[:1].upper() + conditions[1:])}<table>{_row('th', head)}{cells}</table>"


def _row(kind: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f'<{kind} class="number">{html.escape(cell)}</{kind}>' for cell in cells) + "</tr>"


@torch.no_grad()
def _examples(run: TrainingState, source: TrainingData) -> list[str]:
    network, data, device = run.average.module, run.recipe.data, run.generator.device
    generator = torch.Generator(device).manual_seed(_SEED)
    examples = []
    for density in np.geomspace(*data.density_per_um2, _EXAMPLES):
        settings = msgspec.structs.replace(data, density_per_um2=(float(density), float(density)))
        photons, truth = source.held_out(settings, 1, generator)
        stack = photons[0].reshape(-1, *photons.shape[-2:])  # the frame between its neighbours, if it has any
        canvas = torch.zeros([side * run.recipe.model.upsampling for side in stack.shape[1:]], device=device)
        network.add_increment(photons, canvas)  # type: ignore[operator]
        title, found_px = f"{density:.2g} /µm²: {len(truth)} true", None
        if isinstance(network, LiveNet):
            found = localize(network, photons, data.pixel_size_nm)
            found_px = positions_nm(found) / data.pixel_size_nm
            title += f", {len(found)} found"
            if len(found) or len(truth):
                title += f", J {score(found, truth, 100.0).jaccard:.2f}"
        examples.append(
            report_plots.Example(
                title=title,
                photons=stack[len(stack) // 2].cpu().numpy(),
                increment=canvas.cpu().numpy(),
                truth_px=positions_nm(truth) / data.pixel_size_nm,
                found_px=found_px,
            )
        )
    legend = "Rings: true emitters. Crosses: localizations. Below each frame what it adds to the picture."
    return ["<h2>Example frames</h2>", _paragraph(legend), _picture(report_plots.frames(examples), "example frames")]


def _calibration(network: LiveNet, run: TrainingState, source: TrainingData) -> list[str]:
    generator = torch.Generator(run.generator.device).manual_seed(_SEED + 1)
    result = calibrate(network, run.recipe.data, source.held_out, generator)
    about = (
        f"{result.n_frames} frames drawn as for the training, but not seen by it, with {result.n_truth} emitters. "
        "A network that knows how good it is lies on the dashed lines. Among dense emitters chance lifts the left end "
        "of the first curve."
    )
    return ["<h2>Calibration</h2>", _paragraph(about), _picture(report_plots.calibration(result), "calibration")]


def _paragraph(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def _facts(facts: Mapping[str, object]) -> str:
    rows = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items())
    return f"<table>{''.join(rows)}</table>"


def _picture(figure: Figure, description: str) -> str:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=100)
    data = base64.b64encode(image.getvalue()).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{data}">'
