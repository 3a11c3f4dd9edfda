"""The canvas in a device's memory, and what of it is looked at: only that leaves the device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

_COARSE = 3
"""Level of the canvas that is kept for all coarser views: of a canvas of 1 GB it takes 16 MB."""


class Grid:
    """A canvas on a device.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the canvas.
    whole : (int, int)
        Those of whole pixels of the network, of which the canvas is the upper left part.

    Attributes
    ----------
    values : Tensor
        float32, of whole pixels of the network, in expected emitters per sub-pixel. Whoever adds to it says so
        (`changed`).
    canvas : Tensor
        float32 (Y u, X u), the part of `values` that lies in the camera's frame.

    Raises
    ------
    RuntimeError
        When the device has not the memory.
    """

    def __init__(self, shape: tuple[int, int], whole: tuple[int, int], device: torch.device) -> None:
        self.values = torch.zeros(whole, device=device)
        self.canvas = self.values[: shape[0], : shape[1]]
        self._coarse: Tensor | None = None

    @contextmanager
    def part(self, part: tuple[slice, slice]) -> Iterator[Tensor]:
        """Yield rows and columns of `values`, contiguous, to be added to; they are back in their place at the end."""
        values = self.values[part]
        if values.is_contiguous():
            yield values
            return
        # Of what was there, not of nothing: sums come out the same to the last bit.
        copy = values.contiguous()
        yield copy
        values.copy_(copy)

    def changed(self) -> None:
        """Note that values have been added."""
        self._coarse = None

    def view(self, level: int, x: int, y: int, w: int, h: int) -> Tensor:
        """Return a rectangle of the canvas summed over blocks of 2**level, float32 (h, w), on the device.

        The rectangle lies in that level, which has ceil(side / 2**level) pixels a side. Sums, not means: a single
        localization stays visible at every zoom.
        """
        if level < _COARSE:
            canvas, size = self.canvas, 2**level
        else:
            if self._coarse is None:
                self._coarse = _sum_blocks(self.canvas, 2**_COARSE)
            canvas, size = self._coarse, 2 ** (level - _COARSE)
        return _sum_blocks(canvas[y * size : (y + h) * size, x * size : (x + w) * size], size)


def _sum_blocks(canvas: Tensor, size: int) -> Tensor:
    """Return a canvas (Y, X) summed over blocks of `size` pixels a side, of which the last may be partial."""
    if size == 1:
        return canvas
    return functional.avg_pool2d(canvas[None], size, ceil_mode=True, divisor_override=1)[0]
