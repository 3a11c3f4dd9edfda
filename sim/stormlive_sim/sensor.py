"""The camera chip: photons become electrons, gain, noise and at last ADU."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stormlive_sim.pixel_maps import PixelMaps


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """An EMCCD (``em_gain > 1``) or an sCMOS (``em_gain == 1``).

    The chain is: Poisson(QE x photons) electrons, electron multiplication, Gaussian read noise, conversion to
    ADU, baseline, rounding, saturation. Numbers may be tensors that broadcast against the frames, so that one
    call serves a batch of different cameras.

    Attributes
    ----------
    baseline_adu : float or Tensor
        ADU read without any light.
    electrons_per_adu : float or Tensor
        Conversion factor after multiplication.
    qe : float
        Quantum efficiency, electrons per photon.
    em_gain : float or Tensor
        Mean gain of the multiplication register; its excess noise factor is 2.
    read_noise_e : float or Tensor
        Standard deviation of the read noise in electrons, after multiplication.
    bit_depth : int
        Saturation at 2**bit_depth - 1 ADU.
    maps : PixelMaps, optional
        How the single pixels differ from these numbers; their shape is the chip's.
    """

    baseline_adu: float | Tensor = 100.0
    electrons_per_adu: float | Tensor = 0.5
    qe: float = 1.0
    em_gain: float | Tensor = 1.0
    read_noise_e: float | Tensor = 1.5
    bit_depth: int = 16
    maps: PixelMaps | None = None

    @property
    def photons_per_adu(self) -> float | Tensor:
        """The calibration that turns ``ADU - baseline`` into photons."""
        return self.electrons_per_adu / (self.em_gain * self.qe)

    def expose(
        self, photons: Tensor, generator: torch.Generator, *, exposure_ms: float = 0.0, binning: int = 1
    ) -> Tensor:
        """Return the frames that the camera would read, float32 whole numbers of ADU.

        Parameters
        ----------
        photons : Tensor
            float32 (..., Y, X), expected photons per pixel; any shape where there are neither maps nor binning.
        generator : torch.Generator
            Source of all randomness, on the device of `photons`.
        exposure_ms : float
            Time in which dark current gathers.
        binning : int
            Edge of the square of pixels read as one. An EMCCD adds their charge and reads it once. Where every
            pixel has an amplifier of its own (sCMOS, or maps) each is read, with its noise, and the counts above the
            baseline are added. What is left over at the far edges is dropped.

        Notes
        -----
        The sum of n exponential multiplications is Gamma(n, gain). It is drawn by the Wilson-Hilferty cube
        (Wilson & Hilferty, PNAS 17, 684, 1931), whose mean is exact to 1/(729 n^3) and whose variance to a few
        percent from one electron on: fast, and the generator decides it.
        """
        maps, top = self.maps, 2**self.bit_depth - 1
        gain = torch.as_tensor(self.em_gain, device=photons.device)
        multiplies = bool((gain > 1).any())
        on_chip = multiplies and maps is None
        expected = photons * self.qe
        if maps is not None:
            expected = expected * maps.qe + maps.dark_e_per_ms * exposure_ms
        if on_chip:
            expected = _binned(expected, binning)
        electrons = torch.poisson(expected, generator)
        if multiplies:
            normal = torch.randn(expected.shape, generator=generator, device=photons.device)
            n = electrons.clamp_min(1.0)
            multiplied = n * (1 - 1 / (9 * n) + normal / (3 * n.sqrt())).clamp_min(0) ** 3
            electrons = torch.where((gain > 1) & (electrons > 0), multiplied, electrons)
        electrons = electrons * gain
        read = torch.randn(expected.shape, generator=generator, device=photons.device) * self.read_noise_e
        if maps is None:
            adu = (electrons + read) / self.electrons_per_adu + self.baseline_adu
        else:
            adu = (electrons + read * maps.read_noise) / self.electrons_per_adu * maps.gain
            adu = adu + self.baseline_adu + maps.offset_adu
        adu = adu.round().clamp(0, top)
        if binning > 1 and not on_chip:
            adu = (_binned(adu - self.baseline_adu, binning) + self.baseline_adu).round().clamp(0, top)
        return adu


def _binned(image: Tensor, binning: int) -> Tensor:
    if binning == 1:
        return image
    rows, columns = (side // binning for side in image.shape[-2:])
    image = image[..., : rows * binning, : columns * binning]
    return image.reshape(*image.shape[:-2], rows, binning, columns, binning).sum((-3, -1))


def emccd(baseline_adu: float = 100.0, photons_per_adu: float = 0.5) -> Sensor:
    """Return an EMCCD with the calibration that a user would state; the defaults are the Deep-STORM demo data's."""
    return Sensor(baseline_adu=baseline_adu, em_gain=100.0, electrons_per_adu=100 * photons_per_adu, read_noise_e=20.0)


def scmos(baseline_adu: float = 100.0, photons_per_adu: float = 0.5) -> Sensor:
    """Return an sCMOS camera with the calibration that a user would state."""
    return Sensor(baseline_adu=baseline_adu, electrons_per_adu=photons_per_adu, read_noise_e=1.5)
