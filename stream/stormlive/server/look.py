"""What the judge sees of a run at one moment, and the part of it that it looks at closely."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormlive.wire.fields import Region


@dataclass(frozen=True, kw_only=True)
class Part:
    """The square of a canvas that is looked at closely, in camera pixels, and what it is a part of."""

    row: int
    column: int
    height: int
    width: int
    upsampling: int

    def meets(self, region: Region | None) -> bool:
        """Return whether something of it lies in a region."""
        if region is None:
            return True
        x, y, width, height = region
        return (
            self.column < x + width
            and x < self.column + self.width
            and self.row < y + height
            and y < self.row + self.height
        )

    @property
    def on_canvas(self) -> tuple[slice, slice]:
        """Its rows and columns on the canvas."""
        u = self.upsampling
        return (
            slice(self.row * u, (self.row + self.height) * u),
            slice(self.column * u, (self.column + self.width) * u),
        )

    @property
    def on_camera(self) -> tuple[slice, slice]:
        """Its rows and columns on the camera."""
        return slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)


@dataclass(frozen=True, kw_only=True)
class Look:
    """Copies of what a run's first canvas is at one moment.

    Attributes
    ----------
    n_frames
        That it holds.
    name
        Of the canvas, where the run has several.
    canvas
        All of it, or `Part.on_canvas` of it.
    coarse
        All of it, summed to whole fractions of camera pixels; None where `canvas` is all of it.
    widefield
        The mean of the frames, photons; None where this look is without a comparison.
    raw
        Consecutive frames (T, Y, X) of `Part.on_camera`, ADU.
    region
        In which alone frames are computed now.
    """

    n_frames: int
    name: str
    canvas: NDArray[np.float32]
    coarse: NDArray[np.float32] | None
    widefield: NDArray[np.float32] | None
    raw: NDArray[Any]
    region: Region | None = None
