"""A run's canvas, on one device or as the sum of several."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormlive.output.tables import Rows, Sink
from stormlive.server.accumulator import Accumulator
from stormlive.server.memory import available_bytes
from stormlive_models.cel0 import Cel0
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.tiling import out_of_memory
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.wire.calibration import Calibration
    from stormlive.wire.fields import Region
    from stormlive_models.zoo import Model


class Reconstruction:
    """The canvas of a run's frames; not thread-safe: whoever owns it serialises the calls.

    Parameters
    ----------
    models : sequence of Model
        The same weights on each of the devices.
    binning : int
        Camera pixels a side that are summed to one of the network's: 1 or 2.
    devices : sequence of device
        Frames are dealt out among them.
    shape : (int, int)
        Camera pixels (Y, X).
    beside : int
        Other canvases of the same run.

    Attributes
    ----------
    model : Model
        The weights that were chosen for the camera.
    binning : int
    upsampling : int
        Canvas pixels along a camera pixel's side.
    n_frames : int
        Frames added.

    Raises
    ------
    InputError
        When there is not enough memory.
    """

    def __init__(
        self,
        models: "Sequence[Model]",
        binning: int,
        devices: Sequence[torch.device],
        shape: tuple[int, int],
        calibration: "Calibration",
        beside: int = 0,
    ) -> None:
        self.model = models[0]
        self.binning = binning
        self.upsampling = self.model.card.upsampling // binning
        too_small = _check_memory(devices, shape, self.model.card.upsampling, binning, beside)
        try:
            self._parts = [
                Accumulator(model, binning, device, shape, calibration)
                for model, device in zip(models, devices, strict=True)
            ]
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise too_small from error
        # Which of them has the newest frame.
        self._newest = 0
        self.n_frames = 0

    @property
    def context(self) -> int:
        """Neighbouring frames either side that the model sees of each frame."""
        return self.model.card.context

    @property
    def model_name(self) -> str:
        """Name of the weights, and what is done with the camera's pixels for them."""
        return self.model.card.name + (", 2x2 pixels summed" if self.binning == 2 else "")

    @property
    def repaired_pixels(self) -> int:
        """Pixels that were NaN or infinite and were taken as dark (only float cameras have them)."""
        return int(self._total(lambda part: part.repaired))

    def add(
        self,
        frames: NDArray[np.generic],
        sink: Sink | None = None,
        own: slice = slice(None),
        *,
        region: "Region | None" = None,
    ) -> None:
        """Add frames (B, Y, X) in ADU, as the camera gave them, to the canvas.

        Parameters
        ----------
        frames : ndarray
            The frames, consecutive ones where the model has context.
        sink : callable, optional
            Gets their localizations from the same pass of the network; `frame` is the index in `frames[own]`.
        own : slice
            Which of `frames` are added; the others are their neighbours.
        region : (int, int, int, int), optional
            One of `computed_region`: the network gets these pixels only, as if the camera had no others.

        Raises
        ------
        InputError
            When there is a sink, and the network does not localize.
        """
        if sink is not None:
            localizing_network(self.model)
        begin, end, _ = own.indices(len(frames))
        shares = self._shares(begin, end)

        def work(share: tuple[Accumulator, slice]) -> list[Rows]:
            part, its = share
            return part.add(frames, its, localize=sink is not None, region=region)

        if len(shares) == 1:
            tables = [work(shares[0])]
        else:
            with ThreadPoolExecutor(len(shares)) as pool:
                tables = list(pool.map(work, shares))
        self.n_frames += end - begin
        if sink is None:
            return
        for (_, its), found in zip(shares, tables, strict=True):
            for rows in found:
                rows["frame"] += its.start - begin
                sink(rows)

    def _shares(self, begin: int, end: int) -> list[tuple[Accumulator, slice]]:
        """Deal out frames: consecutive ones to each device; the first goes to the one behind that with the newest."""
        n = min(len(self._parts), end - begin)
        edges = [begin + number * (end - begin) // n for number in range(n + 1)] if n else []
        shares = []
        for first, last in pairwise(edges):
            self._newest = (self._newest + 1) % len(self._parts)
            shares.append((self._parts[self._newest], slice(first, last)))
        return shares

    def _total(self, of: Callable[[Accumulator], Tensor]) -> Tensor:
        """Return the sum of something of all devices, on the first."""
        total, *others = map(of, self._parts)
        for other in others:
            total = total + other.to(total.device)
        return total

    def view(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.float32]:
        """Return a rectangle of the canvas summed over blocks of 2**level, float32 (h, w).

        The rectangle lies in that level, which has ceil(side / 2**level) pixels a side. Sums, not means: a single
        localization stays visible at every zoom.
        """
        return self._total(lambda part: part.grid.view(level, x, y, w, h)).cpu().numpy()

    def canvas(self) -> NDArray[np.float32]:
        """Return the whole canvas, float32 (Y u, X u), in expected emitters per sub-pixel."""
        return self._total(lambda part: part.grid.canvas).cpu().numpy()

    def widefield(self) -> NDArray[np.float32]:
        """Return the mean of all frames, float32 (Y, X), in photons."""
        return (self._total(lambda part: part.sum) / max(1, self.n_frames)).float().cpu().numpy()

    def last(self) -> NDArray[np.float32]:
        """Return the newest frame, float32 (Y, X), in photons."""
        return self._parts[self._newest].last.cpu().numpy()

    @property
    def fingerprint(self) -> str:
        """Weights and binning: what decides the canvas of given frames."""
        return f"{self.model.card.name} {self.model.sha256} {self.binning}"

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return copies of all that depends on the frames so far."""
        counts = np.array([self.n_frames, self.repaired_pixels], np.int64)
        tensors = {
            "grid": self._total(lambda part: part.grid.values),
            "sum": self._total(lambda part: part.sum),
            "last": self._parts[self._newest].last,
        }
        return {"counts": counts, **{name: np.array(tensor.cpu().numpy()) for name, tensor in tensors.items()}}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a snapshot.

        Raises
        ------
        InputError
            When it is not one of such a canvas.
        """
        for number, part in enumerate(self._parts):
            for name, tensor in (("grid", part.grid.values), ("sum", part.sum), ("last", part.last)):
                array = arrays.get(name)
                if array is None or array.shape != tuple(tensor.shape):
                    raise InputError(f"expected {name} of {tuple(tensor.shape)} in a checkpoint, got {array!r:.80}")
                # The first takes all that there was.
                tensor.copy_(torch.from_numpy(array)) if number == 0 else tensor.zero_()
            part.grid.changed()
            part.repaired.fill_(int(arrays["counts"][1]) if number == 0 else 0)
        self.n_frames, self._newest = int(arrays["counts"][0]), 0


def localizing_network(model: "Model") -> LiveNet:
    """Return the network of a model if it gives what a table of localizations holds.

    Raises
    ------
    InputError
        When it does not.
    """
    if isinstance(model.network, LiveNet):
        return model.network
    by_cel0 = isinstance(model.network, Cel0)
    gives = "positions without their uncertainty" if by_cel0 else "a picture but no positions"
    raise InputError(
        f"the model {model.card.name!r} gives {gives}, a table of localizations needs positions with uncertainty; "
        "leave out --localizations or choose another --model, such as livenet"
    )


def _check_memory(
    devices: Sequence[torch.device], shape: tuple[int, int], upsampling: int, binning: int, beside: int
) -> InputError:
    """Raise an InputError where there is no memory for a canvas, or return it: systems promise more than they have."""
    (height, width), first = shape, devices[0]
    rows, columns = -(-height // binning), -(-width // binning)
    n_bytes = 4 * rows * columns * upsampling**2
    # Checkpoints and files are made of a copy in the machine's own memory, of all canvases of the run at once.
    copies = n_bytes * (1 + beside)
    wanted = dict.fromkeys(devices, n_bytes)
    wanted[torch.device("cpu")] = copies + (n_bytes if first.type == "cpu" else 0)
    too_small = InputError(
        f"a canvas for {width}x{height} pixels needs {n_bytes / 1e9:.1f} GB on {first} and as much again "
        "for its files, and there is less free; choose a smaller camera ROI or another --device"
    )
    for place, needed in wanted.items():
        there = available_bytes(place)
        if there is not None and needed > there:
            raise too_small
    return too_small
