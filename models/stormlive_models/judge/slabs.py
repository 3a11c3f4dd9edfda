"""A canvas in slabs of time, so that drift that is known only later can still be taken out of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormlive_models.judge.drift import Correlator, Shift, add_shifted, align

SLAB_FRAMES = 200
Window = tuple[slice, slice]


@dataclass(kw_only=True, eq=False)
class Slab:
    """What some frames added to the canvas, and how far the sample had moved, (x, y) in nm."""

    picture: NDArray[np.float32]
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
    window : (slice, slice)
        The rows and columns that are compared.
    most : int
        Slabs that are kept, 2 or more; each takes as much memory as the canvas.

    Attributes
    ----------
    slabs : list of Slab
        In their order; those that the drift is known of.
    """

    def __init__(self, pixel_nm: float, window: Window, most: int) -> None:
        self._pixel_nm = pixel_nm
        self._window = window
        self._most = most
        shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
        self._correlator = Correlator(shape, pixel_nm)
        self.slabs: list[Slab] = []
        self._waiting: NDArray[np.float32] | None = None
        self._waiting_frames = 0

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
        """Take what so many frames added to the canvas; return whether a slab was made of it."""
        self._waiting = increment.copy() if self._waiting is None else self._waiting + increment
        self._waiting_frames += n_frames
        if self._waiting_frames < SLAB_FRAMES or not self._waiting[self._window].any():
            return False
        spectrum = self._correlator.spectrum(self._waiting[self._window])
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
        self.slabs.append(Slab(picture=self._waiting, spectrum=spectrum, n_frames=self._waiting_frames, shift_nm=shift))
        self._waiting, self._waiting_frames = None, 0
        if len(self.slabs) > self._most:
            self._merge()
        return True

    def _merge(self) -> None:
        pairs = zip(self.slabs, self.slabs[1:], strict=False)
        lengths = [first.n_frames + second.n_frames for first, second in pairs]
        at = lengths.index(min(lengths))
        first, second = self.slabs[at : at + 2]
        self._add_back(first.picture, second, first.shift_nm)
        first.spectrum = self._correlator.spectrum(first.picture[self._window])
        first.n_frames += second.n_frames
        del self.slabs[at + 1]

    def _add_back(self, total: NDArray[np.float32], slab: Slab, to: Shift = (0.0, 0.0)) -> None:
        x, y = ((there - here) / self._pixel_nm for there, here in zip(to, slab.shift_nm, strict=True))
        add_shifted(total, slab.picture, (x, y))

    def release(self) -> None:
        """Let the pictures go when no more is to come; what is known of the drift stays."""
        for slab in self.slabs:
            slab.picture, slab.spectrum = slab.picture[:0], slab.spectrum[:0]
        self._waiting = None

    def corrected(self) -> NDArray[np.float32] | None:
        """Return the whole canvas as it would be without drift; None before there are two slabs."""
        if len(self.slabs) < 2:
            return None
        total = np.zeros_like(self.slabs[0].picture)
        for slab in self.slabs:
            self._add_back(total, slab)
        if self._waiting is not None:
            x, y = (-way / self._pixel_nm for way in self.slabs[-1].shift_nm)
            add_shifted(total, self._waiting, (x, y))
        return total
