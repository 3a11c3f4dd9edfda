"""Whether more frames would make a picture better.

Fourier ring correlation of two half canvases: Nieuwenhuizen et al., Nature Methods 10, 557 (2013). In each ring the
ratio of signal to noise, r / (1 - r), grows as the number of localizations does; so one curve tells what a longer run
would resolve, with far less noise than the resolutions so far.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormlive_models.frc import RingCorrelation

LEAST_FRAMES = 1000
"""Of a shorter run nothing is said."""
LEAST_POINTS = 5
MOST_GAIN_PERCENT = 2.0
"""What 1000 more frames may still bring to a converged run."""
MOST_LONGER_PERCENT = 5.0
"""And what half as many frames again as it has may bring."""
_MOST_CHANGE_PERCENT = 15.0
_LEAST_RINGS = 5


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A picture at one time of a run.

    Attributes
    ----------
    frames : int
        So many made it.
    total : float
        What is in it, in any unit; it grows with the localizations.
    resolution_nm : float
        By FRC; NaN where there is none.
    steepness : float
        See `steepness`.
    """

    frames: int
    total: float
    resolution_nm: float
    steepness: float


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Whether to go on.

    Attributes
    ----------
    gain_percent_per_1000 : float or None
        By how much 1000 more frames would lower the resolution (in nm); None where too little is known.
    converged : bool
        Whether more frames are of little use.
    """

    gain_percent_per_1000: float | None
    converged: bool


def steepness(curve: RingCorrelation) -> float:
    """Return by how much the logarithm of r / (1 - r) falls per logarithm of the frequency, at the resolution.

    A run that is longer by a factor then resolves 1 / steepness as much more, in logarithms. From a straight line over
    the squared frequency, from half of the resolution's frequency on; NaN where there are fewer than 5 rings.
    """
    limit = 1 / curve.resolution_nm
    near = (curve.frequency_per_nm >= limit / 2) & (curve.frequency_per_nm <= limit)
    if not math.isfinite(limit) or near.sum() < _LEAST_RINGS:
        return math.nan
    r = curve.correlation[near].clip(0.02, 0.98)
    square = curve.frequency_per_nm[near] ** 2
    slope = float(np.polyfit(square, np.log(r / (1 - r)), 1)[0])
    return max(0.0, -2 * slope * limit**2)


def advise(moments: Sequence[Moment]) -> Advice:
    """Judge from the moments of a run, in their order.

    A run has converged when it has at least 1000 frames, and in the median of at least 5 moments of its last third 1000
    more would gain less than 2 %, and half as many again as it has less than 5 % (labels seen about ten times in either
    half), and the resolution did not change by more than 15 % over that third. At what rate localizations come is that
    of the last half: of a sample that is bleached nothing more is to be gained.
    """
    nothing = Advice(gain_percent_per_1000=None, converged=False)
    if not moments or moments[-1].frames < LEAST_FRAMES:
        return nothing
    last = moments[-1]
    recent = [
        m for m in moments if m.frames >= 2 / 3 * last.frames and math.isfinite(m.resolution_nm) and m.steepness > 0
    ]
    earlier = [m for m in moments if m.frames <= last.frames / 2]
    if len(recent) < LEAST_POINTS or not earlier or not last.total > 0 or not math.isfinite(last.resolution_nm):
        return nothing
    steep = float(np.median([m.steepness for m in recent]))
    then = earlier[-1]
    per_frame = max(0.0, last.total - then.total) / (last.frames - then.frames) / last.total

    def gain_percent(frames: float) -> float:
        return 100 * -math.expm1(-math.log1p(per_frame * frames) / steep)

    gain, longer = gain_percent(1000), gain_percent(last.frames / 2)
    resolutions = [m.resolution_nm for m in recent]
    change = 100 * (max(resolutions) / min(resolutions) - 1)
    converged = gain < MOST_GAIN_PERCENT and longer < MOST_LONGER_PERCENT and change < _MOST_CHANGE_PERCENT
    return Advice(gain_percent_per_1000=gain, converged=converged)


def busiest_window(coarse: NDArray[np.floating], size: int) -> tuple[int, int]:
    """Return the first (row, column) of the window of `size` pixels a side, or fewer, with the most in it."""
    sums = np.pad(np.maximum(coarse, 0).astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(size, side) for side in coarse.shape)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(row), int(column)
