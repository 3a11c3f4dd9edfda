"""The camera chip: photons become electrons, gain, noise and at last ADU."""

from dataclasses import dataclass

import torch
from torch import Tensor


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
    """

    baseline_adu: float | Tensor = 100.0
    electrons_per_adu: float | Tensor = 0.5
    qe: float = 1.0
    em_gain: float | Tensor = 1.0
    read_noise_e: float | Tensor = 1.5
    bit_depth: int = 16

    @property
    def photons_per_adu(self) -> float | Tensor:
        """The calibration that turns ``ADU - baseline`` into photons."""
        return self.electrons_per_adu / (self.em_gain * self.qe)

    def expose(self, photons: Tensor, generator: torch.Generator) -> Tensor:
        """Return the frames that the camera would read, float32 whole numbers of ADU.

        Parameters
        ----------
        photons : Tensor
            float32, any shape; expected photons per pixel.
        generator : torch.Generator
            Source of all randomness, on the device of `photons`.

        Notes
        -----
        The sum of n exponential multiplications is Gamma(n, gain). It is drawn by the Wilson-Hilferty cube
        (Wilson & Hilferty, PNAS 17, 684, 1931), whose mean is exact to 1/(729 n^3) and whose variance to a few
        percent from one electron on: fast, and the generator decides it.
        """
        electrons = torch.poisson(photons * self.qe, generator)
        gain = torch.as_tensor(self.em_gain, device=photons.device)
        if bool((gain > 1).any()):
            normal = torch.randn(photons.shape, generator=generator, device=photons.device)
            n = electrons.clamp_min(1.0)
            multiplied = n * (1 - 1 / (9 * n) + normal / (3 * n.sqrt())).clamp_min(0) ** 3
            electrons = torch.where((gain > 1) & (electrons > 0), multiplied, electrons)
        electrons = electrons * gain
        read = torch.randn(photons.shape, generator=generator, device=photons.device) * self.read_noise_e
        adu = (electrons + read) / self.electrons_per_adu + self.baseline_adu
        return adu.round().clamp(0, 2**self.bit_depth - 1)


def emccd(baseline_adu: float = 100.0, photons_per_adu: float = 0.5) -> Sensor:
    """Return an EMCCD with the calibration that a user would state; the defaults are the Deep-STORM demo data's."""
    return Sensor(baseline_adu=baseline_adu, em_gain=100.0, electrons_per_adu=100 * photons_per_adu, read_noise_e=20.0)


def scmos(baseline_adu: float = 100.0, photons_per_adu: float = 0.5) -> Sensor:
    """Return an sCMOS camera with the calibration that a user would state."""
    return Sensor(baseline_adu=baseline_adu, electrons_per_adu=photons_per_adu, read_noise_e=1.5)
