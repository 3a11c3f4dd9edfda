"""The engine's sums with PyTorch, numpy, scipy and safetensors alone: a machine with a GPU may have no more.

What stands in for the rest: a model's card without its checks, a camera's calibration without its limits.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from stormlive.server.reconstruction import Reconstruction
from stormlive_models.networks.livenet import LiveNet
from stormlive_sim.emitters import Emitters
from stormlive_sim.psf import render_gaussians

WEIGHTS = Path(__file__).parents[1] / "models" / "stormlive_models" / "weights"
_BACKGROUND, _PHOTONS = 10.0, 1000.0


@dataclass(frozen=True, kw_only=True)
class Camera:
    pixel_size_nm: float = 100.0
    baseline_adu: float = 100.0
    photons_per_adu: float = 0.5
    exposure_ms: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Card:
    name: str
    upsampling: int
    context: int


@dataclass(frozen=True, kw_only=True)
class Weights:
    network: LiveNet
    card: Card
    sha256: str = ""


def open_weights(name: str, device: torch.device) -> Weights:
    """Return shipped weights on a device, computed in float32 by PyTorch."""
    with safe_open(WEIGHTS / f"{name}.safetensors", framework="pt", device=str(device)) as file:
        arguments = json.loads(file.metadata()["stormlive_card"])["arguments"]
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    network = LiveNet(**arguments)
    network.load_state_dict(weights)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    card = Card(name=name, upsampling=network.upsampling, context=network.context)
    return Weights(network=network.eval(), card=card)


def open_canvas(weights: Sequence[Weights], shape: tuple[int, int]) -> Reconstruction:
    """Return a canvas on the devices of the weights."""
    devices = [next(one.network.parameters()).device for one in weights]
    model: Any = weights
    camera: Any = Camera()
    return Reconstruction(model, 1, devices, shape, camera)


def movie(side: int, n: int, density_per_um2: float = 3.0) -> tuple[NDArray[np.uint16], Emitters]:
    """Return frames of the camera, ADU (n, side, side), and the emitters in them."""
    generator = torch.Generator().manual_seed(0)
    each = round(density_per_um2 * (side / 10) ** 2)
    x, y = torch.rand(2, n * each, generator=generator) * side
    frame = torch.arange(n).repeat_interleave(each)
    clean = torch.full((n, side, side), _BACKGROUND)
    for some in frame.unique():
        these = frame == some
        photons = torch.full((each,), _PHOTONS)
        render_gaussians(clean, frame[these], x[these], y[these], photons, torch.tensor(1.15), radius=5)
    adu = torch.poisson(clean, generator) / Camera().photons_per_adu + Camera().baseline_adu
    truth = Emitters(frame=frame, x_nm=100 * x, y_nm=100 * y, photons=torch.full((n * each,), _PHOTONS))
    return adu.round().clamp(0, 65535).numpy().astype(np.uint16), truth
