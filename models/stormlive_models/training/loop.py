"""One training loop, readable from top to bottom."""

import contextlib
import datetime
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from stormlive_models.checkpoint import ARCHITECTURES, ModelCard, file_sha256, load_model, save_model
from stormlive_models.evaluate import Scores, score
from stormlive_models.localize import localize
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training.data import sample_batch
from stormlive_models.training.recipe import DataSettings, Recipe
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError

_NORMALISATION = {
    "livenet": "(photons - p20)/50 and sqrt(photons+1) - sqrt(p20+1), halved; p20: 20th percentile of 32x32 blocks",
    "deepstorm": "nearest x8, [0, 1] by the frame's minimum and maximum, (x - mean)/std of the training set",
}
_CARD_DENSITIES = (0.3, 1.0, 3.0, 5.0, 6.35)


Sampler = Callable[[DataSettings, int, torch.Generator], tuple[Tensor, Emitters]]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Where frames with known emitters come from; by default from the simulation.

    Attributes
    ----------
    sample, held_out : callable
        ``(settings, n, generator) -> (photons, emitters)`` for training, and for the figures of the card.
    conditions : str
        Of the held-out frames, for the card.
    origin : mapping
        What else the card says of the data.
    """

    sample: Sampler = sample_batch
    held_out: Sampler = sample_batch
    conditions: str = "1000 photons, sigma 1.15 px, background 10, sCMOS"
    origin: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training stands; `validation` is there whenever a new one was made."""

    step: int
    fraction: float
    loss: float
    validation: dict[str, Scores] | None = None


def validation_settings(data: DataSettings, density: float) -> DataSettings:
    """Return the fixed conditions of the figures in a model card.

    Uniform random emitters of 1000 photons, PSF sigma 1.15 px, 10 background photons/px, sCMOS, 64x64 px.
    """
    sigma_nm = 1.15 * data.pixel_size_nm
    return DataSettings(
        pixel_size_nm=data.pixel_size_nm,
        patch_px=64,
        density_per_um2=(density, density),
        filament_share=0.0,
        photons=(1000.0, 1000.0),
        photon_spread=(0.0, 0.0),
        partial_share=0.0,
        psf_sigma_nm=(sigma_nm, sigma_nm),
        background_photons=(10.0, 10.0),
        background_structure=0.0,
        emccd_share=0.0,
        read_noise_e=(1.5, 1.5),
    )


@torch.no_grad()
def validate(
    network: LiveNet,
    data: DataSettings,
    densities: tuple[float, ...],
    n_frames: int,
    tolerance_nm: float = 100.0,
    sample: Sampler = sample_batch,
) -> dict[str, Scores]:
    """Return the scores at each density, on frames that no training has seen (a seed of its own)."""
    scores = {}
    device = next(network.parameters()).device
    for density in densities:
        generator = torch.Generator(device).manual_seed(2**40 + round(density * 1000))
        photons, truth = sample(validation_settings(data, density), n_frames, generator)
        tables = []
        for first in range(0, n_frames, 16):
            table = localize(network, photons[first : first + 16], data.pixel_size_nm)
            tables.append(Emitters(**{**table.__dict__, "frame": table.frame + first}))
        scores[f"{density:g}/um2"] = score(Emitters.concatenate(tables), truth, tolerance_nm)
    return scores


