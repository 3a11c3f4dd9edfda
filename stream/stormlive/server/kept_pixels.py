"""The pixels of frames that wait for others: in memory up to a bound, beyond it in the run's dataset."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from stormlive_sim.errors import InputError


class Saved(Protocol):
    """A dataset; both raise InputError when it cannot be read."""

    def has(self, axes: Mapping[str, int | str]) -> bool:
        """Return whether a frame with these axes is there now."""

    def frame(self, axes: Mapping[str, int | str]) -> NDArray[Any] | None:
        """Return the frame with these axes, (Y, X); None where there is none."""


class KeptPixels:
    """Pixels (Y, X) by the number of their frame; in the engine's thread only.

    Parameters
    ----------
    saved
        The run's dataset, where there is one.
    most_bytes
        How much of it may be here before what the dataset has is left to it.

    Attributes
    ----------
    here
        What is in memory, the oldest first.
    """

    def __init__(self, saved: Saved | None, most_bytes: int) -> None:
        self._saved = saved
        self._most_bytes = most_bytes
        self._borrowed: list[int] = []
        self._read: list[int] = []
        self.here: dict[int, NDArray[Any]] = {}

    def lend(self, seq: int, image: NDArray[Any]) -> None:
        """Keep pixels that are a part of a whole batch's."""
        self.here[seq] = image
        self._borrowed.append(seq)

    def own(self) -> None:
        """Take copies of those that are still needed, so that no batch is kept for the sake of one frame."""
        for seq in self._borrowed:
            if seq in self.here:
                self.here[seq] = self.here[seq].copy()
        self._borrowed = []

    def get(self, seq: int, axes: Mapping[str, int | str]) -> NDArray[Any] | None:
        """Return the pixels of a frame, from the dataset if need be; None where they are not to be had."""
        if seq not in self.here and self._saved is not None:
            try:
                image = self._saved.frame(axes)
            except InputError:
                image = None
            if image is not None:
                self.here[seq] = image
                self._read.append(seq)
        return self.here.get(seq)

    def too_many(self, least: int) -> bool:
        """Return whether there are more than memory is for, and more than `least`."""
        one_bytes = next(iter(self.here.values())).nbytes if self.here else 1
        return len(self.here) > max(least, self._most_bytes // one_bytes)

    def give_back(self, least: int) -> None:
        """Let go again of what was read since the last time, while there are too many."""
        for seq in self._read:
            if self.too_many(least):
                self.let_go(seq)
        self._read = []

    def leave(self, seq: int, axes: Mapping[str, int | str]) -> bool:
        """Leave a frame's pixels to the dataset; False where it does not have them now, though it may later."""
        try:
            saved = self._saved is not None and bool(axes) and self._saved.has(axes)
        except InputError:
            saved = False
        if saved:
            del self.here[seq]
        return saved

    def let_go(self, seq: int) -> None:
        """Let go of a frame's pixels, if they are here."""
        self.here.pop(seq, None)
