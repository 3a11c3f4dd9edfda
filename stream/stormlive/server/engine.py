"""The engine: frames in, super-resolved canvas out. The live server and `stormlive reconstruct` both use this one."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from stormlive.output.tables import LOCALIZATION, Rows
from stormlive.server.protocols import Sink
from stormlive.wire.messages import Calibration
from stormlive_models.checkpoint import ModelCard
from stormlive_models.localize import Localizations, add_and_localize
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.zoo import DEFAULT, open_model
from stormlive_sim.errors import InputError

_PIXEL_SIZE_TOLERANCE = 0.1
_BATCH_PIXELS = {"cpu": 2**16, "cuda": 2**20}
"""Camera pixels that go through the network at once (on the CPU 16 frames of 64x64): bounds its activations."""


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
    """A model on a device, ready to reconstruct any number of runs.

    Parameters
    ----------
    model : str
        Name of a shipped model, path of a safetensors file, or ``cel0``.
    device : str
        ``auto``, ``cpu`` or ``cuda:N``.
    """

    def __init__(self, model: str = DEFAULT, device: str = "auto") -> None:
        self.torch_device = select_device(device)
        opened = open_model(model, self.torch_device)
        self.network, self.card, self.weights_sha256 = opened.network, opened.card, opened.sha256
        check_upsampling(self.card, model)

    @property
    def model_name(self) -> str:
        """Name on the model's card."""
        return self.card.name

    @property
    def pixel_size_nm(self) -> float:
        """Camera pixel that the model was trained for; 0 for a method that takes any."""
        return self.card.pixel_size_nm

    @property
    def device(self) -> str:
        """Where the model runs, in words."""
        if self.torch_device.type == "cuda":
            return f"{self.torch_device} ({torch.cuda.get_device_name(self.torch_device)})"
        return "cpu"

    def localizing_network(self) -> LiveNet:
        """Return the network if it finds emitters one by one.

        Raises
        ------
        InputError
            When it gives a picture only.
        """
        if isinstance(self.network, LiveNet):
            return self.network
        raise InputError(
            f"the model {self.card.name!r} ({self.card.architecture}) gives a picture but no localizations; leave out "
            "--localizations or choose a --model with detection heads, such as livenet"
        )

    def open(self, shape: tuple[int, int], calibration: Calibration) -> "Reconstruction":
        """Start the canvas of a run of frames (Y, X).

        Raises
        ------
        InputError
            When the camera's pixel size contradicts the model's.
        """
        check_pixel_size(self.card.name, self.card.pixel_size_nm, calibration.pixel_size_nm)
        return Reconstruction(self, shape, calibration)


def check_pixel_size(model: str, model_nm: float, camera_nm: float) -> None:
    """Raise an InputError unless the camera's pixel is within 10 % of the model's; a model's 0 takes any."""
    if model_nm and not math.isclose(camera_nm, model_nm, rel_tol=_PIXEL_SIZE_TOLERANCE):
        raise InputError(
            f"the model {model!r} was trained for {model_nm:g} nm pixels, the camera has {camera_nm:g} nm; correct "
            "--pixel-size-nm or choose another --model (`stormlive models` lists them)"
        )


def check_upsampling(card: ModelCard, model: str) -> None:
    """Raise an InputError for a canvas finer than any file or screen can hold."""
    if not 1 <= card.upsampling <= 16:
        raise InputError(f"{model} asks for {card.upsampling} sub-pixels per pixel; expected 1 to 16")


class Reconstruction:
    """The canvas of one run, on the engine's device; not thread-safe: whoever owns it serialises the calls.

    Attributes
    ----------
    n_frames : int
        Frames added.
    repaired_pixels : int
        Pixels that were NaN or infinite and were taken as dark (only float cameras have them).
    """

    def __init__(self, engine: Engine, shape: tuple[int, int], calibration: Calibration) -> None:
        self._engine = engine
        self._device = engine.torch_device
        self._calibration = calibration
        self.upsampling = engine.card.upsampling
        self.pixel_size_nm = calibration.pixel_size_nm
        height, width = shape
        try:
            self._canvas = torch.zeros(height * self.upsampling, width * self.upsampling, device=self._device)
        except RuntimeError as error:
            gigabytes = height * width * self.upsampling**2 * 4 / 1e9
            raise InputError(
                f"a canvas for {width}x{height} pixels needs {gigabytes:.1f} GB on {self._device}, which it does not "
                "have; choose a smaller camera ROI or another --device"
            ) from error
        # A sum of 100,000 frames in float32 would lose the last photons of each.
        self._sum = torch.zeros(shape, dtype=torch.float64, device=self._device)
        self._last = torch.zeros(shape, device=self._device)
        self.n_frames = 0
        self.repaired_pixels = 0

    def add(self, frames: NDArray[np.generic], sink: Sink | None = None) -> None:
        """Add frames (B, Y, X) in ADU, as the camera gave them, to the canvas.

        `sink` gets their localizations from the same pass of the network; `frame` is the index in `frames`.

        Raises
        ------
        InputError
            When there is a sink, and the network does not localize.
        """
        most = _BATCH_PIXELS[self._device.type] // (self._last.numel() * self._engine.network.pixels_per_pixel)
        first = 0
        while first < len(frames):
            # Batches of 1, 2, 4, …: the convolution library keeps working memory for every size that it ever saw.
            n = 1 << (max(1, min(most, len(frames) - first)).bit_length() - 1)
            photons = self._photons(frames[first : first + n])
            if sink is None:
                self._engine.network.add_increment(photons, self._canvas)
            else:
                network = self._engine.localizing_network()
                sink(_rows(add_and_localize(network, photons, self._canvas, self.pixel_size_nm), first))
            self._sum += photons.sum(0, dtype=torch.float64)
            self._last = photons[-1].clone()
            self.n_frames += n
            first += n

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
        size = 2**level
        part = self._canvas[y * size : (y + h) * size, x * size : (x + w) * size]
        part = functional.pad(part, (0, w * size - part.shape[1], 0, h * size - part.shape[0]))
        return part.reshape(h, size, w, size).sum((1, 3)).cpu().numpy()

    def canvas(self) -> NDArray[np.float32]:
        """Return the whole canvas, float32 (Y u, X u), in expected emitters per sub-pixel."""
        return self._canvas.cpu().numpy()

    def widefield(self) -> NDArray[np.float32]:
        """Return the mean of all frames, float32 (Y, X), in photons."""
        return (self._sum / max(1, self.n_frames)).float().cpu().numpy()

    def last(self) -> NDArray[np.float32]:
        """Return the newest frame, float32 (Y, X), in photons."""
        return self._last.cpu().numpy()


def _rows(found: Localizations, first_frame: int) -> Rows:
    """Return localizations as rows of a table, in the host's memory."""
    rows = np.empty(len(found), LOCALIZATION)
    for name in LOCALIZATION.names or ():
        rows[name] = getattr(found, name).cpu().numpy()
    rows["frame"] += first_frame
    return rows
