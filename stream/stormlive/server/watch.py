"""The judge's notes on a run: on each of the canvases that it looks at, and on whose turn it is."""

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from stormlive.server.judging import Judging
    from stormlive.server.look import Look
    from stormlive.server.protocols import Canvas
    from stormlive.server.run import Run

MOST_JUDGED = 8
"""Canvases of a run that are judged, those that were begun first."""


@dataclass(kw_only=True, eq=False)
class Watch:
    """The judge's notes on one canvas; the engine's thread writes them.

    Attributes
    ----------
    judging
        None before there is something to look at.
    raw
        Consecutive frames since the last look.
    due_at
        Before which there is no further look.
    n_frames
        That the last look had; `looked_at` when that was, `compared_at` when the last one was that is compared with
        the widefield picture.
    look
        The last one of a run that has ended.
    """

    judging: "Judging | None" = None
    raw: list[NDArray[Any]] = field(default_factory=list)
    due_at: float = 0.0
    n_frames: int = 0
    looked_at: float = 0.0
    compared_at: float = 0.0
    look: "Look | None" = None


@dataclass(kw_only=True, eq=False)
class Turns:
    """How a run's canvases take turns with the judge, so that several take no more of its time than one.

    The engine's thread asks and sets `busy`; the judge's thread sets the times, and `busy` back.

    Attributes
    ----------
    due_at
        When the next look is due, at whichever canvas; `compare_at` when one that is compared with the widefield is.
    busy
        Whether a look is being thought about.
    closed
        Whether the run has ended.
    trouble
        What went wrong; then nothing more is judged.
    """

    due_at: float = 0.0
    compare_at: float = 0.0
    busy: bool = False
    closed: bool = False
    trouble: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


def watched(run: "Run") -> list[tuple["Canvas", Watch]]:
    """Return the canvases of a run that are judged, each with the notes on it."""
    canvases = () if run.canvases is None else run.canvases.all
    return [(canvas, canvas.watch) for canvas in canvases if canvas.watch is not None]
