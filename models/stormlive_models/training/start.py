"""A training before its first step: the network, its first weights, and what a step changes."""

import datetime
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from stormlive_models.checkpoint import ARCHITECTURES, file_sha256, load_model
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training.data import sample_size
from stormlive_models.training.optimizer import Optimizer
from stormlive_models.training.recipe import Recipe
from stormlive_models.training.source import TrainingData
from stormlive_models.training.state import TrainingState
from stormlive_sim.errors import InputError

logger = logging.getLogger(__name__)

_Tensors = tuple[Tensor, ...] | list[Tensor]


def begin(
    recipe: Recipe,
    device: torch.device,
    source: TrainingData = TrainingData(),
    start_from: Path | None = None,
    state: Path | None = None,
) -> TrainingState:
    """Return a training before its first step, or as the file `state` has it.

    Raises
    ------
    InputError
        When the model to start from does not fit the recipe, or the state is unusable or of another training.
    """
    settings = recipe.training
    torch.manual_seed(settings.seed)  # the initial weights; all else draws from the generator
    generator = torch.Generator(device).manual_seed(settings.seed)
    network = ARCHITECTURES[recipe.model.architecture](**arguments_of(recipe))  # type: ignore[arg-type]
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    origin = dict(source.origin)
    if start_from is not None:
        origin |= adopt(start_from, network, recipe)
    elif state is None:
        network.calibrate(source.sample(recipe.data, sample_size(recipe.data), generator)[0])
    run = TrainingState(
        recipe=recipe,
        origin=origin,
        network=network,
        average=AveragedModel(network, multi_avg_fn=_moving_average(settings.weight_average), use_buffers=True),
        optimizer=Optimizer(network, settings.learning_rate),
        generator=generator,
        last_step=settings.steps,
        begun=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    if state is not None:
        run.restore(state)
        logger.info("resumed at step %d of %d after %.1f minutes", run.step, settings.steps, run.seconds / 60)
    return run


def _moving_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Return an exponential moving average that forgets the first steps, which know nothing, quickly."""

    def update(averages: _Tensors, currents: _Tensors, n_averaged: Tensor | int) -> None:
        n = float(n_averaged)  # waits for a GPU: once for all tensors of a kind
        weight = min(decay, (1 + n) / (10 + n))
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, 1 - weight)
            else:
                average.copy_(current)

    return update


def arguments_of(recipe: Recipe) -> dict[str, float]:
    """Return what the recipe's network is built with."""
    arguments: dict[str, float] = {"pixel_size_nm": recipe.data.pixel_size_nm, "upsampling": recipe.model.upsampling}
    if recipe.model.architecture == "livenet":
        arguments["width"] = recipe.model.width
        if recipe.model.context:
            arguments["context"] = recipe.model.context
    return arguments


def adopt(path: Path, network: torch.nn.Module, recipe: Recipe) -> dict[str, object]:
    """Copy the weights of a model into the recipe's network and return what the card says of it.

    Raises
    ------
    InputError
        When the model is unusable or does not fit the recipe.
    """
    model, card = load_model(path, torch.device("cpu"))
    # Pixel size and upsampling say how positions are read and drawn; the weights know pixels only. The neighbours that
    # weights do not know yet begin without effect.
    free = ("pixel_size_nm", "upsampling", "context")
    shape = {key: value for key, value in arguments_of(recipe).items() if key not in free}
    ours = {"architecture": recipe.model.architecture, **shape}
    theirs = {"architecture": card.architecture, **{key: card.arguments.get(key) for key in shape}}
    if theirs != ours:
        raise InputError(
            f"the recipe has {_listed(ours)}, the model {card.name} to start from {_listed(theirs)}; "
            "change the recipe or give another model"
        )
    if isinstance(network, LiveNet):
        network.start_from(model.state_dict())
    else:
        network.load_state_dict(model.state_dict())
    return {"started_from": card.name, "started_from_sha256": file_sha256(path)}


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
