"""``stormlive train``: a model of your own from a recipe."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from stormlive.cli import options
from stormlive.cli.terminal import console, note


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="Ranges of the simulation, network, steps.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL.safetensors", help="The weights.")],
    device: options.Device = "auto",
) -> None:
    """Train a network on simulated frames.

    The weights are written anew at every validation: stop with Ctrl-C whenever they are good enough. The recipe of
    the shipped model is models/stormlive_models/training/recipes/livenet.toml in the source.
    """
    from stormlive.server.engine import select_device
    from stormlive_models.training.loop import Progress as Step
    from stormlive_models.training.loop import train as run_training
    from stormlive_models.training.recipe import read_recipe

    settings = read_recipe(recipe)
    options.check_can_write(output)
    columns = (
        TextColumn("step {task.fields[step]}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[validation]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("train", total=1.0, step=0, loss=float("nan"), validation="")
        mean = float("nan")

        def show(step: Step) -> None:
            nonlocal mean
            mean = step.loss if step.step == 1 else 0.98 * mean + 0.02 * step.loss
            bar.update(task, completed=min(1.0, step.fraction), step=step.step, loss=mean)
            if step.validation:
                text = "  ".join(f"J({k}) {v.jaccard:.3f}" for k, v in step.validation.items())
                bar.update(task, validation=text)
                if not console.is_terminal:
                    note(f"step {step.step}: loss {mean:.3f}  {text}")

        card = run_training(settings, output, select_device(device), show)
    note(f"wrote {output} after {card.trained['steps']} steps and {card.trained['minutes']} minutes")
