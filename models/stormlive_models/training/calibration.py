"""What a network says of its own detections beside what they are worth."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stormlive_models.evaluate import match_tables, positions_nm
from stormlive_models.localize import Localizations, localizations
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training.data import sample_size
from stormlive_models.training.recipe import DataSettings
from stormlive_models.training.source import Sampler

# Fainter candidates are noise by the thousand.
_LEAST_PROBABILITY = 0.05
_THRESHOLD = 0.5
_BATCH = 64
_BATCH_PIXELS = 2**18


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Candidates and pairs of many frames.

    Attributes
    ----------
    probability : ndarray
        float64 (N,), of every candidate, also of those below the threshold of a localization.
    is_true : ndarray
        bool (N,), whether an emitter lies within the tolerance.
    error_nm, sigma_nm : ndarray
        float64 (K, 2), found - true and its predicted standard deviation, (x, y), of the localizations that are true.
    photons_found, photons_true : ndarray
        float64 (K,), of the same.
    tolerance_nm : float
        Farthest that a pair may be apart.
    n_frames, n_truth : int
        Counts.
    """

    probability: NDArray[np.float64]
    is_true: NDArray[np.bool_]
    error_nm: NDArray[np.float64]
    sigma_nm: NDArray[np.float64]
    photons_found: NDArray[np.float64]
    photons_true: NDArray[np.float64]
    tolerance_nm: float
    n_frames: int
    n_truth: int


@torch.no_grad()
def calibrate(
    network: LiveNet,
    data: DataSettings,
    sample: Sampler,
    generator: torch.Generator,
    *,
    n_frames: int | None = None,
    tolerance_nm: float = 150.0,
) -> Calibration:
    """Let a network detect in frames with known emitters, drawn as for its training, and compare.

    Parameters
    ----------
    network : LiveNet
        On the generator's device.
    data : DataSettings
        What is drawn.
    sample : callable
        ``(settings, n, generator) -> (photons, emitters)``.
    generator : torch.Generator
        Source of randomness.
    n_frames : int, optional
        How many; else what `sample_size` says.
    tolerance_nm : float
        Farthest that a pair may be apart; below three predicted standard deviations the errors would look too good.
    """
    n_frames = n_frames or sample_size(data)
    photons, truth = sample(data, n_frames, generator)
    batch = min(_BATCH, max(1, _BATCH_PIXELS // data.patch_px**2))
    tables = []
    for first in range(0, n_frames, batch):
        found = network(photons[first : first + batch])
        table = localizations(found, data.pixel_size_nm, threshold=_LEAST_PROBABILITY)
        tables.append(Localizations(**{**table.__dict__, "frame": table.frame + first}))
    candidates = Localizations.in_frame_order(tables)
    probability = candidates.probability.double().cpu().numpy()
    is_true = np.zeros(len(candidates), np.bool_)
    pairs = match_tables(candidates.emitters(), truth, tolerance_nm)
    is_true[pairs[:, 0]] = True
    pairs = pairs[probability[pairs[:, 0]] >= _THRESHOLD]
    found_rows, true_rows = pairs.T
    sigma = torch.stack((candidates.sigma_x_nm, candidates.sigma_y_nm), 1).double().cpu().numpy()
    return Calibration(
        probability=probability,
        is_true=is_true,
        error_nm=positions_nm(candidates.emitters())[found_rows] - positions_nm(truth)[true_rows],
        sigma_nm=sigma[found_rows],
        photons_found=candidates.photons.double().cpu().numpy()[found_rows],
        photons_true=truth.photons.double().cpu().numpy()[true_rows],
        tolerance_nm=tolerance_nm,
        n_frames=n_frames,
        n_truth=len(truth),
    )
