"""How precisely emitters can be located at all: the Cramér-Rao bound of everything in a frame together."""

import torch
from torch import Tensor

from stormlive_sim.psf import gaussian_integrated

_RIDGE = 1e-11
"""Added to the information matrix of unit diagonal: what the frame tells nothing about gets a huge bound, not a
failure. It changes a bound of 1000 times the lone emitter's by 1 in 10^5."""


def position_limits(
    x_px: Tensor,
    y_px: Tensor,
    photons: Tensor,
    *,
    sigma_px: float,
    background: float,
    shape: tuple[int, int],
    read_noise: float = 0.0,
    excess: float = 1.0,
) -> Tensor:
    """Return the least standard deviation of position that an unbiased estimate from one frame can have.

    Position and photons of all emitters and one background for the frame are estimated together; that there are
    so many is known. Emitters closer together than the PSF is wide cost each other precision without limit.

    Parameters
    ----------
    x_px, y_px, photons : Tensor
        (N,), the emitters of one frame, pixel edges at whole numbers.
    sigma_px : float
        Width of the pixel-integrated Gaussian PSF.
    background : float
        Photons per pixel.
    shape : tuple of int
        Frame (Y, X) in pixels.
    read_noise : float
        Standard deviation in photons.
    excess : float
        Factor on the variance of the shot noise: 1, or 2 for an EMCCD.

    Returns
    -------
    Tensor
        float64 (N, 2), (x, y) in pixels.

    Raises
    ------
    ValueError
        When a pixel is without noise: no background and no read noise.

    Notes
    -----
    I_jk = sum over pixels of (d mu/d theta_j)(d mu/d theta_k) / v with the variance v = excess mu + read_noise²: the
    Poisson bound (Ober, Ram & Ward, Biophys. J. 86, 1185, 2004; several emitters: Ram, Ward & Ober, Multidim. Syst.
    Signal Process. 17, 27, 2006) with read noise taken for that much more shot noise (Huang et al., Nature Methods
    10, 653, 2013).
    """
    if background <= 0 and read_noise <= 0:
        raise ValueError("expected a background or a read noise above 0, got neither: the bound would be 0")
    n = len(x_px)
    sigma = torch.tensor(float(sigma_px), dtype=torch.float64)
    (share_y, slope_y), (share_x, slope_x) = (
        _profile(position.double().cpu(), sigma, side) for position, side in zip((y_px, x_px), shape, strict=True)
    )
    brightness = photons.double().cpu()[:, None, None]
    spots = share_y[:, :, None] * share_x[:, None, :]
    variance = excess * (background + (brightness * spots).sum(0)) + read_noise**2
    slopes = torch.cat(
        (
            brightness * share_y[:, :, None] * slope_x[:, None, :],
            brightness * slope_y[:, :, None] * share_x[:, None, :],
            spots,
            torch.ones(1, *shape, dtype=torch.float64),
        )
    )
    weighted = (slopes / variance.sqrt()).flatten(1)
    information = weighted @ weighted.T
    scale = information.diagonal().clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    unit = information / torch.outer(scale, scale) + _RIDGE * torch.eye(3 * n + 1, dtype=torch.float64)
    deviation = torch.cholesky_inverse(torch.linalg.cholesky(unit)).diagonal().sqrt() / scale
    return deviation[: 2 * n].view(2, n).T


def _profile(position: Tensor, sigma: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the share of each emitter's light along one axis (N, side), and its derivative by the position."""
    pixels = torch.arange(side, dtype=torch.float64)
    edges = torch.arange(side + 1, dtype=torch.float64)
    height = torch.exp(-((edges - position[:, None]) ** 2) / (2 * sigma**2)) / (sigma * (2 * torch.pi) ** 0.5)
    return gaussian_integrated(position[:, None], sigma, pixels), height[:, :-1] - height[:, 1:]
