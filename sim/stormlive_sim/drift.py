"""Drift of the sample: a steady creep and a random walk."""

import csv
import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import msgspec
import torch

from stormlive_sim.atomic import whole_file
from stormlive_sim.blinking import mixed_seed
from stormlive_sim.quantities import Amount, Signed

# The walk is laid out over 2^36 ms (two years) down to steps of 1 ms.
_LEVELS = 36


class Drift(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the sample moves under the objective.

    Attributes
    ----------
    x_nm_per_s, y_nm_per_s : float
        Steady velocity.
    walk_nm_per_sqrt_s : float
        Random walk: its standard deviation along each axis after one second; after t seconds sqrt(t) times that.
    """

    x_nm_per_s: Signed = 0.0
    y_nm_per_s: Signed = 0.0
    walk_nm_per_sqrt_s: Amount = 0.0

    @property
    def moves(self) -> bool:
        """Whether there is any drift."""
        return any((self.x_nm_per_s, self.y_nm_per_s, self.walk_nm_per_sqrt_s))


class DriftPath:
    """Where the sample is at any time, asked for in any order.

    Parameters
    ----------
    drift : Drift
        How it moves.
    seed : int
        Decides the random walk.

    Notes
    -----
    The walk is Brownian motion by Lévy's construction: the middle of an interval is the mean of its ends plus a
    normal deviate of variance (length / 4), and each deviate has a seed of its own. Any time is reached from the whole
    run by 36 halvings, so the last frame of a run costs what the first costs.
    """

    def __init__(self, drift: Drift, seed: int) -> None:
        self.drift = drift
        self._seed = seed
        # Neighbouring frames share all but the last few halvings.
        self._deviate = lru_cache(maxsize=4 * _LEVELS)(self._draw_deviate)

    def _draw_deviate(self, node: int) -> complex:
        generator = torch.Generator().manual_seed(mixed_seed(self._seed, node))
        return complex(*torch.randn(2, generator=generator, dtype=torch.float64).tolist())

    def at(self, time_ms: float) -> tuple[float, float]:
        """Return how far the sample has moved since the start of the run, (x, y) in nm."""
        seconds = time_ms / 1000
        walk = self._walk(time_ms) * self.drift.walk_nm_per_sqrt_s if self.drift.walk_nm_per_sqrt_s else 0j
        return self.drift.x_nm_per_s * seconds + walk.real, self.drift.y_nm_per_s * seconds + walk.imag

    def _walk(self, time_ms: float) -> complex:
        """Return a walk of variance one per second; x is the real part and y the imaginary one."""
        begin, length = 0.0, 2.0**_LEVELS
        at_begin, at_end = 0j, math.sqrt(length / 1000) * self._deviate(0)
        node = 1
        for _ in range(_LEVELS):
            length /= 2
            middle = (at_begin + at_end) / 2 + math.sqrt(length / 2 / 1000) * self._deviate(node)
            later = bool(time_ms >= begin + length)
            if later:
                begin, at_begin = begin + length, middle
            else:
                at_end = middle
            node = 2 * node + later
        return at_begin + (at_end - at_begin) * (time_ms - begin) / length


def write_drift(path: Path, positions_nm: Iterable[tuple[float, float]]) -> None:
    """Write the drift of each frame, (x, y) in nm, as a CSV; frames count from one, as in ThunderSTORM's tables."""
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("frame", "x [nm]", "y [nm]"))
        for frame, (x_nm, y_nm) in enumerate(positions_nm, 1):
            rows.writerow((frame, f"{x_nm:.2f}", f"{y_nm:.2f}"))
