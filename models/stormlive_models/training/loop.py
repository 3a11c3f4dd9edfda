"""One training loop, readable from top to bottom."""

import contextlib
import datetime
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import msgspec
import torch

from stormlive_models.checkpoint import ModelCard, load_model, save_model
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training.history import Progress, Validation, since_best
from stormlive_models.training.optimizer import Optimizer
from stormlive_models.training.recipe import Recipe
from stormlive_models.training.report import report_path, write_report
from stormlive_models.training.source import TrainingData
from stormlive_models.training.start import arguments_of, begin
from stormlive_models.training.state import TrainingState, require_no_state, state_path
from stormlive_models.training.validation import card_metrics, validate
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError

_NORMALISATION = {
    "livenet": "(photons - p20)/50 and sqrt(photons+1) - sqrt(p20+1), halved; p20: 20th percentile of 32x32 blocks",
    "deepstorm": "nearest x8, [0, 1] by the frame's minimum and maximum, (x - mean)/std of the training set",
}
_CONTEXT = "; of the frame before, the frame and the frame after, 0 for one that is absent"


def train(
    recipe: Recipe,
    output: Path,
    device: torch.device,
    on_progress: Callable[[Progress], None] = lambda _: None,
    source: TrainingData = TrainingData(),
    start_from: Path | None = None,
    *,
    resume: bool = False,
) -> ModelCard:
    """Train by a recipe and write the weights, and beside them a report page and, until the end, the training's state.

    Weights, report and state are written anew at every validation, the state also every `save_minutes`, so that a kill
    costs little. The weights are an average over the last steps. Those of the last step are kept, not those of the
    best validation: as the learning rate falls to 0 the last are the best, up to the noise of a validation. Only
    where `patience` ends a training early, those of its best validation are.

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
    resume : bool
        Go on with the training that was cut off: same recipe, data, first weights and kind of device. On a CPU the
        result of a recipe that ends by its steps is the same to the last bit as without the interruption.

    Raises
    ------
    InputError
        When the model to start from is unusable, or not of the recipe's architecture and pixel size; when there is no
        training to resume or another one; when there is one, and `resume` was not asked for.
    """
    if recipe.epochs is not None:
        raise InputError("a recipe with an [epochs] table is for `train_original`")
    settings, saved_state = recipe.training, state_path(output)
    if not resume:
        require_no_state(saved_state)
    run = begin(recipe, device, source, start_from, saved_state if resume else None)
    started = saved = time.monotonic()
    used = run.seconds
    # Ctrl-C is a way to say that it is good enough.
    ended = "by hand"
    with contextlib.suppress(KeyboardInterrupt):
        while not (reason := _reason_to_end(run)):
            began = time.monotonic()
            photons, truth = source.sample(recipe.data, settings.batch, run.generator)
            # No wait for a GPU is needed: taking emitters out of a table, the last thing done, is one.
            sampled = time.monotonic()
            run.losses.append(learn(run, photons, truth))
            finished = time.monotonic()
            run.step += 1
            run.seconds = used + finished - started
            run.data_seconds += sampled - began
            scores = None
            at_validation = run.step % settings.validate_every == 0
            if at_validation:
                if isinstance(run.average.module, LiveNet):
                    scores = validate(run.average.module, recipe.data, sample=source.held_out)
                    run.validations.append(Validation(step=run.step, scores=scores))
                    if settings.patience and since_best(run.validations) == 0:
                        run.best = {name: value.clone() for name, value in run.average.module.state_dict().items()}
                run.seconds = used + time.monotonic() - started
            if at_validation or time.monotonic() - saved > 60 * settings.save_minutes:
                run.save(saved_state)
                saved = time.monotonic()
            if at_validation:
                card = _card(run, {k: asdict(v) for k, v in scores.items()} if scores else {})
                save_model(output, run.average.module, card)
                write_report(report_path(output), run, card)
            on_progress(
                Progress(
                    step=run.step,
                    fraction=run.fraction,
                    loss=run.losses[-1],
                    data_s=sampled - began,
                    network_s=finished - sampled,
                    validation=scores,
                )
            )
        ended = reason
        if _gets_no_better(run):
            run.average.module.load_state_dict(run.best)
    run.average.module.eval()
    card = _card(run, card_metrics(run.average.module, recipe.data, source, _without_context(run, start_from)), ended)
    save_model(output, run.average.module, card)
    write_report(report_path(output), run, card, source)
    if ended != "by hand":
        saved_state.unlink(missing_ok=True)
    return card


def learn(run: TrainingState, photons: torch.Tensor, truth: Emitters) -> float:
    """Make one step on frames (B, Y, X) and their emitters, and return the loss; NaN and no step if a frame has one."""
    if not torch.isfinite(photons).all():
        return math.nan  # the loss alone would tell too late: normalisation over batches remembers what it sees
    settings = run.recipe.training
    assert isinstance(run.optimizer, Optimizer)
    rate = min(1.0, (run.step + 1) / settings.warmup_steps) * 0.5 * (1 + math.cos(math.pi * run.fraction))
    run.optimizer.set_rate(settings.learning_rate * rate)
    with torch.autocast(photons.device.type, torch.bfloat16, enabled=settings.bf16):
        loss = run.network.loss(photons, truth)
    run.network.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    # One frame of a very dense, very bright kind must not throw the others' progress away.
    norm = torch.nn.utils.clip_grad_norm_(run.network.parameters(), 10.0)
    if torch.isfinite(norm):
        run.optimizer.step()
        run.average.update_parameters(run.network)
    return loss.item()


def _without_context(run: TrainingState, start_from: Path | None) -> LiveNet | None:
    """Return the network without context that one with it began with, to be judged beside it on the same frames."""
    if start_from is None or not run.recipe.model.context:
        return None
    network, _ = load_model(start_from, run.generator.device)
    return network if isinstance(network, LiveNet) and not network.context else None


def _reason_to_end(run: TrainingState) -> str:
    if _gets_no_better(run):
        return f"no better in {run.recipe.training.patience} validations"
    if run.step >= run.recipe.training.steps:
        return "all steps made"
    return "time used up" if run.fraction >= 1 else ""


def _gets_no_better(run: TrainingState) -> bool:
    return 0 < run.recipe.training.patience <= since_best(run.validations)


def _card(run: TrainingState, metrics: dict[str, object], ended: str = "") -> ModelCard:
    recipe = run.recipe
    return ModelCard(
        name=recipe.name,
        architecture=recipe.model.architecture,
        arguments=arguments_of(recipe),
        normalisation=_NORMALISATION[recipe.model.architecture] + (_CONTEXT if recipe.model.context else ""),
        training=msgspec.to_builtins(recipe),
        trained={
            "steps": run.step,
            "minutes": round(run.seconds / 60, 1),
            "device": str(run.generator.device),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            **({"ended": ended} if ended else {}),
            **run.origin,
        },
        metrics=metrics,
        pixel_sizes_nm=recipe.model.pixel_sizes_nm,
    )
