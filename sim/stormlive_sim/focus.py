"""Focus and astigmatism: how the PSF widens with the height of an emitter."""

import msgspec
import torch
from torch import Tensor

from stormlive_sim.quantities import Amount, Positive, Signed


class Focus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Gaussian beam with two focal lines, and a sample of some depth around it.

    Attributes
    ----------
    astigmatism_nm : float
        Half the distance between the height where the PSF is narrowest along x (above) and that where it is
        narrowest along y (below). Zero: none; 50 to 150 is what a slightly tilted lens leaves; 200 to 400 is what
        3-D STORM puts in on purpose.
    defocus_nm : float
        Height of the focal plane above the middle of the sample.
    depth_of_focus_nm : float
        Distance from focus at which the width has grown by sqrt(2).
    sample_depth_nm : float
        Labels lie at random heights in a layer this thick.
    """

    astigmatism_nm: Signed = 0.0
    defocus_nm: Signed = 0.0
    depth_of_focus_nm: Positive = 400.0
    sample_depth_nm: Amount = 0.0

    def widening(self, z_nm: Tensor) -> Tensor:
        """Return the width of the PSF as a multiple of that in focus.

        Parameters
        ----------
        z_nm : Tensor
            float32 (N,), height above the middle of the sample.

        Returns
        -------
        Tensor
            float32 (N, 2), along x and along y.

        Notes
        -----
        w(z) = w0 sqrt(1 + ((z - c) / d)^2) with c of opposite sign in x and y: the defocusing curve of Huang
        et al., Science 319, 810 (2008), without its terms of higher order, which an ideal Gaussian beam lacks.
        """
        lines = torch.tensor([self.astigmatism_nm, -self.astigmatism_nm], device=z_nm.device)
        distance = (z_nm[:, None] - self.defocus_nm - lines) / self.depth_of_focus_nm
        return (1 + distance.square()).sqrt()

    @property
    def greatest_widening(self) -> float:
        """The widening of the label that is farthest from focus."""
        ends = torch.tensor([-0.5, 0.5]) * self.sample_depth_nm
        return float(self.widening(ends).max())
