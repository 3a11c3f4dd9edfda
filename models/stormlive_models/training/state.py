"""The state of a training in a file, so that it goes on after a kill as if nothing had happened.

Everything that the next step depends on is in it: weights, their average, the optimizer's moments, the generator and
the time used. The file is safetensors with the rest as JSON inside: nothing that is loaded can run code.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training.history import Epoch, Validation
from stormlive_models.training.optimizer import Optimizer
from stormlive_models.training.plateau import PlateauAdam
from stormlive_models.training.recipe import Recipe
from stormlive_sim.atomic import whole_file
from stormlive_sim.errors import InputError

_KEY = "stormlive_training"


class Standing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a training is, and which one it is: all that is no tensor.

    Attributes
    ----------
    recipe, origin : dict
        The recipe, and what the card says of data and first weights.
    device : str
        Kind of device; a generator of one kind cannot go on on another.
    begun : str
        Date and time of the first step, ISO 8601.
    step : int
        Steps made.
    seconds, data_seconds : float
        Time used, and the part of it that went into frames.
    validations : list of Validation
        All so far.
    epochs : list of Epoch
        All so far, of a training in epochs.
    """

    recipe: dict[str, Any]
    origin: dict[str, Any]
    device: str
    begun: str
    step: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0
    validations: list[Validation] = []
    epochs: list[Epoch] = []


@dataclass(kw_only=True)
class TrainingState:
    """A training between two steps.

    Attributes
    ----------
    recipe : Recipe
        What it is trained by.
    origin : mapping
        What the card says of data and first weights.
    network, optimizer, generator
        What a step changes.
    average : AveragedModel
        What is written: an average of the network over the last steps; in epochs, the network after the best one.
    last_step : int
        Steps of the whole training, unless its time is up before.
    begun : str
        Date and time of the first step, ISO 8601.
    step : int
        Steps made.
    seconds, data_seconds : float
        Time used, over all sessions, and the part of it that went into frames.
    losses : list of float
        Of every step.
    validations : list of Validation
        All so far.
    best : dict of Tensor
        The average's weights at the best validation; kept only where an early stop can ask for them.
    epochs : list of Epoch
        All so far, of a training in epochs.
    """

    recipe: Recipe
    origin: Mapping[str, object]
    network: LiveNet | DeepStorm
    average: AveragedModel
    optimizer: Optimizer | PlateauAdam
    generator: torch.Generator
    last_step: int
    begun: str
    step: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def fraction(self) -> float:
        """How much of the training is done, by steps or by time, whichever is farther."""
        return max(self.step / self.last_step, self.seconds / 60 / self.recipe.training.max_minutes)

    def save(self, path: Path) -> None:
        """Write the state; the previous one is replaced only when this one is complete."""
        tensors = {"losses": torch.tensor(self.losses), "generator": self.generator.get_state()}
        for part, values in (
            ("network", self.network.state_dict()),
            ("average", self.average.state_dict()),
            ("best", self.best),
            *_moments(self.optimizer.state_dict()),
        ):
            tensors |= {f"{part}/{name}": value.detach().cpu().contiguous() for name, value in values.items()}
        with whole_file(path) as part_file:
            part_file.write_bytes(save(tensors, {_KEY: json.dumps(msgspec.to_builtins(self._standing()))}))

    def restore(self, path: Path) -> None:
        """Go on where the file at `path` was written.

        Raises
        ------
        InputError
            When the file is missing or damaged, or is that of another recipe, other data or another device.
        """
        standing = read_standing(path)
        self._check_same(path, standing)
        try:
            # Not `safe_open`: its tensors lie in the mapped file, which Windows then would not let `save` replace.
            tensors = load(path.read_bytes())
            self.network.load_state_dict(_part(tensors, "network"))
            self.average.load_state_dict(_part(tensors, "average"))
            self._restore_moments(tensors)
            self.generator.set_state(tensors["generator"])
            self.losses = tensors["losses"].tolist()
        except (SafetensorError, OSError, KeyError, RuntimeError, IndexError, ValueError, TypeError) as error:
            raise _damaged(path, error) from error
        self.best = {name: value.to(self.generator.device) for name, value in _part(tensors, "best").items()}
        self.begun, self.step, self.seconds = standing.begun, standing.step, standing.seconds
        self.data_seconds, self.validations = standing.data_seconds, list(standing.validations)
        self.epochs = list(standing.epochs)

    def _standing(self) -> Standing:
        return Standing(
            recipe=_plain(self.recipe),
            origin=_plain(dict(self.origin)),
            device=self.generator.device.type,
            begun=self.begun,
            step=self.step,
            seconds=self.seconds,
            data_seconds=self.data_seconds,
            validations=self.validations,
            epochs=self.epochs,
        )

    def _check_same(self, path: Path, theirs: Standing) -> None:
        ours = self._standing()
        differences = _differences(theirs.recipe, ours.recipe)
        if differences:
            raise InputError(
                f"{path} is a training by another recipe ({'; '.join(differences)}); give the recipe that it was begun "
                "with, or leave out --resume and delete the file to begin anew"
            )
        differences = _differences(theirs.origin, ours.origin)
        if differences:
            raise InputError(
                f"{path} is a training on other data or from other first weights ({'; '.join(differences)}); give "
                "the options that it was begun with"
            )
        if theirs.device != ours.device:
            raise InputError(f"{path} is a training on {theirs.device}; it can go on there only, got {ours.device}")

    def _restore_moments(self, tensors: Mapping[str, Tensor]) -> None:
        state = self.optimizer.state_dict()
        for k, own in enumerate(state):
            for name, value in tensors.items():
                part, _, moment = name.partition("/")
                if part.startswith(f"moments.{k}."):
                    # In the memory order of the weights, as it was: another order may round otherwise.
                    kept = value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
                    own["state"].setdefault(int(part.rpartition(".")[2]), {})[moment] = kept
        self.optimizer.load_state_dict(state)


