"""How good a network is on frames that no training has seen: under fixed conditions, so that figures compare."""

from collections.abc import Iterator, Mapping
from statistics import fmean

import torch

from stormlive_models.evaluate import Scores, score
from stormlive_models.localize import localize
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training.data import sample_batch
from stormlive_models.training.recipe import DataSettings
from stormlive_models.training.source import Sampler, TrainingData
from stormlive_sim.emitters import Emitters

# Few and quick ones on the way, more for the card.
_WAY_DENSITIES, _WAY_FRAMES = (1.0, 3.0, 5.0), 16
_CARD_DENSITIES, _CARD_FRAMES = (0.3, 1.0, 3.0, 5.0, 6.35), 48
_CARD_TOLERANCES_NM = (50.0, 100.0)
_BATCH = 16
# Mean time that emitters stay on, where frames have neighbours: with their first and last ones whole, 2 frames.
_ON_FRAMES = 1.0


def validation_settings(data: DataSettings, density: float) -> DataSettings:
    """Return the fixed conditions of the figures in a model card.

    Uniform random emitters of 1000 photons, PSF sigma 1.15 px, 10 background photons/px, sCMOS, 64x64 px; where frames
    have neighbours, emitters are on for whole frames, 2 on average. Every setting is given here, so that a default
    never changes what the figures of a card mean.
    """
    sigma_nm = 1.15 * data.pixel_size_nm
    return DataSettings(
        pixel_size_nm=data.pixel_size_nm,
        patch_px=64,
        density_per_um2=(density, density),
        filament_share=0.0,
        cluster_share=0.0,
        ring_share=0.0,
        empty_share=0.0,
        photons=(1000.0, 1000.0),
        photon_spread=(0.0, 0.0),
        partial_share=0.0,
        steady_share=0.0,
        on_frames=None if data.on_frames is None else (_ON_FRAMES, _ON_FRAMES),
        absent_share=0.0,
        truth_min_snr=4.0,
        psf_sigma_nm=(sigma_nm, sigma_nm),
        aberrated_share=0.0,
        psf_ellipticity=0.0,
        defocus=0.0,
        background_photons=(10.0, 10.0),
        background_structure=0.0,
        emccd_share=0.0,
        read_noise_e=(1.5, 1.5),
        pixel_map_share=0.0,
    )


@torch.no_grad()
def _judged(
    network: LiveNet, data: DataSettings, densities: tuple[float, ...], n_frames: int, sample: Sampler
) -> Iterator[tuple[str, Emitters, Emitters]]:
    """Yield (density, found, truth) of frames of a seed of their own."""
    device = next(network.parameters()).device
    for density in densities:
        generator = torch.Generator(device).manual_seed(2**40 + round(density * 1000))
        photons, truth = sample(validation_settings(data, density), n_frames, generator)
        tables = []
        for first in range(0, n_frames, _BATCH):
            table = localize(network, photons[first : first + _BATCH], data.pixel_size_nm)
            tables.append(Emitters(**{**table.__dict__, "frame": table.frame + first}))
        yield f"{density:g}/um2", Emitters.concatenate(tables), truth


def validate(
    network: LiveNet,
    data: DataSettings,
    densities: tuple[float, ...] = _WAY_DENSITIES,
    n_frames: int = _WAY_FRAMES,
    tolerance_nm: float = 100.0,
    sample: Sampler = sample_batch,
) -> dict[str, Scores]:
    """Return the scores at each density, on frames that no training has seen (a seed of its own)."""
    return {
        name: score(found, truth, tolerance_nm)
        for name, found, truth in _judged(network, data, densities, n_frames, sample)
    }


def mean_jaccard(scores: Mapping[str, Scores]) -> float:
    """Return the one figure that says whether a training still gets better: the mean Jaccard over the densities."""
    return fmean(s.jaccard for s in scores.values())


def card_metrics(
    network: torch.nn.Module,
    data: DataSettings,
    source: TrainingData = TrainingData(),
    without_context: LiveNet | None = None,
) -> dict[str, object]:
    """Return the figures of a model card; none for a network without detection heads.

    Beside those of a network with context stand the figures, on the same frames, of one that sees each frame alone.
    """
    if not isinstance(network, LiveNet):
        return {}
    conditions = f"uniform random emitters, {source.conditions}, 64x64 px, {_CARD_FRAMES} frames"
    if data.on_frames is not None:
        conditions += f", emitters on for {_ON_FRAMES + 1:g} frames on average"
    judged = {conditions: network}
    if without_context is not None:
        judged[f"{conditions}, each seen alone, by the model that it was started from"] = without_context
    metrics: dict[str, object] = {}
    for name, one in judged.items():
        found = list(_judged(one, data, _CARD_DENSITIES, _CARD_FRAMES, source.held_out))
        for tolerance in _CARD_TOLERANCES_NM:
            scores = {density: score(table, truth, tolerance) for density, table, truth in found}
            metrics[f"{name}, tolerance {tolerance:g} nm"] = {
                density: {
                    "jaccard": round(s.jaccard, 4),
                    "rmse_nm": round(s.rmse_nm, 2),
                    "precision": round(s.precision, 4),
                }
                for density, s in scores.items()
            }
    return metrics
