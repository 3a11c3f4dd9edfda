"""A stormlive server whose engine computes nothing: prints its address, ends when stdin closes."""

import sys

import numpy as np
from numpy.typing import NDArray

from stormlive.server.loop import Server
from stormlive.wire.calibration import Calibration


class NullReconstruction:
    """Takes frames and forgets them."""

    context = 0
    upsampling = 1
    model_name = "null"

    def __init__(self, shape: tuple[int, int]) -> None:
        self._empty = np.zeros(shape, np.float32)

    def add(
        self, frames: NDArray[np.uint16], _sink: object = None, own: slice = slice(None), *, region: object = None
    ) -> None:
        """Do nothing."""

    def view(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.float32]:
        """Return an empty picture."""
        return np.zeros((h, w), np.float32)

    def widefield(self) -> NDArray[np.float32]:
        """Return an empty picture."""
        return self._empty

    def last(self) -> NDArray[np.float32]:
        """Return an empty picture."""
        return self._empty


class NullEngine:
    """A model of nothing."""

    model_name = "null"
    pixel_size_nm = 100.0
    camera_pixels_nm = ((100.0, 100.0),)
    device = "cpu"

    def open(self, shape: tuple[int, int], calibration: Calibration, *, beside: int = 0) -> NullReconstruction:
        """Return an empty canvas."""
        return NullReconstruction(shape)


if __name__ == "__main__":
    with Server(NullEngine(), finish=lambda run, canvases: None, bind="tcp://127.0.0.1:*") as server:
        print(server.address, flush=True)
        sys.stdin.read()
