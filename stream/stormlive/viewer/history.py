"""What the server's judgement was over time, while the window was open."""

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from stormlive.wire.viewing import MAX_CANVASES, Judgement

_MOST = 2000


class History:
    """Judgements of the newest run's canvases, as far as they were looked at; one for each number of frames.

    When there are too many, every second one is let go: the curves keep their shape, and memory its bound.
    """

    def __init__(self) -> None:
        self._run: UUID | None = None
        self._points: dict[str, list[tuple[int, Judgement]]] = {}

    def add(self, run: UUID | None, judgement: Judgement | None) -> None:
        """Take up what is said of a canvas; another run begins anew."""
        if run != self._run or len(self._points) > MAX_CANVASES:
            self._run, self._points = run, {}
        if judgement is None:
            return
        points = self._points.setdefault(judgement.canvas, [])
        if not points or judgement.frames > points[-1][0]:
            points.append((judgement.frames, judgement))
        if len(points) > _MOST:
            del points[1:-1:2]

    def curve(
        self, canvas: str, name: str, index: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return frames (N,) and values (N,) of a field of `Judgement`, where it is known; `index` into a pair."""
        points = self._points.get(canvas, [])
        known = [(n, value) for n, judgement in points if (value := getattr(judgement, name)) is not None]
        frames = np.array([n for n, _ in known], np.float64)
        values = np.array([value if index is None else value[index] for _, value in known], np.float64)
        return frames, values
