"""What the frames of one device sum to, and how they get there without the device ever waiting for this process.

The copying of frames, the network, and the drawing of what it found each have a lane of their own. Drawing must ask
the device how much there is to draw; so a GPU's network has been given its next part before, and only the drawing's
lane is waited for.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stormlive.output.tables import LOCALIZATION, Rows
from stormlive.server.grid import Grid
from stormlive.server.landing import Landing
from stormlive.server.lanes import Lane, Mark
from stormlive_models.binning import sum_2x2
from stormlive_models.localize import localized
from stormlive_models.networks.livenet import Tile
from stormlive_models.tiling import out_of_memory

if TYPE_CHECKING:
    from stormlive.wire.calibration import Calibration
    from stormlive.wire.fields import Region
    from stormlive_models.zoo import Model

_T = TypeVar("_T")
_Found: TypeAlias = tuple[int, Any, Mark]

_BATCH_PIXELS = {"cpu": 2**16, "cuda": 2**22}
"""Pixels that go through the network at once (on the CPU 16 frames of 64x64): bounds its activations."""

_MOST_FRAMES = {"cpu": 2**16, "cuda": 16}
"""Frames that go through the network at once: on a GPU there is a recording for each number, see `Recorded`."""

_AHEAD = {"cpu": 0, "cuda": 1}
"""Parts that are given to the network before what it found is drawn."""


class Accumulator:
    """The sums of the frames that one device was given; not thread-safe.

    Parameters
    ----------
    model : Model
        On the device.
    binning : int
        Camera pixels a side that are summed to one of the network's.
    shape : (int, int)
        Camera pixels (Y, X).

    Attributes
    ----------
    grid : Grid
    sum : Tensor
        float64 (Y, X), of all frames, photons: in float32 a sum of 100,000 would lose the last photons of each.
    last : Tensor
        float32 (Y, X), the newest frame, photons.
    repaired : Tensor
        int64, pixels that were NaN or infinite and were taken as dark.

    Raises
    ------
    RuntimeError
        When the device has not the memory.
    """

    def __init__(
        self,
        model: "Model",
        binning: int,
        device: torch.device,
        shape: tuple[int, int],
        calibration: "Calibration",
    ) -> None:
        self._network = model.network
        self._binning = binning
        self._context = model.card.context
        self._calibration = calibration
        self._device = device
        height, width = shape
        fine = model.card.upsampling
        rows, columns = -(-height // binning), -(-width // binning)
        self._fine_pixels = fine
        upsampling = fine // binning
        self.grid = Grid((height * upsampling, width * upsampling), (rows * fine, columns * fine), device)
        self.sum = torch.zeros(shape, dtype=torch.float64, device=device)
        self.last = torch.zeros(shape, device=device)
        self.repaired = torch.zeros((), dtype=torch.int64, device=device)
        self._landing = Landing(device)
        self._computing, self._drawing = Lane(device), Lane(device)
        if device.type == "cuda":
            self.warm_up()

    def warm_up(self) -> None:
        """Have the network meet whole frames in all numbers in which they will come, so that none waits for that."""
        height, width = self.sum.shape
        n = self._at_once(height, width, _MOST_FRAMES["cuda"])
        while n:
            with suppress(torch.cuda.OutOfMemoryError):  # smaller numbers follow
                dark = torch.zeros(n, height, width, device=self._device)
                for _ in self._network.tiles(self._seen(dark, slice(0, n))):
                    pass
            n = min(n // 2, self._at_once(height, width, n))

    def _at_once(self, height: int, width: int, most: int) -> int:
        """Return how many frames of such a size go through the network at once, `most` at most."""
        pixels = -(-height // self._binning) * -(-width // self._binning) * self._network.pixels_per_pixel
        kind = self._device.type
        fits = min(self._network.portion.frames, _MOST_FRAMES[kind], _BATCH_PIXELS[kind] // pixels, most)
        # Batches of 1, 2, 4, …: the convolution library keeps working memory for every size that it ever saw.
        return 1 << (max(1, fits).bit_length() - 1)

    def add(
        self, frames: NDArray[np.generic], own: slice, *, localize: bool = False, region: "Region | None" = None
    ) -> list[Rows]:
        """Add `frames[own]` of frames (B, Y, X) in ADU; the others are their neighbours.

        With a region (x, y, width, height) the network gets these camera pixels only; sum and last frame get all.
        Returns, where asked, tables of their localizations, of one frame after another; `frame` is the index in
        `frames[own]`. Work that this thread gives to the device from now on comes after all this.
        """
        here = Lane.current(self._device)
        lanes, begun = (self._computing, self._drawing), here.mark()
        for lane in lanes:
            lane.after(begun)
        tables: dict[int, list[Rows]] = {}
        height, width = self.sum.shape
        region = region or (0, 0, width, height)
        try:
            with self._drawing.work(), self.grid.part(self._fine(region)) as canvas:
                for first, found, computed in _delayed(self._found(frames, own, region), _AHEAD[self._device.type]):
                    self._drawing.after(computed)
                    with self._drawing.work(), torch.no_grad():
                        self._network.render(found, canvas)
                        if localize and isinstance(found, Tile):
                            tables.setdefault(first, []).append(self._localized(found, first, region))
                    # Only then is the memory of what was drawn free for the network.
                    self._computing.after(self._drawing.mark())
        finally:
            self.grid.changed()
            for lane in lanes:
                here.after(lane.mark())
        return [_in_frame_order(pieces) for pieces in tables.values()]

    def _fine(self, region: "Region") -> tuple[slice, slice]:
        """Return the rows and columns of the grid that the network computes of a region."""
        fine = self._fine_pixels
        rows, columns = (
            slice(first // self._binning * fine, -(-(first + length) // self._binning) * fine)
            for first, length in (region[1::2], region[::2])
        )
        return rows, columns

    def _found(self, frames: NDArray[np.generic], own: slice, region: "Region") -> Iterator[_Found]:
        """Yield what the network finds in each part: number of its first frame, the finding, a mark behind it."""
        x, y, width, height = region
        begin, end, _ = own.indices(len(frames))
        first = begin
        while first < end:
            n = self._at_once(height, width, end - first)
            low = max(0, first - self._context)
            these = slice(first - low, first - low + n)
            with self._computing.work(), torch.no_grad():
                try:
                    around, broken = self._photons(frames[low : first + n + self._context])
                    parts = iter(self._network.tiles(self._seen(around[:, y : y + height, x : x + width], these)))
                    found = next(parts, None)
                except RuntimeError as error:
                    if n == 1 or not out_of_memory(error):
                        raise
                    self._network.portion.frames = n // 2
                    continue
                self.sum += around[these].sum(0, dtype=torch.float64)
                self.last.copy_(around[these][-1])
                if broken is not None:
                    # What is repaired in neighbours is counted with the frames whose own it is.
                    self.repaired += broken[these].sum()
            while found is not None:
                yield first - begin, found, self._computing.mark()
                with self._computing.work():
                    found = next(parts, None)
            first += n

    def _photons(self, frames: NDArray[np.generic]) -> tuple[Tensor, Tensor | None]:
        """Return photons = (ADU - baseline) x photons per ADU, the one place where this happens; and what was broken.

        Broken are pixels that are NaN or infinite, bool (B, Y, X); None for cameras that cannot give such.
        """
        broken = None
        with self._landing.landed(frames, self._computing) as landed:
            adu = landed.float()
            if np.issubdtype(frames.dtype, np.floating):
                broken = ~torch.isfinite(adu)
                # A NaN would spread over the whole frame and stay in the canvas for ever.
                adu = adu.masked_fill(broken, self._calibration.baseline_adu)
            return (adu - self._calibration.baseline_adu) * self._calibration.photons_per_adu, broken

    def _seen(self, around: Tensor, these: slice) -> Tensor:
        """Return what the network sees of some of the frames (B, Y, X): (n, Y, X), or (n, F, Y, X) with neighbours.

        Neighbours that are not there are dark frames.
        """
        seen, context = sum_2x2(around) if self._binning == 2 else around, self._context
        if not context:
            return seen
        before, n, after = these.start, these.stop - these.start, len(seen) - these.stop
        seen = functional.pad(seen, (0, 0, 0, 0, context - before, context - after))
        return torch.stack([seen[i : i + n] for i in range(1 + 2 * context)], 1)

    def _localized(self, tile: Tile, first: int, region: "Region") -> Rows:
        """Return the localizations of a tile that lie in the region as rows of a table, in the host's memory.

        Beyond its last edges a repeated row or column may show some.
        """
        pixel_nm = self._calibration.pixel_size_nm
        found = localized(tile, pixel_nm * self._binning)
        rows = np.empty(len(found), LOCALIZATION)
        for name in LOCALIZATION.names or ():
            rows[name] = getattr(found, name).cpu().numpy()
        rows["frame"] += first
        x_nm, y_nm, width_nm, height_nm = (side * pixel_nm for side in region)
        rows = rows[(rows["x_nm"] < width_nm) & (rows["y_nm"] < height_nm)]
        rows["x_nm"] += x_nm
        rows["y_nm"] += y_nm
        return rows


def _delayed(items: Iterable[_T], n: int) -> Iterator[_T]:
    """Yield items, each only when `n` more are there, or no more come."""
    waiting = deque[_T]()
    for item in items:
        waiting.append(item)
        if len(waiting) > n:
            yield waiting.popleft()
    yield from waiting


def _in_frame_order(pieces: list[Rows]) -> Rows:
    """Return one table of all rows; those of one frame keep the order of the pieces."""
    if len(pieces) == 1:
        return pieces[0]
    rows = np.concatenate(pieces)
    return rows[rows["frame"].argsort(kind="stable")]
