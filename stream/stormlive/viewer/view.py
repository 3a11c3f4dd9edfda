"""What the window shows, and what it asks for: plain data between the window and the network."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stormlive.wire.fields import Region
from stormlive.wire.viewing import Contrast, Judgement, Status

_SNAP_PX = 64
FINEST = 1.25
"""So many values a pixel of the screen may stand for along its side; drawn with linear interpolation, all show."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image (Y, X) and where it lies in the field; (0, 0) nm is the outer corner of the first pixel."""

    pixels: NDArray[np.float32]
    pixel_size_nm: float
    x_nm: float = 0.0
    y_nm: float = 0.0
    contrast: Contrast | None = None
    """The limits of the automatic contrast of the whole of which this is a part, in pixels of this size."""


@dataclass(frozen=True, kw_only=True)
class LiveView:
    """One state of a run, ready to be shown."""

    widefield: Picture
    superres: Picture
    field_nm: tuple[float, float]
    """Height and width of the whole field, of which the pictures may show a part."""
    status: str
    """On one line, where there is no `report`."""
    report: Status | None = None
    """The numbers behind it, where a server tells them."""
    judgement: Judgement | None = None
    """Of the canvas that is shown."""
    replay: "Replay | None" = None
    """Of a run that has ended: which moments of it there are to be seen."""
    no_replay: str = ""
    """Why there are none, of a run that has ended."""
    canvases: tuple[str, ...] = ()
    """Names of the run's canvases, where there are several."""
    canvas: str = ""
    """The name of the one that is shown, where there are several."""
    last: bool = False
    """Whether `widefield` is the last frame instead of the mean."""
    errors: Picture | None = None
    """Where the canvas disagrees with the widefield, if it was wanted and is known; in photons."""
    corrected: bool = False
    """Whether `superres` is corrected for drift."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """How many frames the canvas had at each place of a replay, and which place is shown."""

    frames: tuple[int, ...]
    at: int


@dataclass(frozen=True, kw_only=True)
class Visible:
    """The part of the field that the window shows now, how finely, and what is wanted of it."""

    x_nm: float
    y_nm: float
    width_nm: float
    height_nm: float
    nm_per_screen_px: float
    canvas: str | None = None
    """The canvas that is wanted; None for the one that was begun last."""
    last: bool = False
    """The last frame is wanted instead of the mean."""
    errors: bool = False
    """The map of errors is wanted too."""
    corrected: bool = False
    """The canvas is wanted corrected for drift."""
    at: int | None = None
    """The place in the replay of a run that has ended; None for the last."""

    def level_and_rectangle(
        self, *, shape: tuple[int, int], pixel_size_nm: float, levels: int
    ) -> tuple[int, tuple[int, int, int, int]]:
        """Return what to ask of a sum pyramid: its level, and (y, x, height, width) in pixels of that level.

        Level k of the pyramid over a canvas of `shape` (Y, X) sums 2**k × 2**k pixels. The level is the
        finest of whose pixels the screen's do not stand for more than `FINEST`: else some would not be drawn.
        The rectangle lies within the level and is never empty.
        """
        exact = math.log2(self.nm_per_screen_px / pixel_size_nm / FINEST)
        level = math.ceil(min(max(exact - 1e-6, 0.0), levels - 1.0))
        size_nm = pixel_size_nm * 2**level
        rows, columns = (math.ceil(side / 2**level) for side in shape)
        top, height = _clipped(self.y_nm / size_nm, (self.y_nm + self.height_nm) / size_nm, rows)
        left, width = _clipped(self.x_nm / size_nm, (self.x_nm + self.width_nm) / size_nm, columns)
        return level, (top, left, height, width)

    def with_margin(self, share: float) -> Self:
        """Return the part with a margin of this share of its sides, so that a small pan finds something there."""
        if not math.isfinite(self.width_nm):
            return self
        x, y = share * self.width_nm, share * self.height_nm
        return replace(
            self,
            x_nm=self.x_nm - x,
            y_nm=self.y_nm - y,
            width_nm=self.width_nm + 2 * x,
            height_nm=self.height_nm + 2 * y,
        )


EVERYTHING = Visible(x_nm=0.0, y_nm=0.0, width_nm=math.inf, height_nm=math.inf, nm_per_screen_px=math.inf)
"""What a window asks for that does not know the field yet: all of it, at the coarsest level."""


def _clipped(start: float, end: float, count: int) -> tuple[int, int]:
    """Return first pixel and number of pixels that cover `start` to `end` within 0 to `count`.

    They reach out to whole blocks, so that a pan by a few pixels asks for the same again.
    """
    first = math.floor(min(max(start, 0.0), count - 1.0))
    last = math.ceil(min(max(end, first + 1.0), float(count)))
    first -= first % _SNAP_PX
    last = min(-(-last // _SNAP_PX) * _SNAP_PX, count)
    return first, last - first


Fetch = Callable[[Visible], LiveView | None]
"""Get the newest view of a part of the field, or None where neither the run nor the part has changed since.

It is called from one thread of its own, one call at a time, and must return within a second or so, because
closing the window waits for it. It may return more than the visible part, and finer than the screen resolves.
"""

Steer = Callable[[Region | None], str]
"""Have frames computed in a region of the camera only, or (None) all over again, and return what is to be said of it.

Called from the same thread as `Fetch`; raises an InputError or a ConnectionError that says why not.
"""

WaitsFor = Callable[[], str]
"""Say in plain words what has to come before there is a view; called from the window's own thread."""

Leave = Callable[[], None]
"""End what `Fetch` waits for, when the window is closed; called from the window's own thread."""

FetchWhole = Callable[[str | None], Picture]
"""Get the whole canvas of a name (None: the one that was begun last) at its finest; called from the same thread."""
