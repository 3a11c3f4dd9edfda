"""A camera in software as a Python device of pymmcore-plus (`UniMMCore`, which is experimental there).

Needs the extra ``pymmcore-plus``.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pymmcore_plus.experimental.unicore import CameraDevice

from stormlive_sim.camera import Camera, check_region
from stormlive_sim.errors import InputError


class PythonCamera(CameraDevice):  # type: ignore[misc]  # mypy does not look into pymmcore-plus
    """Plays a simulated or recorded camera at the pace of its exposure.

    Load it with ``core.loadPyDevice("Camera", PythonCamera(camera))``, ``core.initializeDevice("Camera")`` and
    ``core.setCameraDevice("Camera")``. Frames are counted over sequences and snaps.

    Parameters
    ----------
    camera
        What to play.
    exposure_ms
        Exposure until another is set.

    Attributes
    ----------
    frames : int
        Frames rendered so far; the number of the next one.
    failure : Exception or None
        Why the camera could not render; the core sees a sequence that ends early.
    """

    def __init__(self, camera: Camera, exposure_ms: float = 10.0) -> None:
        super().__init__()
        if camera.bit_depth > 16:
            raise InputError(f"expected a camera of at most 16 bits, got {camera.bit_depth}")
        self._camera = camera
        self._exposure_ms = exposure_ms
        self._region = (0, 0, camera.shape[1], camera.shape[0])
        self.frames = 0
        self.failure: Exception | None = None

    def get_exposure(self) -> float:
        """Return the exposure in milliseconds."""
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        """Set the exposure in milliseconds."""
        if not 0 < exposure < float("inf"):
            raise InputError(f"expected an exposure above 0 ms, got {exposure}")
        self._exposure_ms = exposure

    def shape(self) -> tuple[int, int]:
        """Return (Y, X) of the region."""
        return self._region[3], self._region[2]

    def dtype(self) -> DTypeLike:
        """Return the type of the pixels."""
        return np.uint8 if self._camera.bit_depth <= 8 else np.uint16

    def get_roi(self) -> tuple[int, int, int, int]:
        """Return x, y, width and height of the region."""
        return self._region

    def set_roi(self, x: int, y: int, width: int, height: int) -> None:
        """Set the region, which must lie within the sensor."""
        check_region(self._camera.shape, x, y, width, height, 1)
        self._region = (x, y, width, height)

    def clear_roi(self) -> None:
        """Take the whole sensor."""
        self._region = (0, 0, self._camera.shape[1], self._camera.shape[0])

    def start_sequence(
        self, n: int | None, get_buffer: Callable[[Sequence[int], DTypeLike], NDArray[Any]]
    ) -> Iterator[Mapping[str, object]]:
        """Yield once for each frame, at the pace of the exposure."""
        due_s = time.perf_counter()
        taken = 0
        while n is None or taken < n:
            due_s += self._exposure_ms / 1000
            out = get_buffer(self.shape(), self.dtype())
            try:
                self._camera.render(self.frames, *self._region, 1, self._exposure_ms, out)
            except Exception as error:
                self.failure = error
                raise
            self.frames += 1
            taken += 1
            time.sleep(max(0.0, due_s - time.perf_counter()))
            yield {}