def card_metrics(
    network: torch.nn.Module, data: DataSettings, source: TrainingData = TrainingData()
) -> dict[str, object]:
    """Return the figures of a model card; none for a network without detection heads."""
    if not isinstance(network, LiveNet):
        return {}
    conditions = f"{source.conditions}, 64x64 px, 48 frames"
    return {
        f"uniform random emitters, {conditions}, tolerance {tolerance:g} nm": {
            name: {
                "jaccard": round(s.jaccard, 4),
                "rmse_nm": round(s.rmse_nm, 2),
                "precision": round(s.precision, 4),
            }
            for name, s in validate(network, data, _CARD_DENSITIES, 48, tolerance, source.held_out).items()
        }
        for tolerance in (50.0, 100.0)
    }


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return an exponential moving average that forgets the first steps, which know nothing, quickly."""

    def update(average: Tensor, current: Tensor, n_averaged: Tensor | int) -> Tensor:
        weight = min(decay, (1 + float(n_averaged)) / (10 + float(n_averaged)))
        return average.lerp(current.to(average.dtype), 1 - weight) if average.is_floating_point() else current

    return update


def _start_from(
    path: Path, network: torch.nn.Module, architecture: str, arguments: Mapping[str, object]
) -> dict[str, object]:
    """Copy the weights of a model and return what the card says of it."""
    model, card = load_model(path, torch.device("cpu"))
    # Pixel size and upsampling say how positions are read and drawn; the weights know pixels only.
    shape = {key: value for key, value in arguments.items() if key not in ("pixel_size_nm", "upsampling")}
    ours = {"architecture": architecture, **shape}
    theirs = {"architecture": card.architecture, **{key: card.arguments.get(key) for key in shape}}
    if theirs != ours:
        raise InputError(
            f"the recipe has {_listed(ours)}, the model {card.name} to start from {_listed(theirs)}; "
            "change the recipe or give another model"
        )
    network.load_state_dict(model.state_dict())
    return {"started_from": card.name, "started_from_sha256": file_sha256(path)}


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def train(
    recipe: Recipe,
    output: Path,
    device: torch.device,
    on_progress: Callable[[Progress], None] = lambda _: None,
    source: TrainingData = TrainingData(),
    start_from: Path | None = None,
) -> ModelCard:
    """Train by a recipe and write the weights; they are written anew at every validation, so a kill costs little.

    Parameters
    ----------
    recipe : Recipe
        Everything that decides the result, but for the speed of the machine where `max_minutes` ends it.
    output : Path
        The safetensors file.
    device : torch.device
        Where to train; the data is simulated there too.
    on_progress : callable
        Called after every step.
    source : TrainingData
        Where the frames come from.
    start_from : Path, optional
        A model whose weights to begin with, instead of random ones.

    Raises
    ------
    InputError
        When the model to start from is unusable, or not of the recipe's architecture and pixel size.
    """
    settings = recipe.training
    torch.manual_seed(settings.seed)  # the initial weights; all else draws from the generator
    generator = torch.Generator(device).manual_seed(settings.seed)
    arguments = {"pixel_size_nm": recipe.data.pixel_size_nm, "upsampling": recipe.model.upsampling}
    if recipe.model.architecture == "livenet":
        arguments["width"] = recipe.model.width
    network = ARCHITECTURES[recipe.model.architecture](**arguments)  # type: ignore[arg-type]
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    origin = dict(source.origin)
    if start_from is None:
        network.calibrate(source.sample(recipe.data, 256, generator)[0])
    else:
        origin |= _start_from(start_from, network, recipe.model.architecture, arguments)
    average = AveragedModel(network, avg_fn=_moving_average(settings.weight_average), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=1e-4)

    started = time.monotonic()
    step, fraction = 0, 0.0

    def snapshot(metrics: dict[str, object]) -> ModelCard:
        card = ModelCard(
            name=recipe.name,
            architecture=recipe.model.architecture,
            arguments=arguments,
            normalisation=_NORMALISATION[recipe.model.architecture],
            training=msgspec.to_builtins(recipe),
            trained={
                "steps": step,
                "minutes": round((time.monotonic() - started) / 60, 1),
                "device": str(device),
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                **origin,
            },
            metrics=metrics,
        )
        save_model(output, average.module, card)
        return card

    # Ctrl-C is a way to say that it is good enough.
    with contextlib.suppress(KeyboardInterrupt):
        while fraction < 1:
            rate = min(1.0, (step + 1) / settings.warmup_steps) * 0.5 * (1 + math.cos(math.pi * fraction))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * rate
            photons, truth = source.sample(recipe.data, settings.batch, generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
                loss = network.loss(photons, truth)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            # One frame of a very dense, very bright kind must not throw the others' progress away.
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            if torch.isfinite(norm):
                optimizer.step()
                average.update_parameters(network)
            step += 1
            fraction = max(step / settings.steps, (time.monotonic() - started) / 60 / settings.max_minutes)
            scores = None
            if step % settings.validate_every == 0:
                if isinstance(average.module, LiveNet):
                    scores = validate(average.module, recipe.data, (1.0, 3.0, 5.0), 16, sample=source.held_out)
                snapshot({k: asdict(v) for k, v in scores.items()} if scores else {})
            on_progress(Progress(step=step, fraction=fraction, loss=loss.item(), validation=scores))
    average.module.eval()
    return snapshot(card_metrics(average.module, recipe.data, source))
