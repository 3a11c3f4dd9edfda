"""Cameras in software: a frame by its number, for a region, a binning and an exposure."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stormlive_sim.errors import InputError
from stormlive_sim.recording import Recording


class Camera(Protocol):
    """What the simulated Micro-Manager core asks of a camera.

    Attributes
    ----------
    shape : tuple of int
        Sensor ``(Y, X)`` in pixels.
    bit_depth : int
        Bits of a pixel; counts end at ``2 ** bit_depth - 1``.
    n_frames : int or None
        Frames that there are, or None where they do not end.
    """

    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102

    @property
    def bit_depth(self) -> int: ...  # noqa: D102

    @property
    def n_frames(self) -> int | None: ...  # noqa: D102

    def render(
        self,
        frame: int,
        x: int,
        y: int,
        w: int,
        h: int,
        binning: int,
        exposure_ms: float,
        out: NDArray[Any],
    ) -> None:
        """Write camera frame `frame` (0-based) into `out`, the same for every call with the same arguments.

        Parameters
        ----------
        frame
            Frame number, in any order.
        x, y, w, h
            Region in **binned** pixels, as Micro-Manager's core counts them.
        binning
            Edge of the square of sensor pixels that make one pixel of the frame.
        exposure_ms
            Exposure time.
        out
            ``(h, w)`` uint8 or uint16, filled in place.

        Raises
        ------
        InputError
            The frame, region or pixel type is not to be had.
        """
        ...


def check_region(shape: tuple[int, int], x: int, y: int, w: int, h: int, binning: int) -> None:
    """Refuse a region (in binned pixels) that does not lie within the sensor ``(Y, X)``."""
    width, height = shape[1] // binning, shape[0] // binning
    if x < 0 or y < 0 or w < 1 or h < 1 or x + w > width or y + h > height:
        raise InputError(
            f"expected a region within {width} × {height} pixels (binning {binning}), got x {x}, y {y}, "
            f"width {w}, height {h}; choose a smaller region or another binning"
        )


class MovieCamera:
    """Plays a recorded movie: at full region and binning 1 its frames are the movie's, bit for bit.

    Parameters
    ----------
    recording
        Movie of uint8 or uint16. The camera reads it from whichever one thread renders.
    loop
        Begin anew after the last frame; otherwise a frame beyond the end is an error.
    """

    def __init__(self, recording: Recording, *, loop: bool = False) -> None:
        if recording.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"expected a movie of camera counts (uint8 or uint16), got {recording.dtype} in "
                f"{recording.name}; "
                "no camera delivers it: use `stormlive reconstruct`, or convert the movie to 16-bit"
            )
        self._recording = recording
        self._loop = loop
        self._sensor = np.empty(recording.shape[1:], recording.dtype)
        self.shape: tuple[int, int] = (recording.shape[1], recording.shape[2])
        self.bit_depth = 8 * recording.dtype.itemsize
        self.n_frames = None if loop else recording.shape[0]

    def render(
        self,
        frame: int,
        x: int,
        y: int,
        w: int,
        h: int,
        binning: int,
        exposure_ms: float,
        out: NDArray[Any],
    ) -> None:
        """Write the movie's frame `frame` into `out`; binning sums counts up to the bit depth's limit.

        The exposure is that of the recording, whatever `exposure_ms` says.
        """
        number = self._number(frame)
        check_region(self.shape, x, y, w, h, binning)
        if out.dtype.itemsize < self._sensor.dtype.itemsize:
            raise InputError(
                f"expected a core of {self.bit_depth}-bit pixels for the movie {self._recording.name}, got "
                f"{out.dtype}; set the camera's PixelType to {self.bit_depth}bit"
            )
        if binning == 1 and (h, w) == self.shape and out.dtype == self._sensor.dtype:
            self._recording.frame(number, out=out)
            return
        self._recording.frame(number, out=self._sensor)
        region = self._sensor[y * binning : (y + h) * binning, x * binning : (x + w) * binning]
        if binning == 1:
            out[...] = region
            return
        counts = region.reshape(h, binning, w, binning).sum(axis=(1, 3), dtype=np.uint32)
        out[...] = np.minimum(counts, 2**self.bit_depth - 1)

    def _number(self, frame: int) -> int:
        n = self._recording.shape[0]
        if self._loop:
            return frame % n
        if not 0 <= frame < n:
            raise InputError(
                f"the movie {self._recording.name} has {n} frames, and the acquisition asked for frame "
                f"{frame} (counted from 0); acquire at most {n} frames"
            )
        return frame
