"""The engine: frames in, super-resolved canvas out. The live server and `stormlive reconstruct` both use this one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from stormlive.output.tables import LOCALIZATION, Rows, Sink
from stormlive.server.memory import available_bytes
from stormlive.wire.messages import Calibration
from stormlive_models.binning import sum_2x2
from stormlive_models.cel0 import Cel0
from stormlive_models.checkpoint import ModelCard
from stormlive_models.localize import Localizations, add_and_localize
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.runtime import AUTO, TORCH, accelerate
from stormlive_models.zoo import CEL0, DEFAULT, Model, camera_pixels_nm, choose, open_family
from stormlive_sim.errors import InputError

_BATCH_PIXELS = {"cpu": 2**16, "cuda": 2**20}
"""Pixels that go through the network at once (on the CPU 16 frames of 64x64): bounds its activations."""

_COARSE = 3
"""Level of the canvas that is kept for all coarser views: of a canvas of 1 GB it takes 16 MB."""


def select_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda:N``.

    Raises
    ------
    InputError
        When it is none of these or not in this machine.
    """
    available = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda:0" if available else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"expected --device auto, cpu or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= available:
        raise InputError(
            f"--device {name} is not in this machine, which has {available} CUDA GPUs; use --device cpu, or install "
            "the CUDA build of PyTorch"
        )
    return device


class Engine:
    """A model on a device, ready to reconstruct any number of runs; each gets the weights that suit its camera.

    Parameters
    ----------
    model : str
        Name of a shipped model, path of a safetensors file, or ``cel0``.
    device : str
        ``auto``, ``cpu`` or ``cuda:N``; ``cpu:NAME`` is the CPU with the runtime of that name (`runtime.RUNTIMES`)
        instead of the fastest one.
    """

    def __init__(self, model: str = DEFAULT, device: str = "auto") -> None:
        place, _, runtime = device.partition(":")
        self.torch_device = select_device(place if place == "cpu" else device)
        self.models = open_family(model, self.torch_device)
        for opened in self.models:
            check_upsampling(opened.card, opened.card.name if len(self.models) > 1 else model)
        self.runtime = TORCH
        if self.torch_device.type == "cpu":
            networks = [opened.network for opened in self.models if not isinstance(opened.network, Cel0)]
            self.runtime = accelerate(networks, runtime or AUTO)

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
        if self.torch_device.type == "cuda":
            return f"{self.torch_device} ({torch.cuda.get_device_name(self.torch_device)})"
        return f"cpu ({self.runtime})"

    def check_localizes(self) -> None:
        """Raise an InputError when the model does not give what a table of localizations holds."""
        for model in self.models:
            localizing_network(model)

    def open(self, shape: tuple[int, int], calibration: Calibration, *, beside: int = 0) -> "Reconstruction":
        """Start a canvas for frames (Y, X), `beside` others of the same run.

        Raises
        ------
        InputError
            When the model has no weights for the camera's pixel, or there is not enough memory.
        """
        check_pixel_size(self.model_name, self.camera_pixels_nm, calibration.pixel_size_nm)
        model, binning = choose(self.models, calibration.pixel_size_nm)
        return Reconstruction(model, binning, self.torch_device, shape, calibration, beside)


def check_pixel_size(model: str, takes_nm: Sequence[tuple[float, float]], camera_nm: float) -> None:
    """Raise an InputError unless the camera's pixel is in one of the (least, greatest) that a model takes."""
    if not any(low <= camera_nm <= high for low, high in takes_nm):
        ranges = " or ".join(f"{low:g} to {high:g}" for low, high in takes_nm)
        raise InputError(
            f"the model {model!r} takes camera pixels of {ranges} nm, this camera has {camera_nm:g} nm; correct "
            "--pixel-size-nm or choose another --model (`stormlive models` lists them)"
        )


def localizing_network(model: Model) -> LiveNet:
    """Return the network of a model if it gives what a table of localizations holds.

    Raises
    ------
    InputError
        When it does not.
    """
    if isinstance(model.network, LiveNet):
        return model.network
    card = model.card
    raise InputError(
        f"the model {card.name!r} gives "
        + ("positions without their uncertainty" if card.architecture == CEL0 else "a picture but no positions")
        + ", a table of localizations needs positions with uncertainty; leave out --localizations or choose another "
        f"--model, such as {DEFAULT}"
    )


