"""Train the default recipe on a GPU for a few minutes and print the model card's figures."""

import argparse
from pathlib import Path

import msgspec
import torch
from _report import report

from stormlive_models.training.loop import train
from stormlive_models.training.recipe import read_recipe

RECIPES = Path(__file__).parents[1] / "models" / "stormlive_models" / "training" / "recipes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    recipe = read_recipe(RECIPES / "livenet.toml")
    training = msgspec.structs.replace(recipe.training, max_minutes=options.minutes)
    card = train(msgspec.structs.replace(recipe, training=training), options.output, torch.device("cuda"))
    rows = [
        {"conditions": conditions, "density": density, **scores}
        for conditions, by_density in card.metrics.items()
        for density, scores in by_density.items()
    ]
    report("train_cuda", rows, {"device": torch.cuda.get_device_name(), **card.trained})


if __name__ == "__main__":
    main()
