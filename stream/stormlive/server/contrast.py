"""The automatic contrast of whole pictures, for viewers who see a part of one: theirs must not change as they move.

The engine's thread copies a sample of the values, the packer's thread sorts it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stormlive.output.display import auto_contrasts
from stormlive.wire.fields import Picture
from stormlive.wire.viewing import CONTRAST_PERCENTILES, Contrast

SAMPLE_PX = 2**20
"""Values that are looked at, about: of larger pictures those of some evenly spaced rows."""
RENEW_S = 0.5
_SAMPLE_SHARE = 0.01
"""Of the engine thread's time, that samples may take."""
_LEAST_LIT = 100
"""Values above 0, below which chance decides where white is."""

_NOT_YET = -1

Part: TypeAlias = Callable[[int, int, int, int], NDArray[np.float32]]
"""Returns the rectangle (x, y, w, h) of a picture, (h, w); it may be a view of it."""
Kind: TypeAlias = tuple[Picture, int]
"""Which of a canvas' pictures, and at which level."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Copied values of a picture, the frames that were in it, and until when no other is to be taken."""

    kind: Kind
    values: NDArray[np.float32]
    n_frames: int
    until: float


@dataclass(frozen=True, kw_only=True)
class _Known:
    contrast: Contrast | None
    n_frames: int
    until: float


@dataclass(kw_only=True, eq=False)
class Contrasts:
    """Those of one canvas' pictures, at the levels that viewers have asked for."""

    _known: dict[Kind, _Known] = field(default_factory=dict)

    def find(self, kind: Kind, n_frames: int, part: Part, shape: tuple[int, int]) -> Contrast | Sample | None:
        """Return the contrast of a picture (rows, columns), None where too little is lit, or what `measure` needs.

        It is that of the same number of frames, or of less than half a second ago. In the engine's thread.
        """
        known, began = self._known.get(kind), time.monotonic()
        if known is not None and (known.n_frames == n_frames or began < known.until):
            return known.contrast
        values = _sampled(part, shape)
        now = time.monotonic()
        until = now + max(RENEW_S, (now - began) / _SAMPLE_SHARE)
        # Until it is measured, or where that never happens, others get what was known, and no further copy is made.
        self._known[kind] = _Known(contrast=None if known is None else known.contrast, n_frames=_NOT_YET, until=until)
        return Sample(kind=kind, values=values, n_frames=n_frames, until=until)

    def measure(self, sample: Sample) -> Contrast | None:
        """Return the contrast of a sample, and remember it; in any thread."""
        contrast = None
        if np.count_nonzero(sample.values > 0) >= _LEAST_LIT:
            contrast = auto_contrasts(sample.values, CONTRAST_PERCENTILES)
        self._known[sample.kind] = _Known(contrast=contrast, n_frames=sample.n_frames, until=sample.until)
        return contrast


def _sampled(part: Part, shape: tuple[int, int]) -> NDArray[np.float32]:
    rows, columns = shape
    step = -(-rows * columns // SAMPLE_PX)
    if step <= 1:
        return np.array(part(0, 0, columns, rows), np.float32)
    return np.concatenate(
        [part(0, y, columns, 1) for y in range(min(step // 2, rows - 1), rows, step)], dtype=np.float32
    )
