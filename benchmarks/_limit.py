"""The physical limit of the benchmark's frames, in the figures that stand beside a method's."""

import math
from dataclasses import dataclass

import torch
from _accuracy_frames import PIXEL_NM, Frames

from stormlive_models.limits import position_limits

FAR_NM = 100.0
NEAR_NM = 50.0


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Least standard deviations of position of all emitters, their number known.

    Attributes
    ----------
    median_nm : float
        Per axis.
    rms_nm : float
        Lateral, over the emitters that can be located to better than 100 nm: what the RMSE of pairs within 100 nm
        can be compared with.
    within_50_nm : float
        Share of 1 of the coordinates that can be known to better than 50 nm.
    """

    median_nm: float
    rms_nm: float
    within_50_nm: float


def limit(frames: Frames, *, sigma_px: float, background: float, read_noise: float, excess: float = 1.0) -> Limit:
    """Return the limit of frames; emitters beyond the border, whose light reaches in, are left out."""
    shape = (frames.photons.shape[1], frames.photons.shape[2])
    deviations = []
    for number in range(len(frames)):
        truth = frames.truth.select(frames.truth.frame == number)
        deviation_px = position_limits(
            truth.x_nm / PIXEL_NM,
            truth.y_nm / PIXEL_NM,
            truth.photons,
            sigma_px=sigma_px,
            background=background,
            shape=shape,
            read_noise=read_noise,
            excess=excess,
        )
        deviations.append(deviation_px * PIXEL_NM)
    axis = torch.cat(deviations)
    if not len(axis):
        return Limit(median_nm=math.nan, rms_nm=math.nan, within_50_nm=math.nan)
    lateral = axis.square().sum(1).sqrt()
    known = lateral[lateral < FAR_NM]
    return Limit(
        median_nm=axis.median().item(),
        rms_nm=known.square().mean().sqrt().item(),
        within_50_nm=(axis < NEAR_NM).double().mean().item(),
    )
