"""The canvas of a finished run as it was after so many frames."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormlive.output.ome_tiff import Pages
from stormlive_sim.errors import InputError

_KEPT_BYTES = 256 * 2**20


class SavedReplay:
    """Adds the pages of `replay.ome.tif` up; called from one thread.

    Parameters
    ----------
    path : Path
        The file, whose pages are what stretches of frames added to the canvas.
    frames : list of int
        How many the canvas had at the end of each.
    canvas : ndarray
        The whole canvas (Y, X), which is what is shown at the last place.

    Raises
    ------
    InputError
        When the file does not fit the rest.
    """

    def __init__(self, path: Path, frames: list[int], canvas: NDArray[np.float32]) -> None:
        self._pages = Pages(path)
        if len(self._pages) != len(frames):
            self._pages.close()
            raise InputError(f"{path} has {len(self._pages)} pages, run.json tells of {len(frames)}; was it changed?")
        self.frames = tuple(frames)
        self._canvas = canvas
        # Sums are kept at even distances, so that a step back costs a few pages and no more.
        self._every = max(1, math.ceil(len(frames) * canvas.nbytes / _KEPT_BYTES))
        self._kept: dict[int, NDArray[np.float32]] = {}
        self._last: tuple[int, NDArray[np.float32]] = (-1, np.zeros(canvas.shape, np.float32))

    def canvas(self, place: int) -> NDArray[np.float32]:
        """Return the canvas (Y, X) at the end of a stretch; InputError when the file is damaged."""
        if place >= len(self.frames) - 1:
            return self._canvas
        nearest = max(known for known in (-1, self._last[0], *self._kept) if known <= place)
        total = self._kept.get(nearest)
        if total is None:
            total = self._last[1] if nearest == self._last[0] >= 0 else np.zeros_like(self._canvas)
        height, width = self._canvas.shape
        for page in range(nearest + 1, place + 1):
            # A new one each time: what was returned before may be on its way to the screen.
            total = total + self._pages.read(page, (height, width))
            if page % self._every == 0:
                self._kept[page] = total
        self._last = place, total
        return total

    def close(self) -> None:
        """Close the file."""
        self._pages.close()
