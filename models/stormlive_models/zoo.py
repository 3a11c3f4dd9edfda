"""The models that ship with the package, and the one that needs no file.

A model's name stands for a family of weights, each for its range of camera pixels: ``livenet`` for ``livenet`` and
``livenet-140nm``. The name of one file stands for that file alone.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
_ANY_NM = (1.0, 10_000.0)


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


def open_family(name_or_file: str, device: torch.device) -> tuple[Model, ...]:
    """Return all weights that a model's name stands for, on `device`; of a path or of ``cel0``, that one.

    Raises
    ------
    InputError
        As `open_model` does.
    """
    return tuple(open_model(name, device) for name in family(name_or_file))


def family(name_or_file: str) -> list[str]:
    """Return the names of all weights that a model's name stands for; its own comes first."""
    sibling = re.compile(re.escape(name_or_file) + r"-\d+nm")
    return [name_or_file, *(name for name in shipped() if sibling.fullmatch(name))]


def camera_pixels_nm(cards: Iterable[ModelCard]) -> tuple[tuple[float, float], ...]:
    """Return the (least, greatest) camera pixels that one or another of the weights takes, joined where they meet."""
    joined: list[tuple[float, float]] = []
    for low, high in sorted(span for card in cards for span in card.camera_pixels_nm.values()):
        if joined and low <= joined[-1][1]:
            low, high = joined[-1][0], max(high, joined.pop()[1])
        joined.append((low, high))
    return tuple(joined)


def choose(models: Sequence[Model], camera_nm: float) -> tuple[Model, int]:
    """Return the weights for a camera, and how many of its pixels a side are summed for them (1 or 2).

    Those that take the pixels as they are go before those that need sums of 2x2, then those trained nearest, then
    those for larger pixels, which know narrower spots. CEL0 comes with its PSF in pixels of this camera.

    Raises
    ------
    ValueError
        When none takes this camera, see `camera_pixels_nm`.
    """
    fits = [
        (binning, abs(binning * camera_nm - model.card.pixel_size_nm), -model.card.pixel_size_nm, i)
        for i, model in enumerate(models)
        for binning, (low, high) in model.card.camera_pixels_nm.items()
        if low <= camera_nm <= high
    ]
    binning, _, _, best = min(fits)
    model = models[best]
    if isinstance(model.network, Cel0):
        model = replace(model, network=model.network.on_pixels(binning * camera_nm))
    return model, binning


def _cel0() -> Model:
    method = Cel0()
    # The pixel size is left out: it is that of each camera, see `choose`.
    arguments = {name: value for name, value in vars(method).items() if name != "pixel_size_nm"}
    card = ModelCard(
        name=CEL0,
        architecture=CEL0,
        arguments=arguments,
        normalisation="none: least squares on photons, the background is fitted along",
        training={},
        trained={},
        metrics={},
        pixel_sizes_nm=_ANY_NM,
    )
    return Model(network=method, card=card, sha256=hashlib.sha256(msgspec.json.encode(arguments)).hexdigest())


def shipped() -> dict[str, Path]:
    """Return the shipped models by name."""
    return {path.stem: path for path in sorted(_WEIGHTS.glob("*.safetensors"), key=lambda path: path.stem)}


def families() -> list[str]:
    """Return the names of the shipped models, of each family one."""
    members = {member for name in shipped() for member in family(name)[1:]}
    return [name for name in shipped() if name not in members]


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
    hint = nearest_key_hint(name_or_file, [*models, CEL0], "those that ship are")
    raise InputError(f"there is no model {name_or_file!r}{hint} (or give a file)")
