"""Fine-tuning on sparse frames of a microscope whose PSF no model was trained for, against the stock weights.

The microscope is simulated, so that its dense frames have a truth. Beside the weights tuned on summed crops of its
sparse frames stand weights tuned for as many steps on a simulation that knows the PSF, the camera and every position
exactly: what is between the two is the price of real data.
"""

import argparse
import math
import tempfile
from pathlib import Path

import msgspec
import torch
from _report import report
from torch import Tensor

from stormlive_models.checkpoint import file_sha256, load_model
from stormlive_models.evaluate import score
from stormlive_models.localize import localize
from stormlive_models.training.experimental import experimental_data
from stormlive_models.training.loop import train
from stormlive_models.training.recipe import DataSettings, Recipe, read_recipe
from stormlive_models.training.source import TrainingData
from stormlive_models.training.spot_library import collect_spots
from stormlive_models.zoo import DEFAULT, shipped
from stormlive_sim.emitters import Emitters
from stormlive_sim.psf import render_gaussians
from stormlive_sim.sensor import scmos

RECIPES = Path(__file__).parents[1] / "models" / "stormlive_models" / "training" / "recipes"
# A PSF as a sum of elliptical Gaussians: (offset x, offset y, sigma x, sigma y) in pixels, of equal photons.
MICROSCOPES = {
    "astigmatic, sigma 1.0 x 1.7 px": [(0.0, 0.0, 1.0, 1.7)],
    "two lobes of sigma 1.1 px, 2.6 px apart": [(1.1, 0.7, 1.1, 1.1), (-1.1, -0.7, 1.1, 1.1)],
}
BACKGROUND = 10.0
SPARSE_PHOTONS, PHOTONS = 2500.0, 1000.0
DENSITIES = (0.3, 1.0, 3.0, 5.0)
Lobes = list[tuple[float, float, float, float]]


def expose(
    lobes: Lobes, n: int, side: int, density: Tensor, photons: float, spread: float, generator: torch.Generator
) -> tuple[Tensor, Emitters]:
    """Return frames in photons, (n, side, side), of uniformly scattered emitters, and the truth inside."""
    extent = side + 16
    frame = torch.repeat_interleave(torch.arange(n), torch.poisson(density * (extent / 10) ** 2, generator).long())
    x, y = (torch.rand(len(frame), generator=generator) * extent - 8 for _ in range(2))
    brightness = photons * torch.exp(spread * torch.randn(len(frame), generator=generator) - spread**2 / 2)
    clean = torch.full((n, side, side), BACKGROUND)
    for dx, dy, *sigma in lobes:
        both = torch.tensor([sigma]).expand(len(frame), 2)
        render_gaussians(clean, frame, x + dx, y + dy, brightness / len(lobes), both, radius=9)
    sensor = scmos()
    measured = (sensor.expose(clean, generator) - sensor.baseline_adu) * sensor.photons_per_adu
    table = Emitters(frame=frame, x_nm=100 * x, y_nm=100 * y, photons=brightness)
    return measured, table.select((x >= 0) & (x < side) & (y >= 0) & (y < side))


def exact_data(lobes: Lobes) -> TrainingData:
    """Return the simulation that knows everything, with the brightness that summed crops have."""

    def sample(settings: DataSettings, n: int, generator: torch.Generator) -> tuple[Tensor, Emitters]:
        low, high = (math.log(bound) for bound in settings.density_per_um2)
        density = (torch.rand(n, generator=generator) * (high - low) + low).exp()
        return expose(lobes, n, settings.patch_px, density, 0.65 * SPARSE_PHOTONS, 0.5, generator)

    return TrainingData(sample=sample, held_out=sample, conditions="the exact PSF")


def figures(model: Path, lobes: Lobes, n: int) -> dict[str, float]:
    network, _ = load_model(model, torch.device("cpu"))
    row: dict[str, float] = {}
    for density in DENSITIES:
        generator = torch.Generator().manual_seed(round(1000 * density))
        photons, truth = expose(lobes, n, 64, torch.full((n,), density), PHOTONS, 0.0, generator)
        tables = []
        for first in range(0, n, 8):
            found = localize(network, photons[first : first + 8], 100.0)
            tables.append(Emitters(frame=found.frame + first, x_nm=found.x_nm, y_nm=found.y_nm, photons=found.photons))
        scores = score(Emitters.concatenate(tables), truth, 100.0)
        row |= {f"J({density:g})": scores.jaccard, f"rmse({density:g})": scores.rmse_nm}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--sparse-frames", type=int, default=150)
    parser.add_argument("--frames", type=int, default=24, help="per density, for the figures")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = read_recipe(RECIPES / "finetune.toml")
    training = msgspec.structs.replace(recipe.training, steps=options.steps, validate_every=10**6)
    recipe = msgspec.structs.replace(recipe, training=training)
    rows, notes = [], {}
    for name, lobes in MICROSCOPES.items():
        generator = torch.Generator().manual_seed(1)
        density = torch.full((options.sparse_frames,), 0.16)
        sparse, _ = expose(lobes, options.sparse_frames, 128, density, SPARSE_PHOTONS, 0.4, generator)
        library = collect_spots(sparse.split(50), pixel_size_nm=100.0, expected_sigma_nm=120.0)
        notes[name] = f"{len(library)} isolated spots in {options.sparse_frames} frames of 128x128"
        sources = {
            "tuned on summed crops": experimental_data(library, name),
            "tuned on the exact simulation": exact_data(lobes),
        }
        rows.append({"PSF": name, "weights": "stock", **figures(shipped()[DEFAULT], lobes, options.frames)})
        for weights, source in sources.items():
            rows.append({"PSF": name, "weights": weights, **tuned(recipe, source, lobes, options.frames)})
    conditions = {
        "frames": f"{options.frames} of 64x64, {PHOTONS:g} photons, background {BACKGROUND:g}, sCMOS, tolerance 100 nm",
        "columns": "(emitters/um2); rmse lateral, nm",
        "steps": options.steps,
        "batch": training.batch,
        "stock": file_sha256(shipped()[DEFAULT]),
    }
    report("experimental_training", rows, {**conditions, **notes})


def tuned(recipe: Recipe, source: TrainingData, lobes: Lobes, n: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tuned.safetensors"
        train(recipe, path, torch.device("cpu"), source=source, start_from=shipped()[DEFAULT])
        return figures(path, lobes, n)


if __name__ == "__main__":
    main()
