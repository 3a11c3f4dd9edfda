"""One camera frame on its way to the picture."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from stormlive_sim.errors import InputError

DtypeName: TypeAlias = Literal["uint8", "uint16", "float32"]

# Pixels travel little-endian whatever the machine.
WIRE_DTYPES: dict[DtypeName, np.dtype[Any]] = {
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
}
_NAMES: dict[np.dtype[Any], DtypeName] = {dtype: name for name, dtype in WIRE_DTYPES.items()}


def dtype_name(dtype: np.dtype[Any]) -> DtypeName:
    """Return the wire's name of a pixel type; InputError when the wire does not carry it."""
    name = _NAMES.get(dtype)
    if name is None:
        raise InputError(f"pixels must be little-endian {', '.join(WIRE_DTYPES)}, got {dtype}; convert the image")
    return name


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """A numbered camera frame.

    Attributes
    ----------
    run
        The run that the frame belongs to.
    seq
        The hook's own frame number, counted from 0.
    t_ns
        When the hook was handed the frame, in nanoseconds of the server's monotonic clock.
    axes
        The acquisition's own coordinates, for example ``{"time": 12}``.
    pixels
        (Y, X), uint8, uint16 or float32, ADU, C-contiguous.
    replay
        Whether it was sent after frames that came later.
    intact
        Of pixels in the sender's memory: tells after they were copied whether they were still this frame's.
    """

    run: UUID
    seq: int
    t_ns: int
    axes: dict[str, int | str] = field(default_factory=dict)
    pixels: NDArray[Any]
    replay: bool = False
    intact: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.size == 0:
            raise InputError(f"a frame must be a 2-D image with at least one pixel, got shape {self.pixels.shape}")
        dtype_name(self.pixels.dtype)