def state_path(output: Path) -> Path:
    """Return where the state of the training of `output` lies: ``MODEL.state`` beside ``MODEL.safetensors``."""
    return output.with_name(output.name.removesuffix(".safetensors") + ".state")


def require_no_state(path: Path) -> None:
    """Raise an InputError where a new training would replace one that can still go on, which may be hours of work."""
    if path.exists():
        try:
            left = f"was left at step {read_standing(path).step}"
        except InputError:
            left = "cannot be read"
        raise InputError(
            f"{path} is an unfinished training that {left}; add --resume to go on with it, or delete the file to begin "
            "anew"
        )


def read_standing(path: Path) -> Standing:
    """Read how far a training is, without its weights.

    Raises
    ------
    InputError
        When the file is missing or damaged.
    """
    if not path.is_file():
        raise InputError(
            f"there is nothing to resume: {path} does not exist (it is removed when a training is complete); leave "
            "out --resume to begin"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        # json, not msgspec: a score may be NaN.
        return msgspec.convert(json.loads(metadata[_KEY]), Standing)
    except (SafetensorError, OSError, KeyError, ValueError, msgspec.ValidationError) as error:
        raise _damaged(path, error) from error


def _moments(state: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield what an optimizer remembers of each of its parameters, named by number."""
    for k, part in enumerate(state):
        for i, values in part["state"].items():
            yield f"moments.{k}.{i}", values


def _damaged(path: Path, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{path} is no state of a training that can go on here ({reason}); delete it and begin anew")


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith(f"{part}/")}


def _plain(value: object) -> dict[str, Any]:
    """Return what JSON makes of a value."""
    return msgspec.json.decode(msgspec.json.encode(value), type=dict[str, Any])


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted({*theirs, *ours}):
        then, now = theirs.get(key), ours.get(key)
        if isinstance(then, dict) and isinstance(now, dict):
            found += _differences(then, now, f"{prefix}{key}.")
        elif then != now:
            found.append(f"{prefix}{key} was {then!r}, now {now!r}")
    return found
