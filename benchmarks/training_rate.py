"""Is the network the bottleneck of a training, or the simulation that feeds it? Both, timed apart.

Steps of the default recipe in the order in which a training takes them, frame making and learning in turn, so that
both meet the same machine; medians.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from _report import report

from stormlive_models.training.data import sample_batch
from stormlive_models.training.loop import learn
from stormlive_models.training.recipe import read_recipe
from stormlive_models.training.start import begin

RECIPE = Path(__file__).parents[1] / "models" / "stormlive_models" / "training" / "recipes" / "livenet.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe, device = read_recipe(options.recipe), torch.device(options.device)
    run = begin(recipe, device)

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    times: dict[str, list[float]] = {"frames (simulation)": [], "network (forward, backward, optimizer)": []}
    for _ in range(options.rounds + 2):
        began = clock()
        photons, truth = sample_batch(recipe.data, recipe.training.batch, run.generator)
        sampled = clock()
        learn(run, photons, truth)
        for taken, seconds in zip(times.values(), (sampled - began, clock() - sampled), strict=True):
            taken.append(seconds)
    # The first two rounds are for warming up.
    medians = {part: statistics.median(taken[2:]) for part, taken in times.items()}
    whole = sum(medians.values())
    rows = [{"part of a step": part, "ms": 1000 * s, "share": s / whole} for part, s in medians.items()]
    simulation, network = medians.values()
    notes = {
        "recipe": recipe.name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {options.threads} threads",
        "network over frames": round(network / simulation, 2),
        "steps/s": round(1 / whole, 2),
        "frames/s": round(recipe.training.batch / whole, 1),
        "frames simulated/s": round(recipe.training.batch / simulation, 1),
        "batch": recipe.training.batch,
        "rounds": options.rounds,
    }
    print(f"the network takes {notes['network over frames']} times as long as its frames; {notes['frames/s']} frames/s")
    report("training_rate" if device.type == "cpu" else f"training_rate_{device.type}", rows, notes)


if __name__ == "__main__":
    main()
