"""How a canvas grew: what each stretch of frames added to it, for the time slider over a finished run."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MOST_STRETCHES = 64
MOST_BYTES = 256 * 2**20
LEAST_VALUE = 1e-3
"""Less than that, in emitters per sub-pixel, comes with a later stretch: half a canvas is faint skirts of spots."""
_MOST_VALUE = 6e4
"""More than that too: half precision ends there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """What frames added to the canvas, packed.

    Attributes
    ----------
    n_frames : int
        That the canvas had then.
    where : ndarray
        uint8, a bit for each pixel of the canvas, in the order of reading: whether something was added.
    values : ndarray
        float16 (N,), what, there; float32 of the last stretch.
    """

    n_frames: int
    where: NDArray[np.uint8]
    values: NDArray[np.float16] | NDArray[np.float32]

    @classmethod
    def of(cls, increment: NDArray[np.float32], n_frames: int, *, exact: bool) -> Self:
        """Pack what was added, (Y, X)."""
        flat = increment.reshape(-1)
        there = flat != 0 if exact else np.abs(flat) >= LEAST_VALUE
        values = flat[there] if exact else flat[there].clip(-_MOST_VALUE, _MOST_VALUE).astype(np.float16)
        return cls(n_frames=n_frames, where=np.packbits(there), values=values)

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.where.nbytes + self.values.nbytes

    def dense(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return what was added to a canvas of that shape."""
        picture = np.zeros(shape, np.float32)
        picture.reshape(-1)[np.unpackbits(self.where, count=picture.size).view(np.bool_)] = self.values
        return picture


class Growth:
    """The stretches of a growing canvas; their sum, in their order, is the canvas.

    Where there are 64 of them or 256 MiB, or fewer by `keep_within`, each two neighbours become one; from then on a
    stretch is at least as long as they are in the mean. In between, the sum lacks less than a thousandth of an emitter
    per sub-pixel, or is as much of each value beside it.

    Parameters
    ----------
    shape : (int, int)
        Of the canvas.

    Attributes
    ----------
    shape : (int, int)
        Of the canvas.
    stretches : tuple of Stretch
        Any thread may look at them; one thread adds to them.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        # Added up as its readers will, so that what one stretch lacks comes with the next.
        self._sum = np.zeros(shape, np.float32)
        self._least_frames = 1.0
        self._most_bytes = MOST_BYTES
        self.stretches: tuple[Stretch, ...] = ()

    @property
    def frames(self) -> list[int]:
        """How many frames were in the canvas at the end of each stretch."""
        return [stretch.n_frames for stretch in self.stretches]

    def add(self, canvas: NDArray[np.float32], n_frames: int, *, last: bool = False) -> None:
        """Take the canvas as it is after so many frames; nothing happens before a stretch is long enough.

        The `last` time it always is, and nothing is left out.
        """
        if last and n_frames in self.frames[-1:]:
            # Once more, with what it lacks.
            self.stretches = self.stretches[:-1]
            self._sum = self._added(self.stretches)
        begun = self.stretches[-1].n_frames if self.stretches else 0
        if n_frames <= begun or (n_frames - begun < self._least_frames and not last):
            return
        stretch = Stretch.of(canvas - self._sum, n_frames, exact=last)
        self._sum += stretch.dense(self.shape)
        stretches = (*self.stretches, stretch)
        # Never after the last one: what joining rounds, none would make good.
        self.stretches = stretches if last else self._joined(stretches)

    def keep_within(self, most_bytes: int) -> None:
        """Take no more memory than that from now on, of what there is too; not after the `last` time."""
        self._most_bytes = most_bytes
        self.stretches = self._joined(self.stretches)

    def _joined(self, stretches: tuple[Stretch, ...]) -> tuple[Stretch, ...]:
        """Return stretches so that there are not too many."""
        while len(stretches) > 1 and self._too_many(stretches):
            stretches = tuple(self._one(stretches[at : at + 2]) for at in range(0, len(stretches), 2))
            self._sum = self._added(stretches)
            self._least_frames = stretches[-1].n_frames / len(stretches)
        return stretches

    def _too_many(self, stretches: tuple[Stretch, ...]) -> bool:
        return len(stretches) >= MOST_STRETCHES or sum(one.nbytes for one in stretches) > self._most_bytes

    def _one(self, neighbours: tuple[Stretch, ...]) -> Stretch:
        if len(neighbours) == 1:
            return neighbours[0]
        return Stretch.of(self._added(neighbours), neighbours[-1].n_frames, exact=False)

    def _added(self, stretches: Iterable[Stretch]) -> NDArray[np.float32]:
        total = np.zeros(self.shape, np.float32)
        for stretch in stretches:
            total += stretch.dense(self.shape)
        return total

    def pictures(self) -> Iterator[NDArray[np.float32]]:
        """Yield what each stretch added, (Y, X)."""
        for stretch in self.stretches:
            yield stretch.dense(self.shape)

    def snapshot(self, most_frames: int) -> dict[str, NDArray[Any]]:
        """Return the stretches up to so many frames, for a checkpoint; from any thread."""
        stretches = [stretch for stretch in self.stretches if stretch.n_frames <= most_frames]
        return {
            "frames": np.array([stretch.n_frames for stretch in stretches], np.int64),
            "pixels": np.array([len(stretch.values) for stretch in stretches], np.int64),
            "where": np.concatenate([np.zeros(0, np.uint8), *(stretch.where for stretch in stretches)]),
            "values": np.concatenate([np.zeros(0, np.float16), *(stretch.values for stretch in stretches)]),
        }

    @classmethod
    def restored(cls, shape: tuple[int, int], arrays: Mapping[str, NDArray[Any]]) -> "Growth":
        """Go on from a snapshot; KeyError when it is none."""
        growth = cls(shape)
        frames, ends = arrays["frames"], np.cumsum(arrays["pixels"])
        places = np.split(arrays["where"], len(frames)) if len(frames) else []
        growth.stretches = tuple(
            Stretch(n_frames=int(n), where=where, values=values)
            for n, where, values in zip(frames, places, np.split(arrays["values"], ends[:-1]), strict=False)
        )
        growth._sum = growth._added(growth.stretches)
        growth._least_frames = max(growth.frames, default=1) / MOST_STRETCHES
        return growth


def write_growth(path: Path, growth: Growth, pixel_size_nm: float, about: str) -> None:
    """Write what each stretch of frames added to a canvas as one page of an OME-TIFF."""
    from stormlive.output.ome_tiff import write_images  # tifffile takes long to import

    ends = ", ".join(map(str, growth.frames))
    told = f"What the frames added to the super-resolved image, up to frame {ends}: the sum of the pages is that image"
    write_images(
        path,
        growth.pictures(),
        len(growth.stretches),
        growth.shape,
        pixel_size_nm,
        name="replay",
        description=f"{told}. {about}",
    )
