"""The engine: frames in, super-resolved canvas out. The live server and `stormlive reconstruct` both use this one."""

import torch

from stormlive.server.devices import described, select_devices
from stormlive.server.pixel_sizes import check_pixel_size
from stormlive.server.reconstruction import Reconstruction, localizing_network
from stormlive.wire.calibration import Calibration
from stormlive_models.cel0 import Cel0
from stormlive_models.checkpoint import ModelCard
from stormlive_models.gpu import accelerate_gpu
from stormlive_models.runtime import AUTO, TORCH, accelerate
from stormlive_models.zoo import DEFAULT, camera_pixels_nm, choose, open_family
from stormlive_sim.errors import InputError


class Engine:
    """A model on its devices, ready to reconstruct any number of runs; each gets the weights that suit its camera.

    Parameters
    ----------
    model : str
        Name of a shipped model, path of a safetensors file, or ``cel0``.
    device : str
        As `select_devices` takes it; ``cpu:NAME`` is the CPU with the runtime of that name (`runtime.RUNTIMES`)
        instead of the fastest one.
    """

    def __init__(self, model: str = DEFAULT, device: str = "auto") -> None:
        place, _, runtime = device.partition(":")
        self.devices = select_devices(place if place == "cpu" else device)
        # On each device its own.
        self._families = [open_family(model, one) for one in self.devices]
        self.models = self._families[0]
        for opened in self.models:
            check_upsampling(opened.card, opened.card.name if len(self.models) > 1 else model)
        self.runtime = TORCH
        for family in self._families:
            networks = [opened.network for opened in family if not isinstance(opened.network, Cel0)]
            on_cpu = self.torch_device.type == "cpu"
            self.runtime = accelerate(networks, runtime or AUTO) if on_cpu else accelerate_gpu(networks)

    @property
    def torch_device(self) -> torch.device:
        """The first of its devices."""
        return self.devices[0]

    @property
    def model_name(self) -> str:
        """Name on the model's card."""
        return self.models[0].card.name

    @property
    def pixel_size_nm(self) -> float:
        """Camera pixel that the first of its weights was trained for; 0 for a method that takes any."""
        return self.models[0].card.pixel_size_nm

    @property
    def camera_pixels_nm(self) -> tuple[tuple[float, float], ...]:
        """(Least, greatest) camera pixels that the model takes with one or another of its weights."""
        return camera_pixels_nm(model.card for model in self.models)

    @property
    def device(self) -> str:
        """Where the model runs, in words."""
        return described(self.devices, self.runtime)

    def check_localizes(self) -> None:
        """Raise an InputError when the model does not give what a table of localizations holds."""
        for model in self.models:
            localizing_network(model)

    def open(self, shape: tuple[int, int], calibration: Calibration, *, beside: int = 0) -> Reconstruction:
        """Start a canvas for frames (Y, X), `beside` others of the same run.

        Raises
        ------
        InputError
            When the model has no weights for the camera's pixel, or there is not enough memory.
        """
        check_pixel_size(self.model_name, self.camera_pixels_nm, calibration.pixel_size_nm)
        _, binning = choose(self.models, calibration.pixel_size_nm)
        models = [choose(family, calibration.pixel_size_nm)[0] for family in self._families]
        return Reconstruction(models, binning, self.devices, shape, calibration, beside)


def check_upsampling(card: ModelCard, model: str) -> None:
    """Raise an InputError for a canvas finer than any file or screen can hold."""
    if not 1 <= card.upsampling <= 16:
        raise InputError(f"{model} asks for {card.upsampling} sub-pixels per pixel; expected 1 to 16")
