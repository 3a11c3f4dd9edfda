"""Where frames wait between the camera's thread and the sender's."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormlive.ranges import Ranges, reason_key
from stormlive.wire.frame import WIRE_DTYPES, DtypeName, dtype_name
from stormlive.wire.messages import MAX_SIDE, one_line
from stormlive.wire.transport import Waker

_ALIGNMENT = 64
_MOST_AXES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A frame in the outbox: its number, its time on the hook's clock, its axes and its slot."""

    seq: int
    t_ns: int
    axes: dict[str, int | str]
    slot: int


class Outbox:
    """Bounded memory for frames, touched when it is made so that no frame pays for its pages.

    The camera's thread calls `offer`, the sender's thread everything else. They share nothing but deques and
    single assignments, so neither ever waits for the other. A slot is free again when the server has
    acknowledged its frame. Overflow policy: the newest frame is not taken and counted in `refused`.
    """

    def __init__(self, capacity_bytes: int, waker: Waker) -> None:
        self._memory: NDArray[np.uint8] = np.empty(capacity_bytes, np.uint8)
        self._memory.fill(0)
        self._waker = waker
        self._slots: NDArray[Any] | None = None
        self._free: deque[int] = deque()
        self.waiting: deque[Parcel] = deque()
        self.offered = 0
        self.refused: dict[str, Ranges] = {}
        self.shut: str | None = None  # why no more frames are taken
        self.sender_sleeps = False

    @property
    def form(self) -> tuple[DtypeName, tuple[int, int]] | None:
        """Pixel type and shape (Y, X) of the run's frames; None before the first."""
        slots = self._slots
        return None if slots is None else (dtype_name(slots.dtype), (slots.shape[1], slots.shape[2]))

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame's pixels; 0 before the first."""
        slots = self._slots
        return 0 if slots is None else slots.shape[1] * slots.shape[2] * slots.itemsize

    def offer(self, image: object, metadata: object) -> Exception | None:
        """Take a copy of a frame under the next number, or record why not; return a surprising failure."""
        t_ns = time.perf_counter_ns()  # as monotonic as `monotonic`, which ticks every 16 ms on Windows
        seq = self.offered
        self.offered = seq + 1
        surprise = None
        try:
            reason = self.shut or self._take(seq, t_ns, image, metadata)
        except Exception as error:
            surprise = error
            reason = f"the hook failed: {type(error).__name__}"
        if reason is not None:
            key = reason_key(one_line(reason, 120), self.refused)
            self.refused.setdefault(key, Ranges()).add(seq)
        if self.sender_sleeps:
            self.sender_sleeps = False
            self._waker.wake()
        return surprise

    def pixels(self, parcel: Parcel) -> NDArray[Any]:
        """Return the pixels of a parcel, (Y, X), in the outbox's own memory."""
        if self._slots is None:
            raise RuntimeError("the outbox has no frames yet")
        image: NDArray[Any] = self._slots[parcel.slot]
        return image

    def release(self, parcel: Parcel) -> None:
        """Free the slot of a frame that the server has."""
        self._free.append(parcel.slot)

    def _take(self, seq: int, t_ns: int, image: object, metadata: object) -> str | None:
        if image is None:
            return "no image"
        array = np.asarray(image)
        if array.ndim != 2 or array.size == 0 or max(array.shape) > MAX_SIDE:
            return f"not a 2-D image: shape {array.shape}"
        target = _wire_dtype(array.dtype)
        if target is None:
            return f"pixel type {array.dtype} is not supported"
        if self._slots is None:
            reason = self._cut(target, array.shape)
            if reason is not None:
                return reason
        slots = self._slots
        if slots is None or slots.shape[1:] != array.shape or slots.dtype != target:
            return f"{array.dtype} {array.shape} differs from the run's first frame"
        try:
            slot = self._free.popleft()
        except IndexError:
            return "outbox full"
        try:
            with np.errstate(over="ignore"):
                np.copyto(slots[slot], array, casting="same_kind")
            parcel = Parcel(seq=seq, t_ns=t_ns, axes=_axes(metadata), slot=slot)
        except BaseException:
            self._free.append(slot)
            raise
        self.waiting.append(parcel)
        return None

    def _cut(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> str | None:
        """Cut the memory into slots for frames like the first."""
        nbytes = shape[0] * shape[1] * dtype.itemsize
        stride = -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        count = self._memory.size // stride
        if count == 0:
            return f"a frame of {nbytes} bytes does not fit the outbox"
        slots: NDArray[Any] = np.ndarray(
            (count, shape[0], shape[1]),
            dtype,
            buffer=self._memory.data,
            strides=(stride, shape[1] * dtype.itemsize, dtype.itemsize),
        )
        self._free.extend(range(count))
        self._slots = slots
        return None


def _wire_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the pixel type that carries `dtype` on the wire; floats of any width travel as float32."""
    if dtype.kind == "f":
        return WIRE_DTYPES["float32"]
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return WIRE_DTYPES["uint8" if dtype.itemsize == 1 else "uint16"]
    return None


def _axes(metadata: object) -> dict[str, int | str]:
    """Return the acquisition's coordinates of a frame, as far as the wire carries them."""
    axes = metadata.get("Axes") if isinstance(metadata, Mapping) else None
    if not isinstance(axes, Mapping):
        return {}
    kept: dict[str, int | str] = {}
    for name, value in list(axes.items())[:_MOST_AXES]:
        if isinstance(value, (int, np.integer)) and abs(int(value)) < 2**62:
            kept[one_line(name, 60)] = int(value)
        elif isinstance(value, str):
            kept[one_line(name, 60)] = one_line(value, 60)
    return kept
