"""Weights in files: safetensors with the model card inside. Nothing that is loaded can run code."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.networks.livenet import LiveNet
from stormlive_sim.atomic import whole_file
from stormlive_sim.errors import InputError

ARCHITECTURES: dict[str, type[LiveNet] | type[DeepStorm]] = {"livenet": LiveNet, "deepstorm": DeepStorm}
_KEY = "stormlive_card"
_TOLERANCE = 0.1


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a user must know before trusting a model.

    Attributes
    ----------
    name : str
        How the model is called.
    architecture : str
        A key of `ARCHITECTURES`.
    arguments : dict
        What the architecture is built with; holds `upsampling` and, where it was trained for one, `pixel_size_nm`.
    normalisation : str
        How photons become the network's input, in words.
    training : dict
        The recipe, whole.
    trained : dict
        How far: steps, minutes, device, date.
    metrics : dict
        Figures measured on simulated frames, each named with its conditions.
    pixel_sizes_nm : (float, float), optional
        Least and greatest pixel that the network takes; within 10 % of `pixel_size_nm` unless given.
    """

    name: str
    architecture: str
    arguments: dict[str, Any]
    normalisation: str
    training: dict[str, Any]
    trained: dict[str, Any]
    metrics: dict[str, Any]
    pixel_sizes_nm: tuple[float, float] | None = None

    @property
    def pixel_size_nm(self) -> float:
        """Camera pixel that the model was trained for; 0 for a method that takes any."""
        return float(self.arguments.get("pixel_size_nm", 0))

    @property
    def upsampling(self) -> int:
        """Sub-pixels per pixel of the network and axis."""
        return int(self.arguments["upsampling"])

    @property
    def context(self) -> int:
        """Neighbouring frames either side that the model sees of each frame."""
        return int(self.arguments.get("context", 0))

    @property
    def camera_pixels_nm(self) -> dict[int, tuple[float, float]]:
        """Least and greatest camera pixel that it takes: as it is (1) and, where the canvas allows, summed 2x2 (2)."""
        trained_nm = self.pixel_size_nm
        low, high = self.pixel_sizes_nm or (trained_nm * (1 - _TOLERANCE), trained_nm * (1 + _TOLERANCE))
        whole = {1: (low, high)}
        return whole if self.upsampling % 2 else {**whole, 2: (low / 2, high / 2)}


def save_model(path: Path, network: nn.Module, card: ModelCard) -> None:
    """Write weights and card; a file that exists is replaced only when the new one is complete."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with whole_file(path) as part:
        part.write_bytes(save(tensors, {_KEY: msgspec.json.encode(card).decode()}))


def read_card(path: Path) -> ModelCard:
    """Read the card alone, without the weights.

    Raises
    ------
    InputError
        When the file is missing, is no safetensors file or carries no card of ours, or the card does not tell what
        a reconstruction needs to know.
    """
    if not path.is_file():
        raise InputError(f"model file {path} does not exist; `stormlive models` lists the models that are installed")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is no safetensors file ({error}); expected one written by `stormlive train`"
        ) from error
    if _KEY not in metadata:
        raise InputError(f"{path} carries no stormlive model card; expected a file written by `stormlive train`")
    try:
        card = msgspec.json.decode(metadata[_KEY], type=ModelCard)
    except msgspec.DecodeError as error:
        raise InputError(f"the model card in {path} cannot be read ({error}); train or download it anew") from error
    if card.architecture not in ARCHITECTURES:
        raise InputError(
            f"{path} holds the architecture {card.architecture!r}, this version knows {sorted(ARCHITECTURES)}; "
            "update stormlive"
        )
    pixel_size_nm, upsampling = card.arguments.get("pixel_size_nm"), card.arguments.get("upsampling")
    if not (
        isinstance(pixel_size_nm, int | float) and pixel_size_nm > 0 and type(upsampling) is int and upsampling > 0
    ):
        raise InputError(
            f"the model card in {path} lacks a pixel size or an upsampling above 0 (pixel_size_nm {pixel_size_nm!r}, "
            f"upsampling {upsampling!r}); train or download it anew"
        )
    if card.pixel_sizes_nm is not None and not 0 < card.pixel_sizes_nm[0] <= card.pixel_sizes_nm[1]:
        raise InputError(
            f"the model card in {path} has pixel_sizes_nm {list(card.pixel_sizes_nm)}, expected [least, greatest] "
            "above 0; train or download it anew"
        )
    return card


def load_model(path: Path, device: torch.device) -> tuple[LiveNet | DeepStorm, ModelCard]:
    """Read weights and card and return the network in evaluation mode on `device`.

    Raises
    ------
    InputError
        When the file is unusable (see `read_card`) or the weights do not fit the card's architecture.
    """
    card = read_card(path)
    try:
        network = ARCHITECTURES[card.architecture](**card.arguments)
        with safe_open(path, framework="pt", device=str(device)) as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the weights in {path} do not fit its card ({reason}); train or download it anew") from error
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval(), card


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, which names the weights in ``run.json``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
