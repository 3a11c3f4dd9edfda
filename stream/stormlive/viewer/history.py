"""What the server's judgement was over time, while the window was open."""

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from stormlive.wire.viewing import Judgement, Status

_MOST = 2000


class History:
    """Judgements of the newest run, one for each number of frames.

    When there are too many, every second one is let go: the curves keep their shape, and memory its bound.
    """

    def __init__(self) -> None:
        self._run: tuple[UUID | None, str] = (None, "")
        self._points: list[tuple[int, Judgement]] = []

    def add(self, status: Status) -> None:
        """Take up a status; that of another run, or about another canvas, begins anew."""
        judgement = status.judgement
        if not judgement:
            if status.run != self._run[0]:
                self._run, self._points = (status.run, ""), []
            return
        if (status.run, judgement.canvas) != self._run:
            self._run, self._points = (status.run, judgement.canvas), []
        if not self._points or judgement.frames > self._points[-1][0]:
            self._points.append((judgement.frames, judgement))
        if len(self._points) > _MOST:
            del self._points[1:-1:2]

    def curve(self, name: str, index: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return frames (N,) and values (N,) of a field of `Judgement`, where it is known; `index` into a pair."""
        known = [(n, value) for n, judgement in self._points if (value := getattr(judgement, name)) is not None]
        frames = np.array([n for n, _ in known], np.float64)
        values = np.array([value if index is None else value[index] for _, value in known], np.float64)
        return frames, values
