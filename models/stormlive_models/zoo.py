"""The models that ship with the package, and the one that needs no file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from stormlive_models.cel0 import Cel0
from stormlive_models.checkpoint import ModelCard, file_sha256, load_model
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.networks.livenet import LiveNet
from stormlive_sim.errors import InputError, nearest_key_hint

_WEIGHTS = Path(__file__).parent / "weights"
DEFAULT = "livenet"
CEL0 = "cel0"


@dataclass(frozen=True, kw_only=True)
class Model:
    """What `open_model` returns.

    Attributes
    ----------
    network : LiveNet, DeepStorm or Cel0
        On its device, ready for `add_increment`.
    card : ModelCard
        What it is.
    sha256 : str
        Of the file of its weights; for CEL0, which has none, of its parameters.
    """

    network: LiveNet | DeepStorm | Cel0
    card: ModelCard
    sha256: str


def open_model(name_or_file: str, device: torch.device) -> Model:
    """Return a model, given by its shipped name, by a path or as ``cel0``, on `device`.

    Raises
    ------
    InputError
        When there is none, or its file is unusable.
    """
    if name_or_file == CEL0:
        return _cel0()
    path = find_model(name_or_file)
    network, card = load_model(path, device)
    return Model(network=network, card=card, sha256=file_sha256(path))


def _cel0() -> Model:
    method = Cel0()
    # The pixel size is left out: it scales the method's positions, and decides nothing about the picture.
    arguments = {name: value for name, value in vars(method).items() if name != "pixel_size_nm"}
    card = ModelCard(
        name=CEL0,
        architecture=CEL0,
        arguments=arguments,
        normalisation="none: least squares on photons, the background is fitted along",
        training={},
        trained={},
        metrics={},
    )
    return Model(network=method, card=card, sha256=hashlib.sha256(msgspec.json.encode(arguments)).hexdigest())


def shipped() -> dict[str, Path]:
    """Return the shipped models by name."""
    return {path.stem: path for path in sorted(_WEIGHTS.glob("*.safetensors"))}


def find_model(name_or_file: str) -> Path:
    """Return the file of a network given by its shipped name or by a path.

    Raises
    ------
    InputError
        When it is neither.
    """
    if name_or_file == CEL0:
        raise InputError(f"{CEL0} is no network and has no weights; choose a network (see `stormlive models`)")
    models = shipped()
    if name_or_file in models:
        return models[name_or_file]
    path = Path(name_or_file)
    if path.suffix == ".safetensors" or path.exists():
        return path  # reading it says what is wrong with it, if anything
    hint = nearest_key_hint(name_or_file, [*models, CEL0])
    raise InputError(f"there is no model {name_or_file!r}{hint} (or give a file)")
