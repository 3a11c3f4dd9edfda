"""What a network gains from the frames before and after, beside one that sees each frame alone.

Emitters stay on for 0.5 to 4 frames on average, half of them switch within exposures. All find the emitters of the same
frames; the one with context gets their neighbours, or, as at the ends of a movie, none.
"""

import argparse

import msgspec
import torch
from _report import report
from rich.progress import track
from torch import Tensor

from stormlive_models.checkpoint import file_sha256, load_model
from stormlive_models.evaluate import score
from stormlive_models.localize import localize
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training.data import sample_batch
from stormlive_models.training.recipe import DataSettings
from stormlive_models.training.validation import validation_settings
from stormlive_models.zoo import DEFAULT, find_model
from stormlive_sim.emitters import Emitters

ON_FRAMES = (0.5, 1.0, 2.0, 4.0)
PHOTONS = (500.0, 1000.0)
DENSITIES = (1.0, 3.0, 5.0)
TOLERANCE_NM = 100.0
BATCH = 16


def network(name: str) -> LiveNet:
    network, _ = load_model(find_model(name), torch.device("cpu"))
    assert isinstance(network, LiveNet)
    return network


def frames(on: float, photons: float, density: float, n: int) -> tuple[Tensor, Emitters]:
    settings = validation_settings(DataSettings(on_frames=(on, on)), density)
    settings = msgspec.structs.replace(settings, photons=(photons, photons), on_frames=(on, on), partial_share=1.0)
    return sample_batch(settings, n, torch.Generator().manual_seed(2**40 + round(1000 * density)))


def jaccard(network: LiveNet, photons: Tensor, truth: Emitters) -> float:
    tables = []
    for first in range(0, len(photons), BATCH):
        found = localize(network, photons[first : first + BATCH], network.pixel_size_nm)
        tables.append(Emitters(**{**vars(found), "frame": found.frame + first}))
    return score(Emitters.concatenate(tables), truth, TOLERANCE_NM).jaccard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="livenet-context", help="with context")
    parser.add_argument("--alone", default=DEFAULT, help="without")
    parser.add_argument("--frames", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    alone, context = network(options.alone), network(options.model)
    rows = []
    for on, photons in track([(on, photons) for on in ON_FRAMES for photons in PHOTONS], "judging"):
        ways: dict[str, dict[str, float]] = {"each alone": {}, "with neighbours": {}, "neighbours absent": {}}
        for density in DENSITIES:
            stacks, truth = frames(on, photons, density, options.frames)
            figures = (jaccard(alone, stacks, truth), jaccard(context, stacks, truth))
            absent = jaccard(context, stacks[:, 1], truth)
            for way, figure in zip(ways.values(), (*figures, absent), strict=True):
                way[f"J at {density:g}/um2"] = figure
        rows += [
            {"on for, frames": on, "photons": photons, "model": name, "frames": way, **figures}
            for name, (way, figures) in zip((options.alone, options.model, options.model), ways.items(), strict=True)
        ]
    notes = {
        "frames": options.frames,
        "tolerance_nm": TOLERANCE_NM,
        "sha256": {name: file_sha256(find_model(name)) for name in (options.alone, options.model)},
    }
    report("temporal_context", rows, notes)


if __name__ == "__main__":
    main()
