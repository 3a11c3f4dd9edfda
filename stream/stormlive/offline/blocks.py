"""The frames of a movie in blocks, each with the neighbours that a network with context looks at."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormlive_sim.recording import Recording

BLOCK = 32
"""Frames that are computed at once, in one process and in many, so that the network sees the very same batches."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Frames to be added to a picture.

    Attributes
    ----------
    first, end : int
        They are the movie's frames `first` to before `end`.
    frames : ndarray
        (B, Y, X), with neighbours before and after.
    own : slice
        Which of `frames` they are.
    """

    first: int
    end: int
    frames: NDArray[Any]
    own: slice


def blocks(movie: Recording | NDArray[Any], context: int, first: int = 0, end: int | None = None) -> Iterator[Block]:
    """Yield the frames `first` to before `end` with up to `context` neighbours either side, as far as there are any."""
    end = len(movie) if end is None else end
    for start in range(first, end, BLOCK):
        stop = min(start + BLOCK, end)
        low, high = max(0, start - context), min(len(movie), stop + context)
        yield Block(first=start, end=stop, frames=_read(movie, low, high), own=slice(start - low, stop - low))


def _read(movie: Recording | NDArray[Any], first: int, end: int) -> NDArray[Any]:
    if not isinstance(movie, Recording):
        return movie[first:end]
    frames = np.empty((end - first, *movie.shape[1:]), movie.dtype)
    for number, frame in enumerate(frames, first):
        movie.frame(number, out=frame)
    return frames
