"""The classical way to localize: each spot of a sparse frame is fitted by maximum likelihood.

It needs no training and reaches the limit of what the photons say, where spots do not overlap: that makes it the judge
of sparse data, from which networks learn about a real microscope.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from stormlive_models.spots import Spots

_SQRT_TAU = math.sqrt(math.tau)
_BACKGROUND_SHARE = 0.3
_ITERATIONS = 40
_CHUNK = 2048
_LEAST_BACKGROUND = 0.01
# Settled: the next step would be shorter than a thousandth of the standard error.
_SETTLED = 1e-6

Widths = Literal[0, 1, 2]


@dataclass(frozen=True, kw_only=True)
class Fits:
    """One fitted spot per row; `_sd` is the Cramér-Rao bound at the fitted values. All float32 (N,) unless said.

    Attributes
    ----------
    x_px, y_px, x_sd_px, y_sd_px : Tensor
        Position in pixels of the frame, pixel edges at whole numbers.
    photons, photons_sd : Tensor
        Integral over the plane.
    background, background_sd : Tensor
        Photons per pixel.
    sigma_x_px, sigma_y_px : Tensor
        Width; equal unless both were free.
    misfit : Tensor
        Likelihood-ratio statistic against a perfect model over its degrees of freedom: about 1 for one spot of the
        assumed shape, larger for two, or for another shape.
    converged : Tensor
        bool; False where the fit did not settle or ran into a bound.
    """

    x_px: Tensor
    y_px: Tensor
    photons: Tensor
    background: Tensor
    sigma_x_px: Tensor
    sigma_y_px: Tensor
    x_sd_px: Tensor
    y_sd_px: Tensor
    photons_sd: Tensor
    background_sd: Tensor
    misfit: Tensor
    converged: Tensor

    def __len__(self) -> int:
        return self.x_px.shape[0]

    def select(self, mask: Tensor) -> "Fits":
        """Return the rows where the boolean or index tensor `mask` says so."""
        return Fits(**{f.name: getattr(self, f.name)[mask] for f in fields(self)})

    @staticmethod
    def concatenate(tables: "list[Fits]") -> "Fits":
        """Return one table of all rows, in the order given."""
        return Fits(**{f.name: torch.cat([getattr(t, f.name) for t in tables]) for f in fields(Fits)})


def fit_spots(
    frames: Tensor,
    spots: Spots,
    *,
    sigma_px: float,
    free_widths: Widths = 0,
    radius: int | None = None,
    excess: float = 1.0,
) -> Fits:
    """Fit a pixel-integrated Gaussian on a flat background to a window around each spot, by maximum likelihood.

    Parameters
    ----------
    frames : Tensor
        float32 (T, Y, X), photons.
    spots : Spots
        Where to fit; at the border of the frame the window is moved inside.
    sigma_px : float
        The width, or where to start from.
    free_widths : {0, 1, 2}
        Fit no width, one, or one per axis.
    radius : int, optional
        The window has (2 radius + 1)² pixels; 4 sigma unless given.
    excess : float
        Variance over mean of the camera's noise: 1, or 2 with electron multiplication. It scales the uncertainties
        and `misfit`; the most likely values do not depend on it.

    Notes
    -----
    Levenberg-Marquardt on the Poisson likelihood with its expected information (Fisher scoring); Smith et al.,
    Nature Methods 7, 373 (2010); Laurence & Chromy, Nature Methods 7, 338 (2010).
    """
    half = radius if radius is not None else math.ceil(4 * sigma_px)
    side = 2 * half + 1
    height, width = frames.shape[1:]
    if side > min(height, width):
        raise ValueError(f"expected frames of at least {side} pixels, the fit's window, got {width}x{height}")
    parts = []
    for first in range(0, max(1, len(spots)), _CHUNK):
        part = spots.select(slice(first, first + _CHUNK))  # type: ignore[arg-type]
        top = (part.row - half).clamp(0, height - side)
        left = (part.column - half).clamp(0, width - side)
        axis = torch.arange(side, device=frames.device)
        window = frames[part.frame[:, None, None], (top[:, None] + axis)[:, :, None], (left[:, None] + axis)[:, None]]
        start = torch.stack((part.column - left, part.row - top), 1) + 0.5
        parts.append(_fit(window.double(), start.double(), left, top, sigma_px, free_widths, excess))
    return Fits.concatenate(parts)


def _fit(
    data: Tensor, start_px: Tensor, left: Tensor, top: Tensor, sigma_px: float, free_widths: Widths, excess: float
) -> Fits:
    n, side = data.shape[:2]
    # Parameters: x, y, photons, background, sigma x, sigma y; `free` maps the fitted ones onto them.
    free = torch.eye(6, dtype=data.dtype, device=data.device)[:, : 4 + free_widths]
    if free_widths == 1:
        free[5, 4] = 1.0
    flat = data.flatten(1)
    background = flat.kthvalue(max(1, round(_BACKGROUND_SHARE * side * side)), 1).values.clamp_min(_LEAST_BACKGROUND)
    photons = (flat.sum(1) - background * side * side).clamp_min(10.0)
    widths = torch.full((n, 2), sigma_px, dtype=data.dtype, device=data.device)
    theta = torch.cat((start_px, photons[:, None], background[:, None], widths), 1)
    low = torch.tensor([0, 0, 1, _LEAST_BACKGROUND, sigma_px / 3, sigma_px / 3], dtype=data.dtype, device=data.device)
    high = torch.tensor([side, side, math.inf, math.inf, 3 * sigma_px, 3 * sigma_px], device=data.device)

    cost = _cost(flat, _model(theta, side)[0])
    damping = torch.full((n,), 1e-2, dtype=data.dtype, device=data.device)
    settled = torch.zeros(n, dtype=torch.bool, device=data.device)
    for _ in range(_ITERATIONS):
        expected, slope = _model(theta, side)
        slope = slope @ free
        residual = flat / expected - 1
        # No background at all is a result like any other: where it rests on its bound, the rest is fitted without it.
        resting = (theta[:, 3] <= _LEAST_BACKGROUND) & (residual.sum(1) < 0)
        slope[:, :, 3] = slope[:, :, 3].masked_fill(resting[:, None], 0.0)
        information = slope.mT @ (slope / expected[..., None])
        score = (residual[:, None] @ slope)[:, 0]
        diagonal = information.diagonal(dim1=1, dim2=2).clamp_min(1e-30)
        damped = information + torch.diag_embed(damping[:, None] * diagonal)
        step = torch.linalg.solve_ex(damped, score).result.nan_to_num(0.0, 0.0, 0.0)
        # Score times step is the step's squared length in standard errors; damped steps are short for another reason.
        settled |= ((score * step).sum(1) < _SETTLED) & (damping <= 1)
        if bool(settled.all()):
            break
        trial = (theta + step @ free.mT).clamp(low, high)
        trial_cost = _cost(flat, _model(trial, side)[0])
        better = (trial_cost <= cost) & ~settled
        theta = torch.where(better[:, None], trial, theta)
        cost = torch.where(better, trial_cost, cost)
        damping = torch.where(better, damping / 10, damping * 10).clamp(1e-9, 1e9)

    expected, slope = _model(theta, side)
    slope = slope @ free
    information = slope.mT @ (slope / expected[..., None])
    bound = torch.linalg.inv_ex(information).inverse.diagonal(dim1=1, dim2=2)
    deviation = (excess * bound).clamp_min(0).sqrt()
    misfit = 2 * (cost - _cost(flat, flat.clamp_min(_LEAST_BACKGROUND))) / (excess * (side * side - 4 - free_widths))
    x, y, photons, background, sigma_x, sigma_y = (column.float() for column in theta.unbind(1))
    x_sd, y_sd, photons_sd, background_sd = (column.float() for column in deviation[:, :4].unbind(1))
    return Fits(
        x_px=x + left,
        y_px=y + top,
        photons=photons,
        background=background,
        sigma_x_px=sigma_x,
        sigma_y_px=sigma_y,
        x_sd_px=x_sd,
        y_sd_px=y_sd,
        photons_sd=photons_sd,
        background_sd=background_sd,
        misfit=misfit.float(),
        converged=settled & deviation.isfinite().all(1),
    )


def _model(theta: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the expected photons (N, side²) and their derivatives (N, side², 6) by the parameters."""
    x, y, photons, background, sigma_x, sigma_y = theta[:, :, None].unbind(1)
    share_x, by_x, by_sigma_x = _shares(x, sigma_x, side)
    share_y, by_y, by_sigma_y = _shares(y, sigma_y, side)

    def outer(rows: Tensor, columns: Tensor) -> Tensor:
        return (rows[:, :, None] * columns[:, None, :]).flatten(1)

    shape = outer(share_y, share_x)
    slope = torch.stack(
        (
            photons * outer(share_y, by_x),
            photons * outer(by_y, share_x),
            shape,
            torch.ones_like(shape),
            photons * outer(share_y, by_sigma_x),
            photons * outer(by_sigma_y, share_x),
        ),
        -1,
    )
    return photons * shape + background, slope


def _shares(position: Tensor, sigma: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a Gaussian's share in each of `side` pixels, (N, side), and its derivatives by position and sigma."""
    edges = (torch.arange(side + 1, dtype=position.dtype, device=position.device) - position) / sigma
    density = torch.exp(-0.5 * edges.square()) / (_SQRT_TAU * sigma)
    return torch.special.ndtr(edges).diff(), -density.diff(), -(edges * density).diff()


def _cost(data: Tensor, expected: Tensor) -> Tensor:
    """Return the negative Poisson log-likelihood of each row, but for a constant."""
    return (expected - data * expected.log()).sum(1)
