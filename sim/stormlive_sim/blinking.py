"""Blinking: which labels emit when, and for what part of a frame."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from stormlive_sim.emitters import Emitters

# Blocks of this many mean on-times: an activation longer than one (1 in 10^10) is cut.
_BLOCK_ON_TIMES = 25


@dataclass(frozen=True, kw_only=True)
class Blinking:
    """On/off/bleach kinetics of the labels.

    Attributes
    ----------
    on_ms : float
        Mean duration of one activation (exponential).
    off_ms : float
        Mean dark time of a label between activations.
    bleach_ms : float
        Time after which 1/e of the labels is still alive.
    photons_per_ms : float
        Mean emission rate while on.
    brightness : str
        How the rate differs from activation to activation: ``log-normal``, or ``exponential`` (many dim ones).
    brightness_spread : float
        Standard deviation of the logarithm of a log-normal rate; of no account for an exponential one.

    Notes
    -----
    At one rate for all, the photons of a whole activation are already exponentially distributed, since its duration
    is; `brightness` decides those of a frame in which an emitter is on throughout.
    """

    on_ms: float = 40.0
    off_ms: float = 10_000.0
    bleach_ms: float = float("inf")
    photons_per_ms: float = 50.0
    brightness: Literal["log-normal", "exponential"] = "log-normal"
    brightness_spread: float = 0.3


class BlinkingSample:
    """Labels at fixed sites that blink; any stretch of time can be asked for, in any order.

    Activations form a Poisson process per label, drawn in short blocks that each have a seed of their own: the
    run has no end and frame 100,000 costs what frame 0 costs. A label may therefore be activated again while
    still on, with a probability of on/(on + off); at the duty cycles of STORM (< 1 %) this is rarer than what
    any experiment sees.

    Parameters
    ----------
    sites_nm : Tensor
        float32 (L, 2), (x, y) of the labels in nm.
    blinking : Blinking
        Kinetics.
    seed : int
        Decides everything.
    """

    def __init__(self, sites_nm: Tensor, blinking: Blinking, seed: int) -> None:
        self.sites_nm = sites_nm
        self.blinking = blinking
        self.seed = seed
        self._block_ms = _BLOCK_ON_TIMES * blinking.on_ms
        self._block = lru_cache(maxsize=4)(self._draw_block)

    def _draw_block(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kinetics = self.blinking
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, number))
        alive = torch.exp(torch.tensor(-number * self._block_ms / kinetics.bleach_ms))
        mean = len(self.sites_nm) * self._block_ms / (kinetics.on_ms + kinetics.off_ms) * alive
        n = int(torch.poisson(mean, generator))
        start = (torch.rand(n, generator=generator, dtype=torch.float64) + number) * self._block_ms
        # Longer than one block would have to be looked for in more than the block before.
        length = torch.empty(n, dtype=torch.float64).exponential_(1 / kinetics.on_ms, generator=generator)
        site = torch.randint(max(1, len(self.sites_nm)), (n,), generator=generator)
        rate = self._brightness(n, generator) * kinetics.photons_per_ms
        return start, start + length.clamp_max(self._block_ms), site, rate

    def _brightness(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n factors of mean one."""
        if self.blinking.brightness == "exponential":
            return torch.empty(n).exponential_(1.0, generator=generator)
        spread = self.blinking.brightness_spread
        # exp(N(-s²/2, s)) has mean one.
        return torch.exp(torch.randn(n, generator=generator) * spread - spread**2 / 2)

    def seen(self, start_ms: float, stop_ms: float) -> tuple[Tensor, Tensor]:
        """Return which labels emit between two times, and the photons of the time each was on.

        Parameters
        ----------
        start_ms, stop_ms : float
            The exposure, in ms since the start of the run.

        Returns
        -------
        site : Tensor
            int64 (N,), index into `sites_nm`.
        photons : Tensor
            float32 (N,).
        """
        sites, photons = [], []
        for number in range(int(start_ms // self._block_ms) - 1, int(stop_ms // self._block_ms) + 1):
            begin, end, site, rate = self._block(number)
            on_ms = end.clamp_max(stop_ms) - begin.clamp_min(start_ms)
            seen = on_ms > 0
            sites.append(site[seen])
            photons.append((rate[seen] * on_ms[seen]).float())
        return torch.cat(sites), torch.cat(photons)

    def emitters(self, start_ms: float, stop_ms: float, frame: int) -> Emitters:
        """Return what emits between two times, where the labels sit, with `frame` as the number in the table."""
        site, photons = self.seen(start_ms, stop_ms)
        x_nm, y_nm = self.sites_nm[site].unbind(1)
        return Emitters(frame=torch.full_like(site, frame), x_nm=x_nm, y_nm=y_nm, photons=photons)


def mixed_seed(seed: int, number: int) -> int:
    """Return a seed of its own for each number (SplitMix64, Steele et al. 2014), so that neighbours differ."""
    value = (seed * 0x9E3779B97F4A7C15 + (number + 1) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (value ^ (value >> 31)) & 0x7FFFFFFFFFFFFFFF
