"""``stormlive train``: a model of your own from a recipe."""

import math
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
from stormlive.cli.terminal import answers, console, note
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    import torch

    from stormlive_models.training.history import Progress as Step
    from stormlive_models.training.recipe import Recipe
    from stormlive_models.training.source import TrainingData

_EXPERIMENTAL = "Experimental training"
_BLOCK_PIXELS = 2**22
_COLUMNS = (
    TextColumn("step {task.fields[step]}"),
    BarColumn(bar_width=20),
    TaskProgressColumn(),
    TextColumn("{task.fields[now]}  {task.fields[validation]}"),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="NAME|RECIPE.toml",
            help="Ranges of the simulation, network, steps: livenet, small, livenet-140nm, livenet-context, "
            "finetune, deepstorm2018, or a file.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="MODEL.safetensors", help="The model that is made.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print the recipe and end: save it as the start of one of your own.")
    ] = False,
    device: options.Device = "auto",
    start_from: Annotated[
        str,
        typer.Option("--start-from", metavar="NAME|FILE", help="Fine-tune this model instead of starting anew."),
    ] = "",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a training that was cut off; give the rest as it was given then."),
    ] = False,
    overwrite: options.Overwrite = False,
    experimental: Annotated[
        Path | None,
        typer.Option(
            "--experimental",
            metavar="STACK",
            rich_help_panel=_EXPERIMENTAL,
            help="Train on the spots of this recording of sparse frames (TIFF or NDTiff) instead of simulated ones.",
        ),
    ] = None,
    emccd: Annotated[
        bool, typer.Option("--emccd", rich_help_panel=_EXPERIMENTAL, help="The camera multiplies electrons (EMCCD).")
    ] = False,
    pixel_size_nm: options.PixelSize = options.DEFAULT_PIXEL_SIZE_NM,
    baseline_adu: options.Baseline = options.DEFAULT_BASELINE_ADU,
    photons_per_adu: options.PhotonsPerAdu = options.DEFAULT_PHOTONS_PER_ADU,
) -> None:
    """Train a network on simulated frames, or on sparse frames of your own microscope.

    The weights are written anew at every validation: stop with Ctrl-C whenever they are good enough. Beside them lie
    a report page, MODEL.report.html, and, until the training is complete, its state, MODEL.state: after a kill or a
    power cut the same command with [bold]--resume[/bold] goes on from there. For conditions of your own:
    [bold]stormlive train livenet --show > mine.toml[/bold], change it, and
    [bold]stormlive train mine.toml -o MINE.safetensors[/bold].

    Experimental frames must show single spots, about two per 1000 square pixels, under the conditions of the
    experiment; they are localized classically, and crops of them are summed to dense frames:
    [bold]stormlive train finetune -o MINE.safetensors --start-from livenet --experimental SPARSE.tif[/bold].
    """
    from stormlive.server.devices import select_devices
    from stormlive_models.training.loop import train as run_training
    from stormlive_models.training.original import train_original
    from stormlive_models.training.recipe import find_recipe, read_recipe
    from stormlive_models.training.report import report_path
    from stormlive_models.training.source import TrainingData
    from stormlive_models.training.state import state_path
    from stormlive_models.zoo import find_model

    path = find_recipe(recipe)
    settings = read_recipe(path)
    if show:
        answers.print(path.read_text(encoding="utf-8"), end="", markup=False, highlight=False, soft_wrap=True)
        return
    if output is None:
        raise InputError("the weights need a file: give --output MODEL.safetensors")
    options.check_can_write(output)
    begin = find_model(start_from) if start_from else None
    if begin is not None and begin.resolve() == output.resolve():
        raise InputError(
            f"the training would replace {output}, which it starts from, and could not be resumed; give -o another name"
        )
    # Weights of a training that can go on are not for a new one to replace: the training itself says so.
    if not resume and not state_path(output).exists():
        options.refuse_existing([output], overwrite=overwrite)
    where = select_devices(device)[0]
    source = TrainingData()
    if experimental is not None and settings.epochs is not None:
        raise InputError("a recipe with an [epochs] table takes no --experimental: leave it out")
    if experimental is not None:
        source = _experimental(experimental, settings, where, emccd, pixel_size_nm, baseline_adu, photons_per_adu)
    with Progress(*_COLUMNS, console=console) as bar:
        if settings.epochs is None:
            card = run_training(settings, output, where, _Display(bar), source, begin, resume=resume)
            of = "after"
        else:
            card = train_original(settings, output, where, _Display(bar), begin, resume=resume)
            of = f"with the best weights, of {card.trained['epochs']} epochs,"
    ended, steps, minutes = (card.trained[key] for key in ("ended", "steps", "minutes"))
    note(f"{ended}: wrote {output} and {report_path(output)} {of} {steps} steps and {minutes} minutes")
    if state_path(output).exists():
        note(f"{state_path(output)} is kept: the same command with --resume goes on")


class _Display:
    """A progress bar that shows running means of what each step tells."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("train", total=1.0, step=0, now="", validation="")
        self._steps = 0
        self._loss = self._data_s = self._network_s = 0.0

    def __call__(self, step: "Step") -> None:
        self._steps += 1
        share = max(0.02, 1 / self._steps)
        # Begun anew after a loss that is not finite: it changes no weights, but would be in the mean for ever.
        self._loss = self._loss + share * (step.loss - self._loss) if math.isfinite(self._loss) else step.loss
        self._data_s += share * (step.data_s - self._data_s)
        self._network_s += share * (step.network_s - self._network_s)
        now = f"loss {self._loss:.3f}"
        together = self._data_s + self._network_s
        if together > 0:
            now += f"  {1 / together:.1f} steps/s, data {100 * self._data_s / together:.0f} %"
        self._bar.update(self._task, completed=min(1.0, step.fraction), step=step.step, now=now)
        if step.validation:
            text = "  ".join(f"J({k}) {v.jaccard:.3f}" for k, v in step.validation.items())
            self._bar.update(self._task, validation=text)
            if not console.is_terminal:
                note(f"step {step.step}: {now}  {text}")


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

    if recipe.data.on_frames is not None:
        raise InputError(
            "crops of spots are summed to single frames without neighbours: --experimental takes no recipe with "
            "data.on_frames; leave that and model.context out"
        )
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
