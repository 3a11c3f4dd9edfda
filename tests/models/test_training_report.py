"""The report of a training is one file that shows what it promises, and its calibration tells good from bad."""

import base64
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from stormlive_models.networks.livenet import Detections
from stormlive_models.training.calibration import Calibration, calibrate
from stormlive_models.training.loop import train
from stormlive_models.training.original import train_original
from stormlive_models.training.recipe import (
    DataSettings,
    EpochSettings,
    ModelSettings,
    Recipe,
    TrainingSettings,
    read_recipe,
)
from stormlive_models.training.report import recipe_text, report_path
from stormlive_sim.emitters import Emitters

RECIPES = Path(read_recipe.__code__.co_filename).parent / "recipes"
PNG = b"\x89PNG\r\n"


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: dict[str, bytes] = {}
        self.links: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        source = given.get("src", given.get("href", ""))
        if tag == "img" and source.startswith("data:image/png;base64,"):
            self.images[given["alt"]] = base64.b64decode(source.partition(",")[2])
        elif source:
            self.links.append(source)

    def handle_data(self, data: str) -> None:
        self.text += data


TINY = Recipe(
    name="<tiny> & mine",
    model=ModelSettings(width=4, context=1),
    data=DataSettings(patch_px=16, density_per_um2=(4.0, 5.0), on_frames=(1.0, 2.0)),
    training=TrainingSettings(steps=3, batch=2, validate_every=2, bf16=False),
)
IN_EPOCHS = msgspec.structs.replace(
    TINY,
    model=ModelSettings(architecture="deepstorm", upsampling=2),
    data=msgspec.structs.replace(TINY.data, on_frames=None),
    epochs=EpochSettings(frames=2, patches=10, patch_px=8, least_emitters=1, count=3),
)


@pytest.mark.parametrize(
    ("recipe", "train", "pictures", "done", "ended"),
    [
        (TINY, train, {"loss and validation", "example frames", "calibration"}, "67 % done", "all steps made"),
        (IN_EPOCHS, train_original, {"loss and validation", "example frames"}, "33 % done", "all epochs made"),
    ],
    ids=["steps", "epochs"],
)
def test_the_report_is_one_file_with_everything_inside(
    tmp_path: Path, recipe: Recipe, train: Callable[..., object], pictures: set[str], done: str, ended: str
) -> None:
    output = tmp_path / "tiny.safetensors"
    on_the_way: list[Page] = []

    def look(_: object) -> None:
        if report_path(output).exists() and not on_the_way:
            on_the_way.append(Page(report_path(output)))

    train(recipe, output, torch.device("cpu"), look)
    assert report_path(output) == tmp_path / "tiny.report.html"
    page = Page(report_path(output))
    assert page.links == []
    assert page.images.keys() == pictures
    assert all(image.startswith(PNG) for image in page.images.values())
    assert "<tiny> & mine" in page.text
    assert f"Ended: {ended}" in page.text
    assert "density_per_um2 = [4.0, 5.0]" in page.text
    assert on_the_way[0].images.keys() == {"loss and validation"}
    assert done in on_the_way[0].text


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_training_can_be_repeated_from_the_recipe_in_its_report(tmp_path: Path, path: Path) -> None:
    recipe = read_recipe(path)
    copy = tmp_path / "recipe.toml"
    copy.write_text(recipe_text(msgspec.to_builtins(recipe)), encoding="utf-8")
    assert read_recipe(copy) == recipe


def test_a_recipe_without_a_time_limit_and_with_any_name_is_repeated_too(tmp_path: Path) -> None:
    recipe = Recipe(name='"dots" \N{TEST TUBE}', training=TrainingSettings(max_minutes=math.inf))
    copy = tmp_path / "recipe.toml"
    copy.write_text(recipe_text(msgspec.to_builtins(recipe)), encoding="utf-8")
    assert read_recipe(copy) == recipe


class Oracle:
    """A network that finds the one emitter of each frame, with errors of `error_nm`, and claims to err by 20 nm."""

    def __init__(self, error_nm: float, lonely: float = 0.0) -> None:
        self.error_nm = error_nm
        self.lonely = lonely
        self.truth: Tensor = torch.zeros(0)

    def sample(self, settings: DataSettings, n: int, generator: torch.Generator) -> tuple[Tensor, Emitters]:
        side, nm = settings.patch_px, settings.pixel_size_nm
        self.truth = torch.rand(n, 2, generator=generator) * (side - 4) + 2
        x, y = (self.truth * nm).T
        # Some frames say that they have an emitter, and have none.
        there = torch.rand(n, generator=generator) >= self.lonely
        frames = torch.arange(n, dtype=torch.float32)[:, None, None].expand(n, side, side)
        table = Emitters(frame=torch.arange(n), x_nm=x, y_nm=y, photons=torch.full((n,), 1000.0))
        return frames, table.select(there)

    def __call__(self, photons: Tensor) -> Detections:
        n, height, width = photons.shape
        frames = photons[:, 0, 0].long()
        generator = torch.Generator().manual_seed(int(frames[0]))
        x, y = (self.truth[frames] + torch.randn(n, 2, generator=generator) * self.error_nm / 100).T
        at = (torch.arange(n), self.truth[frames, 1].long(), self.truth[frames, 0].long())
        logit = torch.full((n, height, width), -20.0)
        logit[at] = 1.3863  # 80 %
        spread = torch.full((n, height, width), 0.2)
        column, row = torch.arange(width) + 0.5, (torch.arange(height) + 0.5)[:, None]
        maps = {"x_px": column.expand(n, height, width).clone(), "y_px": row.expand(n, height, width).clone()}
        maps["x_px"][at], maps["y_px"][at] = x, y
        return Detections(
            logit=logit,
            **maps,
            log_photons=torch.full((n, height, width), 6.9078),
            sigma_x_px=spread,
            sigma_y_px=spread,
            sigma_log_photons=spread,
        )


def calibrated(oracle: Oracle) -> Calibration:
    settings = DataSettings(patch_px=16)
    return calibrate(oracle, settings, oracle.sample, torch.Generator().manual_seed(0), n_frames=1500)  # type: ignore[arg-type]


@pytest.mark.parametrize("error_nm", [20.0, 30.0])
def test_errors_are_set_against_what_the_network_claims(error_nm: float) -> None:
    result = calibrated(Oracle(error_nm))
    assert result.n_truth == 1500
    assert len(result.error_nm) == 1500
    assert np.std(result.error_nm / result.sigma_nm) == pytest.approx(error_nm / 20, rel=0.05)
    assert result.photons_found == pytest.approx(result.photons_true, rel=1e-3)


def test_probabilities_are_set_against_the_truth() -> None:
    result = calibrated(Oracle(20.0, lonely=0.2))
    assert result.probability == pytest.approx(0.8, abs=1e-3)
    assert result.is_true.mean() == pytest.approx(0.8, abs=0.03)
    assert len(result.error_nm) == result.is_true.sum()
