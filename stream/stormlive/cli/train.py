"""``stormlive train``: a model of your own from a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    import torch

    from stormlive_models.training.loop import TrainingData
    from stormlive_models.training.recipe import Recipe

_EXPERIMENTAL = "Experimental training"
_BLOCK_PIXELS = 2**22


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="Ranges of the simulation, network, steps.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL.safetensors", help="The weights.")],
    device: options.Device = "auto",
    start_from: Annotated[
        str,
        typer.Option("--start-from", metavar="NAME|FILE", help="Fine-tune this model instead of starting anew."),
    ] = "",
    experimental: Annotated[
        Path | None,
        typer.Option(
            metavar="STACK",
            rich_help_panel=_EXPERIMENTAL,
            help="Train on the spots of this recording of sparse frames (TIFF or NDTiff) instead of simulated ones.",
        ),
    ] = None,
    emccd: Annotated[
        bool, typer.Option("--emccd", rich_help_panel=_EXPERIMENTAL, help="The camera multiplies electrons.")
    ] = False,
    pixel_size_nm: options.PixelSize = options.DEFAULT_PIXEL_SIZE_NM,
    baseline_adu: options.Baseline = options.DEFAULT_BASELINE_ADU,
    photons_per_adu: options.PhotonsPerAdu = options.DEFAULT_PHOTONS_PER_ADU,
) -> None:
    """Train a network on simulated frames, or on sparse frames of your own microscope.

    The weights are written anew at every validation: stop with Ctrl-C whenever they are good enough. The recipes of
    the shipped model and of a fine-tuning are in models/stormlive_models/training/recipes in the source.

    Experimental frames must show single spots, about two per 1000 square pixels, under the conditions of the
    experiment; they are localized classically, and crops of them are summed to dense frames:
    [bold]stormlive train finetune.toml -o MINE.safetensors --start-from livenet --experimental SPARSE.tif[/bold].
    """
    from stormlive.server.engine import select_device
    from stormlive_models.training.loop import Progress as Step
    from stormlive_models.training.loop import TrainingData
    from stormlive_models.training.loop import train as run_training
    from stormlive_models.training.recipe import read_recipe
    from stormlive_models.zoo import find_model

    settings = read_recipe(recipe)
    options.check_can_write(output)
    begin = find_model(start_from) if start_from else None
    where = select_device(device)
    source = TrainingData()
    if experimental is not None:
        source = _experimental(experimental, settings, where, emccd, pixel_size_nm, baseline_adu, photons_per_adu)
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

        card = run_training(settings, output, where, show, source, begin)
    note(f"wrote {output} after {card.trained['steps']} steps and {card.trained['minutes']} minutes")


def _experimental(
    stack: Path,
    recipe: "Recipe",
    device: "torch.device",
    emccd: bool,
    pixel_size_nm: float,
    baseline_adu: float,
    photons_per_adu: float,
) -> "TrainingData":
    """Localize the spots of a recording and return the frames made of them."""
    import torch

    from stormlive_models.training.experimental import experimental_data
    from stormlive_models.training.spot_library import collect_spots
    from stormlive_sim.recording import Recording

    if pixel_size_nm != recipe.data.pixel_size_nm:
        raise InputError(
            f"the recording has pixels of {pixel_size_nm:g} nm (--pixel-size-nm), the recipe trains for "
            f"{recipe.data.pixel_size_nm:g} nm; give the camera's pixel size in the sample, and the same in the recipe"
        )
    with Recording.open(stack) as movie:
        _, height, width = movie.shape
        photons = (
            (torch.from_numpy(block).float() - baseline_adu) * photons_per_adu
            for _, block in movie.blocks(max(1, _BLOCK_PIXELS // (height * width)))
        )
        library = collect_spots(
            photons,
            pixel_size_nm=pixel_size_nm,
            expected_sigma_nm=sum(recipe.data.psf_sigma_nm) / 2,
            excess=2.0 if emccd else 1.0,
        )
        name = movie.name
    sigma = " x ".join(f"{sigma * pixel_size_nm:.0f}" for sigma in library.sigma_px)
    note(
        f"{len(library)} isolated spots of {name}: {library.photons.median():.0f} photons, sigma {sigma} nm, "
        f"background {library.background.median():.1f} photons"
    )
    return experimental_data(library.to(device), name)
