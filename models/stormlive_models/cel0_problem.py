"""The sparse recovery problem that frames pose, with CEL0's penalty, and the step that solves it."""

import math

import torch
from scipy.optimize import brentq
from torch import Tensor
from torch.nn import functional

from stormlive_sim.psf import gaussian_integrated

MARGIN_PX = 2
"""Grid beyond the frame's edges, for emitters outside whose light reaches in."""
_BACKGROUND_DEGREE = 2
_SHOT_NOISE_SHARE = 0.25
"""Of 0, 1/4 and 1 the best at 1000 and 4000 photons taken together, see `Problem`."""
_LEAST_NOISE = 2.0
"""Photons. Single photons are not normally distributed, and where they stand out the rule for lambda fails; with this
the faintest emitter has about 40 photons."""


class Problem:
    """The minimisation that a batch of frames d (B, Y, X) poses.

    It is 1/2 ||P (A x - d)||² + sum_i phi_i(x_i) over x >= 0, all in photons, with
    phi_i(x) = lambda - |a_i|²/2 (x - sqrt(2 lambda)/|a_i|)² where x < sqrt(2 lambda)/|a_i|, else lambda.

    A spreads each grid point's photons over the camera pixels (pixel-integrated Gaussian, separable); a_i is a column
    of P A. P takes out all quadratic surfaces: the background is thereby fitted along with the emitters. (Subtracting
    the 20th percentile that networks are given instead left 2.7 photons of 10, and half of what was found in sparse
    frames was that remainder; in dense ones it is 7 too high.)

    lambda, the price of one emitter, is such that noise alone stays below it: zero is a minimum unless the matched
    filter <a_i, d>/|a_i| somewhere exceeds sqrt(2 lambda). For white noise of standard deviation s that is a smooth
    Gaussian field of variance s² and correlation exp(-r²/(4 sigma²)), which exceeds t s anywhere in an area of A
    pixels with probability p = A/(2 sigma²) (2 pi)^(-3/2) t exp(-t²/2) (Adler, The Geometry of Random Fields, 1981):
    lambda = t(p)² s²/2. s is measured in the dark parts of each frame. (At p = 0.001, of 1000 frames of noise 0 or 1
    exceeded it for an sCMOS with 1, 10 and 100 background photons; for an EMCCD, whose noise has a long tail, 16 with
    20 photons.) An emitter brings shot noise of its own, which splits it into several if that goes for nothing, and
    makes its neighbours too dear if it counts whole, where a wrong guess has fewer places than in a frame: a quarter
    of its variance is added to s², point by point.

    Attributes
    ----------
    threshold : Tensor
        float32 (B, grid rows, grid columns), sqrt(2 lambda)/|a_i|: photons below which a lone grid point pays no
        longer.
    significant : Tensor
        The same at the whole noise, the emitters' own included: photons below which an emitter is not believed.
    """

    def __init__(self, photons: Tensor, psf_sigma_px: float, grid: int, false_alarm: float) -> None:
        height, width = photons.shape[1:]
        self._rows, self._columns = (_spread(n, psf_sigma_px, grid).to(photons.device) for n in (height, width))
        self._row_basis, self._column_basis = (_polynomials(n).to(photons.device) for n in (height, width))
        self._data = self._without_background(photons)
        whole = [matrix.square().sum(0) for matrix in (self._rows, self._columns)]
        lost = [
            (basis.T @ matrix).square().sum(0)
            for basis, matrix in ((self._row_basis, self._rows), (self._column_basis, self._columns))
        ]
        self._norm_squared = (torch.outer(*whole) - torch.outer(*lost)).clamp_min(1e-9)
        # The norm of A, which P does not raise: with a step of its inverse FISTA converges.
        self._step = (
            1 / float(torch.linalg.matrix_norm(self._rows, 2) * torch.linalg.matrix_norm(self._columns, 2)) ** 2
        )
        level = _level(height * width / (2 * psf_sigma_px**2), false_alarm)
        dark, shot = self._variances(photons)
        self._lambda = level**2 / 2 * (dark + _SHOT_NOISE_SHARE * shot)
        self.threshold = (2 * self._lambda / self._norm_squared).sqrt()
        self.significant = level * ((dark + shot) / self._norm_squared).sqrt()

    def _variances(self, photons: Tensor) -> tuple[Tensor, Tensor]:
        """Return the variance of the noise of each frame, (B, 1, 1), and what each grid point's light adds to it."""
        rows, columns = self._rows.square(), self._columns.square()
        # The mean under the squared PSF is the shot noise that the matched filter sees.
        light = (rows.T @ photons @ columns) / torch.outer(rows.sum(0), columns.sum(0))
        dark = light.flatten(1).quantile(0.25, 1)[:, None, None]
        return _dark_noise(photons).square()[:, None, None], (light - dark).clamp_min(0)

    def forward(self, x: Tensor) -> Tensor:
        """Return A x, (B, Y, X): the photons that the camera would see of a solution."""
        return self._rows @ x @ self._columns.T

    def adjoint(self, residual: Tensor) -> Tensor:
        """Return Aᵀ r, (B, grid rows, grid columns), of (B, Y, X)."""
        return self._rows.T @ residual @ self._columns

    def objective(self, x: Tensor) -> Tensor:
        """Return what is minimised, for each frame: (B,)."""
        short = (x - self.threshold).clamp_max(0)
        penalty = self._lambda - self._norm_squared / 2 * short.square()
        return self._misfit(x) + penalty.sum((1, 2))

    def reweighted(self, x: Tensor, iterations: int) -> Tensor:
        """Return the next solution: phi's tangents at `x` make a weighted l1 problem, solved by FISTA.

        Restarted where the momentum points uphill (O'Donoghue & Candès, Found. Comput. Math. 15, 715, 2015); a frame
        whose misfit + tangents came out higher nevertheless keeps `x`. As phi is concave, the objective never rises.
        """
        weight = self._norm_squared * (self.threshold - x).clamp_min(0)
        pull = self._step * weight
        last, ahead, pace = x, x, torch.ones(len(x), 1, 1, device=x.device)
        for _ in range(iterations):
            slope = self.adjoint(self._without_background(self.forward(ahead)) - self._data)
            new = ahead.sub(slope, alpha=self._step).sub_(pull).clamp_min_(0)
            move = new - last
            uphill = ((ahead - new) * move).sum((1, 2), keepdim=True) > 0
            pace = torch.where(uphill, 1.0, pace)
            next_pace = (1 + (1 + 4 * pace.square()).sqrt()) / 2
            ahead = torch.addcmul(new, move, (pace - 1) / next_pace)
            last, pace = new, next_pace
        better = self._misfit(last) + (weight * last).sum((1, 2)) <= self._misfit(x) + (weight * x).sum((1, 2))
        return torch.where(better[:, None, None], last, x)

    def _misfit(self, x: Tensor) -> Tensor:
        return (self._without_background(self.forward(x)) - self._data).square().sum((1, 2)) / 2

    def _without_background(self, image: Tensor) -> Tensor:
        """Return P d: the part of an image (B, Y, X) that no quadratic surface explains."""
        inner = self._row_basis.T @ image @ self._column_basis
        return image - self._row_basis @ inner @ self._column_basis.T


