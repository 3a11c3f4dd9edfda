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
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from stormlive_models.checkpoint import ModelCard, save_model
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.training.history import Epoch, Progress
from stormlive_models.training.patches import Patches, cut_patches
from stormlive_models.training.plateau import PlateauAdam
from stormlive_models.training.recipe import EpochSettings, Recipe
from stormlive_models.training.report import report_path, write_report
from stormlive_models.training.source import TrainingData
from stormlive_models.training.start import adopt
from stormlive_models.training.state import TrainingState, require_no_state, state_path
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)


def train_original(
    recipe: Recipe,
    output: Path,
    device: torch.device,
    on_progress: Callable[[Progress], None] = lambda _: None,
    start_from: Path | None = None,
    *,
    resume: bool = False,
) -> ModelCard:
    """Train the network of 2018 by its own recipe and write the weights of the best validation loss.

    The file is written at the end of each epoch, with the weights after the best one, and, as long as none has ended,
    every `training.save_minutes`. Its card says how far these weights are; where it has no validation loss, there was
    none yet. An epoch that `training.max_minutes` cut short is validated too, after those minutes. Beside the weights
    lie a report page, written at the end of each epoch, and, until the training's end, its state, written then and
    every `training.save_minutes`.

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
    resume : bool
        Go on with the training that was cut off: same recipe, first weights and kind of device. On a CPU the result is
        the same to the last bit as without the interruption, unless the minutes end it.

    Raises
    ------
    InputError
        When the recipe is none for epochs, its data gives too few patches, or the model to start from does not fit;
        when there is no training to resume or another one; when there is one, and `resume` was not asked for; when a
        loss is not finite: the file then has the weights of the best epoch, if one had ended.
    """
    settings, saved_state = recipe.training, state_path(output)
    if not resume:
        require_no_state(saved_state)
    run, training, held_out = _begin(recipe, device, start_from, saved_state if resume else None)
    network, optimizer = run.network, run.optimizer
    assert isinstance(network, DeepStorm)
    assert isinstance(optimizer, PlateauAdam)
    per_epoch = max(1, len(training) // settings.batch)
    started = saved = time.monotonic()
    used = run.seconds

    def write(ended: str = "") -> ModelCard:
        card = _card(run, per_epoch, ended)
        save_model(output, run.average.module, card)
        return card

    def require_finite(name: str, value: float) -> None:
        if not math.isfinite(value):
            # It would come to this again.
            saved_state.unlink(missing_ok=True)
            left = "holds the weights of the best epoch" if run.epochs else "holds none of a whole epoch"
            raise InputError(
                f"expected a finite {name}, got {value} after {run.step} steps; lower training.learning_rate (now "
                f"{settings.learning_rate:g}) or set bf16 = false; {output} {left}"
            )

    # Ctrl-C is a way to say that it is good enough.
    ended = "by hand"
    with contextlib.suppress(KeyboardInterrupt):
        while run.fraction < 1:
            order = _order(recipe, len(run.epochs), training)
            made = run.step - len(run.epochs) * per_epoch
            for part in itertools.islice(training.select(order).split(settings.batch), made, per_epoch):
                began = time.monotonic()
                with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
                    loss = network.loss(part.photons(), part.truth())
                value = loss.item()
                require_finite("loss", value)
                run.losses.append(value)
                network.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                run.step += 1
                now = time.monotonic()
                run.seconds = used + now - started
                on_progress(Progress(step=run.step, fraction=run.fraction, loss=value, network_s=now - began))
                if run.seconds >= 60 * settings.max_minutes:
                    break
                if now - saved >= 60 * settings.save_minutes:
                    if not run.epochs:
                        _keep(run)
                        write()
                    run.save(saved_state)
                    saved = now
            value = validation_loss(network, held_out, settings.batch, bf16=settings.bf16)
            require_finite("validation loss", value)
            _log.info(
                "epoch %d: loss %.4f, validation loss %.4f, learning rate %g",
                len(run.epochs) + 1,
                torch.tensor(run.losses[len(run.epochs) * per_epoch :]).mean(),
                value,
                optimizer.rate,
            )
            run.seconds = used + time.monotonic() - started
            run.epochs.append(Epoch(step=run.step, seconds=run.seconds, loss=value))
            optimizer.end_epoch(value)
            if _best(run) is run.epochs[-1]:
                _keep(run)
            run.save(saved_state)
            saved = time.monotonic()
            write_report(report_path(output), run, write())
        ended = "all epochs made" if run.step >= run.last_step else "time used up"
    if not run.epochs:
        _keep(run)
    run.average.module.eval()
    card = write(ended)
    write_report(report_path(output), run, card, TrainingData())
    if ended != "by hand":
        saved_state.unlink(missing_ok=True)
    return card


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


def _begin(
    recipe: Recipe, device: torch.device, start_from: Path | None, state: Path | None
) -> tuple[TrainingState, Patches, Patches]:
    """Return a training before its first step, or as the file `state` has it, and the patches for its two losses."""
    settings = _epoch_settings(recipe)
    torch.manual_seed(recipe.training.seed)  # the initial weights; all else draws from the generator
    generator = torch.Generator(device).manual_seed(recipe.training.seed)
    training, held_out = cut_patches(recipe.data, settings, generator)
    network = DeepStorm(recipe.data.pixel_size_nm, recipe.model.upsampling)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    origin: dict[str, object] = {"patches": len(training)}
    if start_from is None:
        network.calibrate(training.photons())
    else:
        origin |= adopt(start_from, network, recipe)
    optimizer = PlateauAdam(network, recipe.training.learning_rate, settings)
    run = TrainingState(
        recipe=recipe,
        origin=origin,
        network=network,
        average=AveragedModel(network, use_buffers=True),
        optimizer=optimizer,
        generator=generator,
        last_step=settings.count * max(1, len(training) // recipe.training.batch),
        begun=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    if state is not None:
        run.restore(state)
        for epoch in run.epochs:
            optimizer.end_epoch(epoch.loss)
        _log.info("resumed at step %d of %d after %.1f minutes", run.step, run.last_step, run.seconds / 60)
    return run, training, held_out


def _order(recipe: Recipe, epoch: int, patches: Patches) -> Tensor:
    """Return the order of the patches in an epoch, which does not depend on how it was come to."""
    device = patches.frames.device
    generator = torch.Generator(device).manual_seed(recipe.training.seed + epoch)
    return torch.randperm(len(patches), generator=generator, device=device)


def _best(run: TrainingState) -> Epoch:
    return min(run.epochs, key=lambda epoch: epoch.loss)


def _keep(run: TrainingState) -> None:
    """Make the network's weights those that are written."""
    run.average.module.load_state_dict(run.network.state_dict())


def _epoch_settings(recipe: Recipe) -> EpochSettings:
    if recipe.epochs is None or recipe.model.architecture != "deepstorm":
        raise InputError(
            f"training in epochs takes a recipe of the architecture deepstorm with an [epochs] table, got "
            f"{recipe.model.architecture} {'without' if recipe.epochs is None else 'with'} it; "
            "change the architecture, or leave out the table"
        )
    return recipe.epochs


def _card(run: TrainingState, per_epoch: int, ended: str) -> ModelCard:
    recipe, best = run.recipe, _best(run) if run.epochs else None
    step, seconds = (best.step, best.seconds) if best else (run.step, run.seconds)
    return ModelCard(
        name=recipe.name,
        architecture="deepstorm",
        arguments={"pixel_size_nm": recipe.data.pixel_size_nm, "upsampling": recipe.model.upsampling},
        normalisation=(
            f"nearest x{recipe.model.upsampling}, [0, 1] by the frame's minimum and maximum, (x - mean)/std of the "
            "training set"
        ),
        training=msgspec.to_builtins(recipe),
        trained={
            "steps": step,
            "epochs": round(step / per_epoch, 2),
            "minutes": round(seconds / 60, 1),
            "validation_loss": best.loss if best else None,
            "device": str(run.generator.device),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            **({"ended": ended} if ended else {}),
            **run.origin,
        },
        metrics={},
        pixel_sizes_nm=recipe.model.pixel_sizes_nm,
    )
