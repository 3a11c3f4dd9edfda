"""How a canvas grew: what each stretch of frames added to it, for the time slider over a finished run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormlive_models.judge.sparse import Sparse, summed

MOST_STRETCHES = 64
MOST_BYTES = 256 * 2**20
"""In memory, and about half of it in the file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """What frames added to the canvas, and how many frames it had then."""

    added: Sparse
    n_frames: int


class Growth:
    """The stretches of a growing canvas; their sum, in their order, is the canvas.

    Where there are more than 64 of them or 256 MiB, each two neighbours become one; from then on a stretch is at least
    as long as they are in the mean.

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
        # Added up as its readers will, so that what rounding loses in one stretch comes with the next.
        self._sum = np.zeros(shape, np.float32)
        self._least_frames = 1.0
        self.stretches: tuple[Stretch, ...] = ()

    @property
    def frames(self) -> list[int]:
        """How many frames were in the canvas at the end of each stretch."""
        return [stretch.n_frames for stretch in self.stretches]

    def add(self, canvas: NDArray[np.float32], n_frames: int, *, last: bool = False) -> None:
        """Take the canvas as it is after so many frames; nothing happens before a stretch is long enough.

        The `last` time it always is.
        """
        begun = self.stretches[-1].n_frames if self.stretches else 0
        if n_frames <= begun or (n_frames - begun < self._least_frames and not last):
            return
        increment = canvas - self._sum
        self._sum += increment
        self._keep((*self.stretches, Stretch(added=Sparse.of(increment), n_frames=n_frames)))

    def _keep(self, stretches: tuple[Stretch, ...]) -> None:
        while len(stretches) > 1 and (len(stretches) > MOST_STRETCHES or _nbytes(stretches) > MOST_BYTES):
            stretches = tuple(self._joined(stretches[at : at + 2]) for at in range(0, len(stretches), 2))
            self._sum = summed((stretch.added for stretch in stretches), self.shape)
            self._least_frames = stretches[-1].n_frames / len(stretches)
        self.stretches = stretches

    def _joined(self, neighbours: tuple[Stretch, ...]) -> Stretch:
        if len(neighbours) == 1:
            return neighbours[0]
        total = summed((stretch.added for stretch in neighbours), self.shape)
        return Stretch(added=Sparse.of(total), n_frames=neighbours[-1].n_frames)

    def pictures(self) -> Iterator[NDArray[np.float32]]:
        """Yield what each stretch added, (Y, X)."""
        for stretch in self.stretches:
            yield stretch.added.dense()

    def snapshot(self, most_frames: int) -> dict[str, NDArray[Any]]:
        """Return the stretches up to so many frames, for a checkpoint; from any thread."""
        stretches = [stretch for stretch in self.stretches if stretch.n_frames <= most_frames]
        return {
            "frames": np.array([stretch.n_frames for stretch in stretches], np.int64),
            "pixels": np.array([len(stretch.added.places) for stretch in stretches], np.int64),
            "places": np.concatenate([np.zeros(0, np.uint32), *(stretch.added.places for stretch in stretches)]),
            "values": np.concatenate([np.zeros(0, np.float32), *(stretch.added.values for stretch in stretches)]),
        }

    @classmethod
    def restored(cls, shape: tuple[int, int], arrays: Mapping[str, NDArray[Any]]) -> "Growth":
        """Go on from a snapshot; KeyError when it is none."""
        growth = cls(shape)
        ends = np.cumsum(arrays["pixels"])
        places, values = (np.split(arrays[name], ends[:-1]) for name in ("places", "values"))
        growth.stretches = tuple(
            Stretch(added=Sparse(shape=shape, places=some, values=theirs), n_frames=int(n))
            for some, theirs, n in zip(places, values, arrays["frames"], strict=False)
        )
        growth._sum = summed((stretch.added for stretch in growth.stretches), shape)
        growth._least_frames = max(growth.frames, default=1) / MOST_STRETCHES
        return growth


def _nbytes(stretches: tuple[Stretch, ...]) -> int:
    return sum(stretch.added.nbytes for stretch in stretches)
