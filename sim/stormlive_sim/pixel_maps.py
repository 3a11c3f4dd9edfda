"""Maps of a chip: how its pixels differ from each other."""

from dataclasses import dataclass
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from stormlive_sim.quantities import Amount, Seed, Share


class PixelVariation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How unequal the pixels of a chip are; without any of it all are alike.

    Attributes
    ----------
    offset_sd_adu : float
        Standard deviation of the offset from pixel to pixel (sCMOS: about 1 to 3 ADU).
    gain_spread : float
        Relative standard deviation of the ADU per electron (sCMOS: about 0.01 to 0.03).
    qe_spread : float
        Relative standard deviation of the quantum efficiency (0.04 was measured by Babcock et al., Scientific
        Reports 9, 18058, 2019).
    read_noise_spread : float
        Standard deviation of the logarithm of the read noise, whose median is the sensor's: most pixels are quiet
        and a tail is loud, as in Huang et al., Nature Methods 10, 653 (2013). 0.6 makes the rms 1.4 medians.
    dark_e_per_s : float
        Dark current of every pixel, in electrons.
    hot_share, hot_e_per_s : float
        Share of pixels that glow, and the mean of their (exponentially distributed) dark current.
    dead_share : float
        Share of pixels that see no light.
    seed : int
        Which chip: the same seed is the same camera, whatever the sample.
    """

    offset_sd_adu: Amount = 0.0
    gain_spread: Share = 0.0
    qe_spread: Share = 0.0
    read_noise_spread: Annotated[float, Meta(ge=0, le=3)] = 0.0
    dark_e_per_s: Amount = 0.0
    hot_share: Share = 0.0
    hot_e_per_s: Amount = 500.0
    dead_share: Share = 0.0
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class PixelMaps:
    """The pixels of one chip, relative to what its data sheet says; each map is float32 (Y, X), or (..., Y, X) of many.

    Attributes
    ----------
    offset_adu : Tensor
        What is added to the baseline.
    gain, qe, read_noise : Tensor
        Factors on the ADU per electron, the quantum efficiency and the read noise.
    dark_e_per_ms : Tensor
        Dark current in electrons.
    """

    offset_adu: Tensor
    gain: Tensor
    qe: Tensor
    read_noise: Tensor
    dark_e_per_ms: Tensor

    def among(self, n: int, places: Tensor) -> "PixelMaps":
        """Return the maps of n chips: these, of several, at `places`, and pixels that are all alike elsewhere."""

        def spread(maps: Tensor, alike: float) -> Tensor:
            return maps.new_full((n, *maps.shape[1:]), alike).index_copy_(0, places, maps)

        return PixelMaps(
            offset_adu=spread(self.offset_adu, 0),
            gain=spread(self.gain, 1),
            qe=spread(self.qe, 1),
            read_noise=spread(self.read_noise, 1),
            dark_e_per_ms=spread(self.dark_e_per_ms, 0),
        )


def draw_pixel_maps(variation: PixelVariation, shape: tuple[int, ...], generator: torch.Generator) -> PixelMaps:
    """Return the maps of a chip at random.

    Parameters
    ----------
    variation : PixelVariation
        How unequal the pixels are; its own seed is for the caller to use.
    shape : tuple of int
        (Y, X); (..., Y, X) for many chips.
    generator : torch.Generator
        Source of all randomness; its device is where the maps are.
    """
    device = generator.device

    def normal() -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    def chosen(share: float) -> Tensor:
        return torch.rand(shape, generator=generator, device=device) < share

    glow = torch.empty(shape, device=device).exponential_(1.0, generator=generator) * variation.hot_e_per_s
    dark = variation.dark_e_per_s + torch.where(chosen(variation.hot_share), glow, 0.0)
    qe = (1 + variation.qe_spread * normal()).clamp_min(0)
    return PixelMaps(
        offset_adu=variation.offset_sd_adu * normal(),
        gain=(1 + variation.gain_spread * normal()).clamp_min(0),
        qe=torch.where(chosen(variation.dead_share), 0.0, qe),
        read_noise=torch.exp(variation.read_noise_spread * normal()),
        dark_e_per_ms=dark / 1000,
    )
