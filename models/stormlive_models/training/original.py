"""Training in epochs, as the network of 2018 was trained (Nehme et al., Optica 5, 458, 2018).

Patches are cut once from a few simulated frames, split for training and validation, and gone through in random order
until the epochs or the minutes are over. Patches of one frame overlap, as the authors' do: the validation loss says
which weights to keep, not how well they will do on frames of another experiment.
"""

import contextlib
import datetime
import itertools
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from stormlive_models.checkpoint import ModelCard, file_sha256, load_model, save_model
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.training.history import Progress
from stormlive_models.training.patches import Patches, cut_patches
from stormlive_models.training.recipe import EpochSettings, Recipe
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)


def train_original(
    recipe: Recipe,
    output: Path,
    device: torch.device,
    on_progress: Callable[[Progress], None] = lambda _: None,
    start_from: Path | None = None,
) -> ModelCard:
    """Train the network of 2018 by its own recipe and write the weights of the best validation loss.

    The file is written at the end of each epoch that is the best so far and, as long as none has ended, every
    `training.save_minutes`. Its card says how far these weights are; where it has no validation loss, there was none
    yet. An epoch that `training.max_minutes` cut short is validated too, after those minutes.

    Parameters
    ----------
    recipe : Recipe
        With an ``[epochs]`` table; ``data.patch_px`` is the size of the frames that the patches are cut from.
    output : Path
        The safetensors file.
    device : torch.device
        Where to train; the data is simulated there too.
    on_progress : callable
        Called after every step.
    start_from : Path, optional
        A model whose weights and scaling constants to begin with, instead of random weights and this set's constants.

    Raises
    ------
    InputError
        When the recipe is none for epochs, its data gives too few patches, or the model to start from does not fit;
        when a loss is not finite: the file then has the weights of the best epoch, if one had ended.
    """
    settings, batch, bf16 = _epoch_settings(recipe), recipe.training.batch, recipe.training.bf16
    torch.manual_seed(recipe.training.seed)  # the initial weights; all else draws from the generator
    generator = torch.Generator(device).manual_seed(recipe.training.seed)
    training, held_out = cut_patches(recipe.data, settings, generator)
    network = DeepStorm(recipe.data.pixel_size_nm, recipe.model.upsampling)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    origin: dict[str, object] = {"patches": len(training), "device": str(device)}
    if start_from is None:
        network.calibrate(training.photons())
    else:
        origin |= _start_from(start_from, network)
    # Epsilon, and what counts as progress, are those of Keras, which the original was trained with.
    optimizer = torch.optim.Adam(network.parameters(), recipe.training.learning_rate, eps=1e-7)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        factor=settings.rate_factor,
        patience=settings.patience - 1,
        threshold=1e-4,
        threshold_mode="abs",
        min_lr=settings.least_rate,
    )
    steps_per_epoch = max(1, len(training) // batch)
    started = time.monotonic()
    step, best, card = 0, math.inf, None

    def minutes() -> float:
        return (time.monotonic() - started) / 60

    def fraction() -> float:
        return max(step / steps_per_epoch / settings.count, minutes() / recipe.training.max_minutes)

    def save(validation: float | None) -> ModelCard:
        trained = {
            "steps": step,
            "epochs": round(step / steps_per_epoch, 2),
            "minutes": round(minutes(), 1),
            "validation_loss": validation,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }
        card = _card(recipe, trained | origin)
        save_model(output, network, card)
        return card

    def require_finite(name: str, value: float) -> None:
        if not math.isfinite(value):
            left = "holds the weights of the best epoch" if best < math.inf else "holds none of a whole epoch"
            raise InputError(
                f"expected a finite {name}, got {value} after {step} steps; lower training.learning_rate (now "
                f"{recipe.training.learning_rate:g}) or set bf16 = false; {output} {left}"
            )

    # Ctrl-C is a way to say that it is good enough.
    with contextlib.suppress(KeyboardInterrupt):
        saved = minutes()
        while fraction() < 1:
            order = torch.randperm(len(training), generator=generator, device=device)
            losses = []
            for part in itertools.islice(training.select(order).split(batch), steps_per_epoch):
                began = time.monotonic()
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    loss = network.loss(part.photons(), part.truth())
                losses.append(loss.item())
                require_finite("loss", losses[-1])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                step += 1
                took = time.monotonic() - began
                on_progress(Progress(step=step, fraction=fraction(), loss=losses[-1], network_s=took))
                if minutes() >= recipe.training.max_minutes:
                    break
                if card is None and minutes() - saved >= recipe.training.save_minutes:
                    save(None)
                    saved = minutes()
            validation = validation_loss(network, held_out, batch, bf16=bf16)
            require_finite("validation loss", validation)
            _log.info(
                "epoch %d: loss %.4f, validation loss %.4f, learning rate %g",
                math.ceil(step / steps_per_epoch),
                sum(losses) / len(losses),
                validation,
                optimizer.param_groups[0]["lr"],
            )
            if validation < best:
                best, card = validation, save(validation)
            schedule.step(validation)
    return card if card is not None else save(None)


@torch.no_grad()
def validation_loss(network: DeepStorm, patches: Patches, batch: int, *, bf16: bool) -> float:
    """Return the mean loss over the patches; the network is in evaluation mode for it."""
    network.eval()
    total = 0.0
    for part in patches.split(batch):
        with torch.autocast(part.frames.device.type, torch.bfloat16, enabled=bf16):
            total += network.loss(part.photons(), part.truth()).item() * len(part)
    network.train()
    return total / len(patches)


def _epoch_settings(recipe: Recipe) -> EpochSettings:
    if recipe.epochs is None or recipe.model.architecture != "deepstorm":
        raise InputError(
            f"training in epochs takes a recipe of the architecture deepstorm with an [epochs] table, got "
            f"{recipe.model.architecture} {'without' if recipe.epochs is None else 'with'} it; "
            "change the architecture, or leave out the table"
        )
    return recipe.epochs


def _start_from(path: Path, network: DeepStorm) -> dict[str, object]:
    """Copy the weights of a model and return what the card says of it."""
    model, card = load_model(path, torch.device("cpu"))
    if not isinstance(model, DeepStorm):
        raise InputError(
            f"the recipe has the architecture deepstorm, the model {card.name} to start from {card.architecture}; "
            "change the recipe or give another model"
        )
    network.load_state_dict(model.state_dict())
    return {"started_from": card.name, "started_from_sha256": file_sha256(path)}


def _card(recipe: Recipe, trained: dict[str, object]) -> ModelCard:
    return ModelCard(
        name=recipe.name,
        architecture="deepstorm",
        arguments={"pixel_size_nm": recipe.data.pixel_size_nm, "upsampling": recipe.model.upsampling},
        normalisation=(
            f"nearest x{recipe.model.upsampling}, [0, 1] by the frame's minimum and maximum, (x - mean)/std of the "
            "training set"
        ),
        training=msgspec.to_builtins(recipe),
        trained=trained,
        metrics={},
        pixel_sizes_nm=recipe.model.pixel_sizes_nm,
    )
