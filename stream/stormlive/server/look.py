"""What the judge sees of a canvas at one moment, and the part of it that it looks at closely."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormlive.wire.fields import Region
from stormlive_models.judge.convergence import busiest_window

if TYPE_CHECKING:
    from stormlive.server.protocols import Reconstruction

PART_PX = 1024
"""Canvas pixels a side that are looked at closely."""
_FINEST = 2**19
"""Pixels of the canvas that are compared with the widefield picture: two a side of a camera pixel up to 360x360."""


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
    """Copies of what a canvas is at one moment.

    Attributes
    ----------
    n_frames
        That it holds.
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
    canvas: NDArray[np.float32]
    coarse: NDArray[np.float32] | None
    widefield: NDArray[np.float32] | None
    raw: NDArray[Any]
    region: Region | None = None


def coarseness(shape: tuple[int, ...], upsampling: int) -> int:
    """Return into how many parts a side of a camera pixel the canvas is summed for the comparison: 1 or 2."""
    return 2 if upsampling % 2 == 0 and 4 * shape[0] * shape[1] <= _FINEST else 1


def busiest_part(
    reconstruction: "Reconstruction", shape: tuple[int, int], region: Region | None, most_px: int
) -> Part | None:
    """Return where there is most on the canvas of frames (Y, X); None while there is nothing on a large one.

    Parameters
    ----------
    region
        In which alone frames are computed.
    most_px
        Canvas pixels a side of the part.
    """
    (height, width), u = shape, reconstruction.upsampling
    side = max(1, most_px // u)
    row = column = 0
    if max(height, width) > side:
        level = (u & -u).bit_length() - 1
        size = 2**level
        coarse = reconstruction.view(level, 0, 0, width * u // size, height * u // size)
        if region is not None:
            left, top, right, bottom = (
                edge * u // size for edge in (*region[:2], region[0] + region[2], region[1] + region[3])
            )
            inside = np.zeros_like(coarse)
            inside[top:bottom, left:right] = coarse[top:bottom, left:right]
            coarse = inside
        if not coarse.any():
            return None
        row, column = (at * size // u for at in busiest_window(coarse, side * u // size))
    return Part(row=row, column=column, height=min(side, height), width=min(side, width), upsampling=u)


def look_at(
    reconstruction: "Reconstruction",
    shape: tuple[int, int],
    part: Part,
    *,
    n_frames: int,
    whole: bool,
    compare: bool,
    raw: NDArray[Any],
    region: Region | None = None,
) -> Look:
    """Return copies of what is to be judged of a canvas of frames (Y, X); see `Look`.

    Parameters
    ----------
    whole
        Take all of the canvas, otherwise the part.
    compare
        Take what a comparison with the widefield picture needs.
    """
    (height, width), u = shape, part.upsampling
    rows, columns = (slice(0, height * u), slice(0, width * u)) if whole else part.on_canvas
    picture = reconstruction.view(0, columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    coarse = None
    if compare and not whole:
        size = u // coarseness(shape, u)
        level = (size & -size).bit_length() - 1
        coarse = reconstruction.view(level, 0, 0, width * u // 2**level, height * u // 2**level)
    return Look(
        n_frames=n_frames,
        # A copy whatever the reconstruction gives: the next batch changes its canvas.
        canvas=np.array(picture, np.float32),
        coarse=coarse,
        widefield=np.array(reconstruction.widefield(), np.float32) if compare else None,
        raw=raw,
        region=region,
    )
