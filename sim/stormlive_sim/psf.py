"""The point-spread function: an emitter's photons spread over camera pixels."""

import torch
from torch import Tensor

_SQRT2 = 2.0**0.5


def gaussian_integrated(position_px: Tensor, sigma_px: Tensor, pixels: Tensor) -> Tensor:
    """Return the share of a 1-D Gaussian that falls into each pixel (its integral, not its centre value).

    Parameters
    ----------
    position_px, sigma_px : Tensor
        Broadcastable; centre (pixel edges lie at whole numbers) and standard deviation, in pixels.
    pixels : Tensor
        Index of the pixels, broadcastable against the others.

    Notes
    -----
    E_k = 1/2 [erf((k + 1 - x) / (sqrt(2) sigma)) - erf((k - x) / (sqrt(2) sigma))]; Smith et al.,
    Nature Methods 7, 373 (2010), eq. 4.
    """
    scale = 1.0 / (_SQRT2 * sigma_px)
    return 0.5 * (torch.erf((pixels + 1 - position_px) * scale) - torch.erf((pixels - position_px) * scale))


def render_gaussians(
    frames: Tensor,
    frame: Tensor,
    x_px: Tensor,
    y_px: Tensor,
    weight: Tensor,
    sigma_px: Tensor,
    *,
    radius: int,
) -> None:
    """Add pixel-integrated Gaussians to `frames` in place, each in a window of (2 radius + 1)² pixels.

    One function serves the simulator (photons onto camera pixels) and the live canvas (expected emitters onto
    sub-pixels). What falls outside the image or the window is lost; radius >= 4 sigma keeps 99.99 %.

    Parameters
    ----------
    frames : Tensor
        float32 (T, Y, X), contiguous, modified in place.
    frame : Tensor
        int64 (N,), which of the T images each Gaussian goes to.
    x_px, y_px : Tensor
        float32 (N,), centre in pixels of `frames`, pixel edges at whole numbers.
    weight : Tensor
        float32 (N,), integral of each Gaussian (photons, or expected emitters).
    sigma_px : Tensor
        float32 (N,) or scalar; for an elliptical one, (N, 2) as (x, y).
    radius : int
        Half width of the window in pixels.
    """
    height, width = frames.shape[1:]
    offsets = torch.arange(-radius, radius + 1, device=frames.device)
    sigma_x, sigma_y = sigma_px.unbind(-1) if sigma_px.ndim == 2 else (sigma_px, sigma_px)
    columns = x_px.floor().long()[:, None] + offsets
    rows = y_px.floor().long()[:, None] + offsets
    # Shares are computed from the distance to the window's own pixels: absolute coordinates of a large field
    # would cost float32 the last digits of the sub-pixel position.
    share_x = gaussian_integrated((x_px - x_px.floor())[:, None], sigma_x[..., None], offsets)
    share_y = gaussian_integrated((y_px - y_px.floor())[:, None], sigma_y[..., None], offsets)
    share_x = share_x * ((columns >= 0) & (columns < width))
    share_y = share_y * ((rows >= 0) & (rows < height)) * weight[:, None]
    index = (frame[:, None] * height + rows.clamp(0, height - 1))[:, :, None] * width
    index = index + columns.clamp(0, width - 1)[:, None, :]
    frames.view(-1).scatter_add_(0, index.reshape(-1), (share_y[:, :, None] * share_x[:, None, :]).reshape(-1))
