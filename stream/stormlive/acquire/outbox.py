"""Where frames wait between the camera's thread and the sender's."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stormlive.ranges import Ranges, reason_key
from stormlive.wire.axes import carried_axes
from stormlive.wire.fields import MAX_SIDE, Mode
from stormlive.wire.frame import WIRE_DTYPES, DtypeName, dtype_name
from stormlive.wire.segment import HEAD_BYTES, OwnSegment
from stormlive.wire.text import one_line
from stormlive.wire.transport import Waker

_ALIGNMENT = 64
# Frames of which only the axes are kept, for a server that reads them from the dataset: some hundred bytes each.
_MOST_OVERFLOW = 1_000_000

Place: TypeAlias = Literal["memory", "spool", "dataset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A frame of the run: its number, its time on the hook's clock, its axes, and where its pixels are."""

    seq: int
    t_ns: int
    axes: dict[str, int | str]
    slot: int
    place: Place = "memory"


class Outbox:
    """Bounded memory for frames, touched when it is made so that no frame pays for its pages.

    The camera's thread calls `offer`, the sender's thread everything else. They share nothing but deques and
    single assignments, so neither ever waits for the other. A slot is free again when the server has
    acknowledged its frame, or sooner when the sender finds it another place.

    Overflow policy: with `mode` ``account`` the newest frame is not taken and counted in `refused`; of what may be
    read from a dataset the axes are kept in `overflow`. With ``latest`` every frame takes the place of those that still
    wait. With ``block`` the camera's thread waits: not for a camera that must not.

    Its memory is that of `segment` where there is one, so that a server on this machine reads frames where they lie.
    """

    def __init__(
        self, capacity_bytes: int, waker: Waker, mode: Mode = "account", segment: OwnSegment | None = None
    ) -> None:
        self.segment = segment
        self._memory: NDArray[np.uint8] = np.empty(capacity_bytes, np.uint8) if segment is None else segment.memory
        self._memory.fill(0)
        self._waker = waker
        self._slots: NDArray[Any] | None = None
        self._free: deque[int] = deque()
        self._room = threading.Event()
        self.mode = mode
        self.overflow: deque[Parcel] = deque()
        self.refers = False  # whether the frames in `overflow` were never to come another way
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

    @property
    def has_room(self) -> bool:
        """Whether a frame like the first would be taken now."""
        return self._slots is None or bool(self._free)

    @property
    def crowded(self) -> bool:
        """Whether less than a quarter of the slots is free."""
        return self._slots is not None and 4 * len(self._free) < len(self._slots)

    @property
    def most_in_flight(self) -> int:
        """Frames that may be in flight: their slots cannot be freed, so the others are for the camera."""
        return 0 if self._slots is None else max(1, len(self._slots) // 2)

    @property
    def like(self) -> NDArray[Any]:
        """An image of the run's shape and pixel type."""
        if self._slots is None:
            raise RuntimeError("the outbox has no frames yet")
        image: NDArray[Any] = self._slots[0]
        return image

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
            self._refuse(seq, reason)
        if self.sender_sleeps:
            self.sender_sleeps = False
            self._waker.wake()
        return surprise

    def refer(self, axes: Mapping[str, int | str], read: Callable[[], object]) -> Exception | None:
        """Note under the next number a frame that the server is to read from the dataset, where it has these axes.

        `read` returns the image; it is asked for the first one only. Otherwise as `offer`.
        """
        t_ns = time.perf_counter_ns()
        seq = self.offered
        self.offered = seq + 1
        self.refers = True
        surprise = None
        try:
            reason = self.shut or (self._learn(np.asarray(read())) if self._slots is None else None)
            kept = carried_axes(axes)
            if reason is None and (not kept or len(self.overflow) >= _MOST_OVERFLOW):
                reason = "outbox full" if kept else "no axes"
        except Exception as error:
            surprise = error
            reason = f"the hook failed: {type(error).__name__}"
        if reason is not None:
            self._refuse(seq, reason)
        else:
            self.overflow.append(Parcel(seq=seq, t_ns=t_ns, axes=kept, slot=-1, place="dataset"))
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

    def offset(self, parcel: Parcel) -> int:
        """Return where the pixels of a parcel begin in the segment, in bytes."""
        if self._slots is None:
            raise RuntimeError("the outbox has no frames yet")
        return HEAD_BYTES + parcel.slot * self._slots.strides[0]

    def release(self, parcel: Parcel) -> None:
        """Free the slot of a frame that the server has."""
        self._free.append(parcel.slot)
        self._room.set()

    def _take(self, seq: int, t_ns: int, image: object, metadata: object) -> str | None:
        if image is None:
            return "no image"
        array = np.asarray(image)
        reason = self._learn(array)
        if reason is not None:
            return reason
        slots = self._slots
        if slots is None or slots.shape[1:] != array.shape or slots.dtype != _wire_dtype(array.dtype):
            return f"{array.dtype} {array.shape} differs from the run's first frame"
        if self.mode == "latest":
            self._let_go_of_older()
        elif self.mode == "block":
            self._wait_for_room()
        try:
            slot = self._free.popleft()
        except IndexError:
            axes = _axes(metadata)
            if axes and len(self.overflow) < _MOST_OVERFLOW:
                self.overflow.append(Parcel(seq=seq, t_ns=t_ns, axes=axes, slot=-1, place="dataset"))
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

    def _learn(self, array: NDArray[Any]) -> str | None:
        """Cut the memory for the first frame; return what is wrong with an image."""
        if array.ndim != 2 or array.size == 0 or max(array.shape) > MAX_SIDE:
            return f"not a 2-D image: shape {array.shape}"
        target = _wire_dtype(array.dtype)
        if target is None:
            return f"pixel type {array.dtype} is not supported"
        return self._cut(target, array.shape) if self._slots is None else None

    def _refuse(self, seq: int, reason: str) -> None:
        key = reason_key(one_line(reason), self.refused)
        self.refused.setdefault(key, Ranges()).add(seq)

    def _let_go_of_older(self) -> None:
        try:
            while True:
                older = self.waiting.popleft()
                self._free.append(older.slot)
                self._refuse(older.seq, "a newer frame came")
        except IndexError:
            pass

    def _wait_for_room(self) -> None:
        while not self._free and self.shut is None:
            self._room.clear()
            if not self._free:
                self._room.wait(0.1)

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
    return carried_axes(metadata.get("Axes")) if isinstance(metadata, Mapping) else {}