def check_upsampling(card: ModelCard, model: str) -> None:
    """Raise an InputError for a canvas finer than any file or screen can hold."""
    if not 1 <= card.upsampling <= 16:
        raise InputError(f"{model} asks for {card.upsampling} sub-pixels per pixel; expected 1 to 16")


class Reconstruction:
    """A canvas of a run, on the engine's device; not thread-safe: whoever owns it serialises the calls.

    Attributes
    ----------
    model : Model
        The weights that were chosen for the camera.
    binning : int
        Camera pixels a side that are summed to one of the network's: 1 or 2.
    upsampling : int
        Canvas pixels along a camera pixel's side.
    n_frames : int
        Frames added.
    repaired_pixels : int
        Pixels that were NaN or infinite and were taken as dark (only float cameras have them).
    """

    def __init__(
        self,
        model: Model,
        binning: int,
        device: torch.device,
        shape: tuple[int, int],
        calibration: Calibration,
        beside: int = 0,
    ) -> None:
        self.model = model
        self.binning = binning
        self._device = device
        self._calibration = calibration
        self.upsampling = model.card.upsampling // binning
        height, width = shape
        rows, columns = -(-height // binning), -(-width // binning)
        self._computed_pixels = rows * columns * model.network.pixels_per_pixel
        n_bytes = 4 * rows * columns * model.card.upsampling**2
        # Checkpoints and files are made of a copy in the machine's own memory, of all canvases of the run at once.
        copies = n_bytes * (1 + beside)
        wanted = {self._device: n_bytes, torch.device("cpu"): copies + (n_bytes if self._device.type == "cpu" else 0)}
        too_small = InputError(
            f"a canvas for {width}x{height} pixels needs {n_bytes / 1e9:.1f} GB on {self._device} and as much again "
            "for its files, and there is less free; choose a smaller camera ROI or another --device"
        )
        for place, needed in wanted.items():
            there = available_bytes(place)
            if there is not None and needed > there:
                raise too_small
        try:
            # Of whole pixels of the network; the canvas is the part of it that lies in the camera's frame.
            self._grid = torch.zeros(rows * model.card.upsampling, columns * model.card.upsampling, device=device)
        except RuntimeError as error:
            raise too_small from error
        self._canvas = self._grid[: height * self.upsampling, : width * self.upsampling]
        # A sum of 100,000 frames in float32 would lose the last photons of each.
        self._sum = torch.zeros(shape, dtype=torch.float64, device=self._device)
        self._last = torch.zeros(shape, device=self._device)
        self.n_frames = 0
        self.repaired_pixels = 0
        self._summed: tuple[int, torch.Tensor] | None = None

    @property
    def model_name(self) -> str:
        """Name of the weights, and what is done with the camera's pixels for them."""
        return self.model.card.name + (", 2x2 pixels summed" if self.binning == 2 else "")

    def add(self, frames: NDArray[np.generic], sink: Sink | None = None) -> None:
        """Add frames (B, Y, X) in ADU, as the camera gave them, to the canvas.

        `sink` gets their localizations from the same pass of the network; `frame` is the index in `frames`.

        Raises
        ------
        InputError
            When there is a sink, and the network does not localize.
        """
        most = _BATCH_PIXELS[self._device.type] // self._computed_pixels
        pixel_nm = self._calibration.pixel_size_nm * self.binning
        first = 0
        while first < len(frames):
            # Batches of 1, 2, 4, …: the convolution library keeps working memory for every size that it ever saw.
            n = 1 << (max(1, min(most, len(frames) - first)).bit_length() - 1)
            photons = self._photons(frames[first : first + n])
            seen = sum_2x2(photons) if self.binning == 2 else photons
            if sink is None:
                self.model.network.add_increment(seen, self._grid)
            else:
                network = localizing_network(self.model)
                rows = _rows(add_and_localize(network, seen, self._grid, pixel_nm), first)
                sink(rows[self._inside(rows)])
            self._sum += photons.sum(0, dtype=torch.float64)
            self._last = photons[-1].clone()
            self.n_frames += n
            first += n

    def _inside(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which rows lie before the camera's last edges, beyond which a repeated row or column may show some."""
        height, width = (side * self._calibration.pixel_size_nm for side in self._sum.shape)
        return (rows["x_nm"] < width) & (rows["y_nm"] < height)

    def _photons(self, frames: NDArray[np.generic]) -> torch.Tensor:
        """Return photons = (ADU - baseline) x photons per ADU: the one place where this happens."""
        adu = torch.from_numpy(np.ascontiguousarray(frames)).to(self._device).float()
        if np.issubdtype(frames.dtype, np.floating):
            broken = ~torch.isfinite(adu)
            self.repaired_pixels += int(broken.sum())
            # A NaN would spread over the whole frame and stay in the canvas for ever.
            adu = adu.masked_fill(broken, self._calibration.baseline_adu)
        return (adu - self._calibration.baseline_adu) * self._calibration.photons_per_adu

    def view(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.float32]:
        """Return a rectangle of the canvas summed over blocks of 2**level, float32 (h, w).

        The rectangle lies in that level, which has ceil(side / 2**level) pixels a side. Sums, not means: a single
        localization stays visible at every zoom.
        """
        canvas, size = (self._canvas, 2**level) if level < _COARSE else (self._coarse(), 2 ** (level - _COARSE))
        part = canvas[y * size : (y + h) * size, x * size : (x + w) * size]
        return _sum_blocks(part, size).cpu().numpy()

    def _coarse(self) -> torch.Tensor:
        """Return level `_COARSE` of the canvas, which all coarser views start from until frames are added."""
        if self._summed is None or self._summed[0] != self.n_frames:
            self._summed = self.n_frames, _sum_blocks(self._canvas, 2**_COARSE)
        return self._summed[1]

    def canvas(self) -> NDArray[np.float32]:
        """Return the whole canvas, float32 (Y u, X u), in expected emitters per sub-pixel."""
        return self._canvas.cpu().numpy()

    def widefield(self) -> NDArray[np.float32]:
        """Return the mean of all frames, float32 (Y, X), in photons."""
        return (self._sum / max(1, self.n_frames)).float().cpu().numpy()

    def last(self) -> NDArray[np.float32]:
        """Return the newest frame, float32 (Y, X), in photons."""
        return self._last.cpu().numpy()

    @property
    def fingerprint(self) -> str:
        """Weights and binning: what decides the canvas of given frames."""
        return f"{self.model.card.name} {self.model.sha256} {self.binning}"

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return copies of all that depends on the frames so far."""
        counts = np.array([self.n_frames, self.repaired_pixels], np.int64)
        tensors = {"grid": self._grid, "sum": self._sum, "last": self._last}
        return {"counts": counts, **{name: np.array(tensor.cpu().numpy()) for name, tensor in tensors.items()}}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a snapshot.

        Raises
        ------
        InputError
            When it is not one of such a canvas.
        """
        for name, tensor in (("grid", self._grid), ("sum", self._sum), ("last", self._last)):
            array = arrays.get(name)
            if array is None or array.shape != tuple(tensor.shape):
                raise InputError(f"expected {name} of {tuple(tensor.shape)} in a checkpoint, got {array!r:.80}")
            tensor.copy_(torch.from_numpy(array))
        self.n_frames, self.repaired_pixels = map(int, arrays["counts"])
        self._summed = None


def _sum_blocks(canvas: torch.Tensor, size: int) -> torch.Tensor:
    """Return a canvas (Y, X) summed over blocks of `size` pixels a side, of which the last may be partial."""
    if size == 1:
        return canvas
    return functional.avg_pool2d(canvas[None], size, ceil_mode=True, divisor_override=1)[0]


def _rows(found: Localizations, first_frame: int) -> Rows:
    """Return localizations as rows of a table, in the host's memory."""
    rows = np.empty(len(found), LOCALIZATION)
    for name in LOCALIZATION.names or ():
        rows[name] = getattr(found, name).cpu().numpy()
    rows["frame"] += first_frame
    return rows