def _spread(n_pixels: int, sigma_px: float, grid: int) -> Tensor:
    """Return the share of each grid point's light in each pixel along one axis, float32 (pixels, grid points)."""
    points = (torch.arange((n_pixels + 2 * MARGIN_PX) * grid, dtype=torch.float64) + 0.5) / grid - MARGIN_PX
    sigma = torch.tensor(sigma_px, dtype=torch.float64)
    return gaussian_integrated(points, sigma, torch.arange(n_pixels)[:, None]).float()


def _polynomials(n_pixels: int) -> Tensor:
    """Return orthonormal polynomials up to degree 2 along one axis, float32 (pixels, 3)."""
    axis = torch.linspace(-1, 1, n_pixels, dtype=torch.float64)
    powers = torch.stack([axis**k for k in range(_BACKGROUND_DEGREE + 1)], 1)
    orthonormal: Tensor = torch.linalg.qr(powers).Q
    return orthonormal.float()


def _level(area: float, false_alarm: float) -> float:
    """Return t with area (2 pi)^(-3/2) t exp(-t²/2) = false_alarm, on the falling side."""
    scale = area * (2 * math.pi) ** -1.5
    if scale * math.exp(-0.5) <= false_alarm:
        return 1.0
    return float(brentq(lambda t: math.log(scale * t / false_alarm) - t * t / 2, 1.0, 40.0))


def _dark_noise(photons: Tensor) -> Tensor:
    """Return the standard deviation of the noise in the dark parts of frames (B, Y, X): float32 (B,), photons.

    From a filter that is blind to slopes and to the mean of the 3x3 pixels under it (Immerkaer, Comput. Vis. Image
    Underst. 64, 300, 1996), where that mean is in its lowest quarter; outliers are clipped. What is dark by chance has
    less shot noise too: the lowest quarter of a normal distribution is 1.27 standard deviations below its mean, here
    those of the mean of 9 pixels, and as many photons of variance are given back.
    """
    kernel = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]], device=photons.device) / 6
    rough = functional.conv2d(photons[:, None], kernel[None, None]).flatten(1).abs()
    mean = functional.avg_pool2d(photons[:, None], 3, 1).flatten(1)
    dark = mean <= mean.kthvalue(max(1, mean.shape[1] // 4), dim=1, keepdim=True).values
    usual = (rough * dark).sum(1, keepdim=True) / dark.sum(1, keepdim=True)
    variance = (rough.minimum(5 * usual).square() * dark).sum(1) / dark.sum(1)
    return (variance + 1.27 / 3 * variance.sqrt()).sqrt().clamp_min(_LEAST_NOISE)
