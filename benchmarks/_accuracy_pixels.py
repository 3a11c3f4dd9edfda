"""The accuracy benchmark for cameras of other pixels than 100 nm: one sample, seen by each."""

import msgspec
import torch
from _accuracy_frames import seeded, simulated
from _accuracy_table import DETAIL, Table

from stormlive_models.binning import sum_2x2
from stormlive_models.evaluate import score
from stormlive_models.localize import localizations
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training.recipe import DataSettings
from stormlive_models.training.validation import validation_settings
from stormlive_models.zoo import DEFAULT, camera_pixels_nm, choose, open_family
from stormlive_sim.emitters import Emitters

CAMERAS_NM = (60.0, 65.0, 80.0, 86.0, 100.0, 110.0, 119.0, 130.0, 145.0, 160.0)
_DENSITIES = (1.0, 3.0)
_SIGMA_NM, _PHOTONS = 115.0, 1000.0
_FIELD_NM = 6400.0


def pixel_sizes(n: int, seed: int) -> list[Table]:
    """Return the scores of the default model for cameras of many pixels; those that it refuses are left out."""
    models = open_family(DEFAULT, torch.device("cpu"))
    spans = camera_pixels_nm([model.card for model in models])
    rows = []
    for camera_nm in CAMERAS_NM:
        if not any(low <= camera_nm <= high for low, high in spans):
            continue
        model, binning = choose(models, camera_nm)
        assert isinstance(model.network, LiveNet)
        figures: dict[str, float] = {}
        for density in _DENSITIES:
            settings = msgspec.structs.replace(
                validation_settings(DataSettings(pixel_size_nm=camera_nm), density),
                patch_px=round(_FIELD_NM / camera_nm / 4) * 4,
                psf_sigma_nm=(_SIGMA_NM, _SIGMA_NM),
                photons=(_PHOTONS, _PHOTONS),
                background_photons=(10 * (camera_nm / 100) ** 2,) * 2,
            )
            frames = simulated(settings, n, seeded(seed, f"pixels {camera_nm:g} {density:g}"))
            photons = sum_2x2(frames.photons) if binning == 2 else frames.photons
            tables = []
            for first in range(0, n, 8):
                with torch.no_grad():
                    found = model.network(photons[first : first + 8])
                table = localizations(found, camera_nm * binning).emitters()
                tables.append(Emitters(**{**vars(table), "frame": table.frame + first}))
            scores = score(Emitters.concatenate(tables), frames.truth, 100.0)
            figures |= {
                f"J(100) at {density:g}": scores.jaccard,
                f"RMSE nm at {density:g}": scores.rmse_nm,
                f"bias nm at {density:g}": max(abs(scores.bias_x_nm), abs(scores.bias_y_nm)),
            }
        seen = "2x2 summed" if binning == 2 else "as it is"
        rows.append({"camera nm": camera_nm, "weights": model.card.name, "pixels": seen, **figures, DETAIL: figures})
    return [
        Table(
            title=f"{DEFAULT} on cameras of other pixels",
            conditions=f"Uniform random emitters, {_PHOTONS:g} photons, sigma {_SIGMA_NM:g} nm, background 10 photons "
            f"per (100 nm)², sCMOS with a read noise of 1.5 per pixel, tolerance 100 nm; {n} frames of 6.4 µm; bias: "
            "of the worse axis.",
            rows=rows,
        )
    ]
