"""A canvas in slabs of time, so that drift that is known only later can still be taken out of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormlive_models.judge.drift import Correlator, Shift, align
from stormlive_models.judge.sparse import Sparse, summed

SLAB_FRAMES = 200
SLAB_BYTES = 512 * 2**20
Window = tuple[slice, slice]
Halves = tuple[Sparse, Sparse]


@dataclass(kw_only=True, eq=False)
class Slab:
    """What either half of some frames added to the canvas, and how far the sample had moved, (x, y) in nm."""

    halves: Halves
    spectrum: NDArray[np.complex64]
    n_frames: int
    shift_nm: Shift


class Slabs:
    """The slabs of a growing canvas, at most so many; no frame is ever lost.

    A slab is begun after 200 frames, or as many more as it takes to find it in the sum of the others. Where there are
    too many, the two neighbours with the fewest frames become one, the later moved to where the earlier is.

    Parameters
    ----------
    pixel_nm : float
        Canvas pixel.
    shape : (int, int)
        Of the canvas.
    window : (slice, slice)
        The rows and columns that are compared.
    most, most_bytes : int
        Slabs that are kept, 2 or more, and the memory that they may take.

    Attributes
    ----------
    slabs : list of Slab
        In their order; those that the drift is known of.
    halves : list of ndarray
        Two pictures of the window without drift, float32, of alternate pieces of all frames.
    half_frames : list of int
        How many are in either.
    """

    def __init__(
        self, pixel_nm: float, shape: tuple[int, int], window: Window, most: int, most_bytes: int = SLAB_BYTES
    ) -> None:
        self._pixel_nm = pixel_nm
        self._shape = shape
        self._window = window
        self._most = most
        self._most_bytes = most_bytes
        self._window_shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
        self._correlator = Correlator(self._window_shape, pixel_nm)
        self.slabs: list[Slab] = []
        self._waiting = (Sparse.empty(shape), Sparse.empty(shape))
        self._waiting_frames = 0
        self.halves = [np.zeros(self._window_shape, np.float32) for _ in range(2)]
        self.half_frames = [0, 0]

    @property
    def drift_nm(self) -> Shift | None:
        """How far the sample has moved since the first slab, (x, y); None before there are two."""
        return self.slabs[-1].shift_nm if len(self.slabs) > 1 else None

    @property
    def greatest_nm(self) -> float:
        """The farthest along an axis that two slabs are apart."""
        return max((float(np.ptp(axis)) for axis in zip(*(s.shift_nm for s in self.slabs), strict=True)), default=0.0)

    def path(self) -> list[tuple[int, float, float]]:
        """Return the frame in the middle of each slab and how far the sample had moved then, x and y in nm."""
        last = np.cumsum([slab.n_frames for slab in self.slabs])
        return [(int(end - slab.n_frames / 2), *slab.shift_nm) for end, slab in zip(last, self.slabs, strict=True)]

    def add(self, increment: NDArray[np.float32], n_frames: int) -> bool:
        """Take what so many frames added to the canvas; return whether a slab was made of it.

        They go to the half that has fewer.
        """
        half = int(self.half_frames[1] < self.half_frames[0])
        piece = Sparse.of(increment)
        waiting = list(self._waiting)
        waiting[half] = Sparse.of(summed((waiting[half], piece), self._shape)) if waiting[half].nbytes else piece
        self._waiting = (waiting[0], waiting[1])
        self._waiting_frames += n_frames
        self.half_frames[half] += n_frames
        piece.cut(self._window).add_to(self.halves[half], self._back(self._newest_nm))
        if not self._close_slab():
            return False
        self._merge_while_too_many()
        for number in range(2):
            # All slabs may have been found to be elsewhere than was believed.
            self.halves[number][:] = 0
            for slab in self.slabs:
                slab.halves[number].cut(self._window).add_to(self.halves[number], self._back(slab.shift_nm))
        return True

    def _close_slab(self) -> bool:
        """Make a slab of the frames that wait, if they are enough."""
        if self._waiting_frames < SLAB_FRAMES:
            return False
        inside = summed((half.cut(self._window) for half in self._waiting), self._window_shape)
        if not inside.any():
            return False
        spectrum = self._correlator.spectrum(inside)
        shift = (0.0, 0.0)
        if self.slabs:
            start = [slab.shift_nm for slab in self.slabs]
            found = align(self._correlator, [*(slab.spectrum for slab in self.slabs), spectrum], start)
            # As long as all slabs before it, it will not be found better later.
            if not found[-1].is_sure and self._waiting_frames < sum(slab.n_frames for slab in self.slabs):
                return False
            for slab, one in zip(self.slabs, found, strict=False):
                slab.shift_nm = one.shift_nm
            shift = found[-1].shift_nm
        self.slabs.append(Slab(halves=self._waiting, spectrum=spectrum, n_frames=self._waiting_frames, shift_nm=shift))
        self._waiting, self._waiting_frames = (Sparse.empty(self._shape), Sparse.empty(self._shape)), 0
        return True

    def keep_within(self, most_bytes: int) -> None:
        """Take no more memory than that from now on, of what there is too."""
        self._most_bytes = most_bytes
        self._merge_while_too_many()

    def _merge_while_too_many(self) -> None:
        while len(self.slabs) > self._most or (len(self.slabs) > 2 and self._nbytes() > self._most_bytes):
            self._merge()

    def _merge(self) -> None:
        pairs = zip(self.slabs, self.slabs[1:], strict=False)
        lengths = [first.n_frames + second.n_frames for first, second in pairs]
        at = lengths.index(min(lengths))
        first, second = self.slabs[at : at + 2]
        there, here = first.shift_nm, second.shift_nm
        first.halves = (
            self._joined(first.halves[0], second.halves[0], (there[0] - here[0], there[1] - here[1])),
            self._joined(first.halves[1], second.halves[1], (there[0] - here[0], there[1] - here[1])),
        )
        inside = summed((half.cut(self._window) for half in first.halves), self._window_shape)
        first.spectrum = self._correlator.spectrum(inside)
        first.n_frames += second.n_frames
        del self.slabs[at + 1]

    def _joined(self, one: Sparse, other: Sparse, moved_nm: Shift) -> Sparse:
        total = one.dense()
        other.add_to(total, (moved_nm[0] / self._pixel_nm, moved_nm[1] / self._pixel_nm))
        return Sparse.of(total)

    def _nbytes(self) -> int:
        return sum(half.nbytes for slab in self.slabs for half in slab.halves)

    @property
    def _newest_nm(self) -> Shift:
        return self.slabs[-1].shift_nm if self.slabs else (0.0, 0.0)

    def _back(self, shift_nm: Shift) -> Shift:
        """Return how many pixels a picture must be moved to be where the first slab is."""
        return -shift_nm[0] / self._pixel_nm, -shift_nm[1] / self._pixel_nm

    def release(self) -> None:
        """Let the pictures go when no more is to come; what is known of the drift stays."""
        nothing = Sparse.empty(self._shape)
        for slab in self.slabs:
            slab.halves, slab.spectrum = (nothing, nothing), slab.spectrum[:0]
        self._waiting = (nothing, nothing)
        self.halves = []

    def corrected(self) -> NDArray[np.float32] | None:
        """Return the whole canvas as it would be without drift; None before there are two slabs."""
        if len(self.slabs) < 2:
            return None
        total = np.zeros(self._shape, np.float32)
        for slab in self.slabs:
            for half in slab.halves:
                half.add_to(total, self._back(slab.shift_nm))
        for half in self._waiting:
            half.add_to(total, self._back(self._newest_nm))
        return total
