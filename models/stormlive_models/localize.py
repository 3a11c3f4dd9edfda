"""From livenet's maps to a table of localizations."""

import torch
from torch import Tensor
from torch.nn import functional

from stormlive_models.networks.livenet import Detections
from stormlive_sim.emitters import Emitters

_MERGE_PX = 0.6


def localizations(found: Detections, pixel_size_nm: float, *, threshold: float = 0.5) -> Emitters:
    """Return one row per emitter found.

    Neighbouring pixels may share one emitter, each with a part of its probability. A pixel stands for an emitter
    when no neighbour of higher probability points to the same place (within 0.6 pixels), and the probabilities of
    those that do sum to at least `threshold`; position and photons are their weighted mean.

    Parameters
    ----------
    found : Detections
        Maps (B, Y, X).
    pixel_size_nm : float
        Camera pixel.
    threshold : float
        Least summed probability.

    Returns
    -------
    Emitters
        `frame` is the index in the batch.
    """
    p = torch.sigmoid(found.logit)
    stacked = torch.stack((p, found.x_px, found.y_px, found.log_photons.exp()), 1)
    padded = functional.pad(stacked, (1, 1, 1, 1))
    height, width = p.shape[1:]
    total, weighted, is_peak = (
        torch.zeros_like(p),
        torch.zeros_like(stacked[:, 1:]),
        torch.ones_like(p).bool(),
    )
    for row in range(3):
        for column in range(3):
            near = padded[:, :, row : row + height, column : column + width]
            apart = (near[:, 1] - found.x_px).square() + (near[:, 2] - found.y_px).square()
            same = apart < _MERGE_PX**2
            total += near[:, 0] * same
            weighted += near[:, 1:] * (near[:, :1] * same[:, None])
            # Of two equal neighbours the first in reading order stands for both.
            first = (row, column) < (1, 1)
            is_peak &= ~same | (near[:, 0] < p if first else near[:, 0] <= p)
    peak = is_peak & (total >= threshold)
    frame = peak.nonzero()[:, 0]
    x, y, photons = (weighted[:, i][peak] / total[peak] for i in range(3))
    return Emitters(frame=frame, x_nm=x * pixel_size_nm, y_nm=y * pixel_size_nm, photons=photons)


@torch.no_grad()
def localize(network: torch.nn.Module, photons: Tensor, pixel_size_nm: float) -> Emitters:
    """Return the localizations of frames (B, Y, X) in photons by a network with detection heads."""
    found = network(photons)
    if not isinstance(found, Detections):
        raise TypeError(f"expected a network with detection heads, got {type(network).__name__}")
    return localizations(found, pixel_size_nm)
