"""The likelihood that livenet is trained by."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stormlive_sim.emitters import Emitters

if TYPE_CHECKING:
    from stormlive_models.networks.livenet import Detections

_REACH_PX = 2
_HALF_LOG_TAU = 0.5 * math.log(math.tau)


def detection_loss(found: "Detections", truth: Emitters, pixel_size_nm: float) -> Tensor:
    """Return the negative log-likelihood per emitter of the batch.

    Two terms (Speiser et al. 2021, eq. 5-7): the number of emitters under the Poisson-binomial of all pixels'
    probabilities, taken as a Gaussian, and each emitter's position and log-photons under the mixture of all
    pixels' Gaussians. An emitter looks only at the 5x5 pixels around it: farther ones cannot reach it (offsets
    end at one pixel), and the cost falls by the number of pixels over 25.

    Parameters
    ----------
    found : Detections
        Maps (B, Y, X).
    truth : Emitters
        `frame` is the index in the batch; positions in nm from the frame's corner, inside the frame.
    pixel_size_nm : float
        Camera pixel.
    """
    n, height, width = found.logit.shape
    log_p = torch.nn.functional.logsigmoid(found.logit)
    p = log_p.exp()
    expected = p.sum((1, 2))
    variance = (p * (1 - p)).sum((1, 2)) + 1e-3
    count = torch.bincount(truth.frame, minlength=n).float()
    count_loss = 0.5 * (count - expected).square() / variance + 0.5 * variance.log()

    x, y = truth.x_nm / pixel_size_nm, truth.y_nm / pixel_size_nm
    reach = torch.arange(-_REACH_PX, _REACH_PX + 1, device=x.device)
    rows = (y.long()[:, None] + reach)[:, :, None].expand(-1, -1, len(reach)).flatten(1)
    columns = (x.long()[:, None] + reach)[:, None, :].expand(-1, len(reach), -1).flatten(1)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = (truth.frame[:, None] * height + rows.clamp(0, height - 1)) * width + columns.clamp(0, width - 1)

    def near(values: Tensor) -> Tensor:
        return values.reshape(-1)[index]

    def log_normal(distance: Tensor, sigma: Tensor) -> Tensor:
        return -0.5 * (distance / sigma).square() - sigma.log() - _HALF_LOG_TAU

    component = (
        near(log_p)
        + log_normal(x[:, None] - near(found.x_px), near(found.sigma_x_px))
        + log_normal(y[:, None] - near(found.y_px), near(found.sigma_y_px))
        + log_normal(truth.photons.log()[:, None] - near(found.log_photons), near(found.sigma_log_photons))
    )
    component = component.masked_fill(~inside, -torch.inf)
    mixture = component.logsumexp(1) - expected.log()[truth.frame]
    return (count_loss.sum() - mixture.sum()) / max(1, len(truth))
