import logging
from pathlib import Path

import pytest
import tifffile
import torch
from torch import Tensor

from stormlive.cli.app import run
from stormlive_models.checkpoint import load_model, read_card
from stormlive_models.evaluate import score
from stormlive_models.localize import localize
from stormlive_models.training import loop, validation
from stormlive_models.training.experimental import experimental_data, sample_summed_crops
from stormlive_models.training.recipe import DataSettings, ModelSettings, Recipe, TrainingSettings
from stormlive_models.training.spot_library import NEEDED_SPOTS, SpotLibrary, collect_spots
from stormlive_models.zoo import DEFAULT, shipped
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError
from stormlive_sim.psf import render_gaussians
from stormlive_sim.sensor import scmos

# No model is trained for this: strong astigmatism, sigma in x and y.
SIGMA_PX = (1.0, 1.7)


def movie(
    n: int, side: int, density_per_um2: float, photons: float, generator: torch.Generator, background: float = 10.0
) -> tuple[Tensor, Emitters]:
    """Return ADU (n, side, side) of randomly scattered astigmatic emitters, and the truth inside."""
    extent = side + 16
    counts = torch.poisson(torch.full((n,), density_per_um2 * (extent * 0.1) ** 2), generator).long()
    frame = torch.repeat_interleave(torch.arange(n), counts)
    x, y = (torch.rand(len(frame), generator=generator) * extent - 8 for _ in range(2))
    brightness = photons * torch.exp(0.3 * torch.randn(len(frame), generator=generator))
    clean = torch.full((n, side, side), background)
    render_gaussians(clean, frame, x, y, brightness, torch.tensor([SIGMA_PX]).expand(len(frame), 2), radius=8)
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    truth = Emitters(frame=frame, x_nm=100 * x, y_nm=100 * y, photons=brightness)
    return scmos().expose(clean, generator), truth.select(inside)


def to_photons(adu: Tensor) -> Tensor:
    return (adu - 100) * 0.5


@pytest.fixture(scope="module")
def sparse() -> Tensor:
    return movie(60, 128, 0.16, 2500, torch.Generator().manual_seed(1))[0]


@pytest.fixture(scope="module")
def library(sparse: Tensor) -> SpotLibrary:
    return collect_spots(to_photons(sparse).split(25), pixel_size_nm=100, expected_sigma_nm=120)


def test_the_library_knows_the_spots_and_the_noise(library: SpotLibrary) -> None:
    assert len(library) > NEEDED_SPOTS
    assert library.sigma_px == pytest.approx(SIGMA_PX, rel=0.03)
    assert library.background.mean().item() == pytest.approx(10, rel=0.02)
    assert library.read_variance == pytest.approx(1.5**2, abs=0.5)
    assert library.noise.var().item() == pytest.approx(1, abs=0.01)
    assert library.photons.median().item() == pytest.approx(2500, rel=0.1)
    # The crops are where the fits say: the light's centre of mass, weighed to hold the noise of the rim down.
    side = library.crops.shape[1]
    pixel = torch.arange(side) + 0.5
    light = library.crops - library.background[:, None, None]
    offset_x, offset_y = (pixel - position[:, None] for position in (library.x_px, library.y_px))
    near = torch.exp(-0.5 * ((offset_y[:, :, None] / 2.5) ** 2 + (offset_x[:, None, :] / 2.5) ** 2)) * light
    assert abs((near.sum(1) * offset_x).sum().item() / near.sum().item()) < 0.02
    assert abs((near.sum(2) * offset_y).sum().item() / near.sum().item()) < 0.02


def test_summed_crops_keep_the_contract_of_simulated_batches(library: SpotLibrary) -> None:
    uniform = {"empty_share": 0.0, "filament_share": 0.0, "cluster_share": 0.0, "ring_share": 0.0}
    settings = DataSettings(density_per_um2=(3, 3), **uniform)  # type: ignore[arg-type]
    photons, truth = sample_summed_crops(library, settings, 60, torch.Generator().manual_seed(0))
    assert photons.shape == (60, 32, 32)
    assert photons.dtype == torch.float32
    # A few of the dimmest, on top of each other's light, are not asked for; none are at this background.
    assert len(truth) / (60 * 3.2**2) == pytest.approx(3, rel=0.07)
    assert truth.frame.min() >= 0
    assert truth.frame.max() < 60
    for position in (truth.x_nm, truth.y_nm):
        assert position.min() >= 0
        assert position.max() < 3200
        # Whole-pixel shifts of spots that lie anywhere: anywhere in the pixel.
        assert torch.histc(position % 100, 4, 0, 100).min() > 0.15 * len(truth)
    same = sample_summed_crops(library, settings, 60, torch.Generator().manual_seed(0))[0]
    assert torch.equal(photons, same)


def test_summed_crops_are_registered_to_their_truth(library: SpotLibrary) -> None:
    settings = DataSettings(density_per_um2=(0.3, 0.3), filament_share=0, background_structure=0)
    photons, truth = sample_summed_crops(library, settings, 200, torch.Generator().manual_seed(2))
    clean = torch.full_like(photons, 10.0)
    sigma = torch.tensor([SIGMA_PX]).expand(len(truth), 2)
    render_gaussians(clean, truth.frame, truth.x_nm / 100, truth.y_nm / 100, truth.photons, sigma, radius=8)
    inner = (slice(None), slice(8, 24), slice(8, 24))  # emitters outside the frame shine into its rim
    shot_noise = (clean[inner] - 10 + 12.25).sqrt()
    pulls = (photons[inner] - clean[inner]) / shot_noise
    bright = clean[inner] > 60
    assert abs(pulls[bright].mean().item()) < 0.1
    assert pulls[bright].std().item() == pytest.approx(1, abs=0.12)


def test_dark_crops_leave_the_background_as_it_was(library: SpotLibrary) -> None:
    # Crops of nothing but background: where they lie singly, nobody can tell; where they overlap, their mean is
    # right still and their noise is too large, as the documentation says.
    generator = torch.Generator().manual_seed(3)
    dark = torch.poisson(torch.full((500, 13, 13), 10.0), generator) + 1.5 * torch.randn(
        500, 13, 13, generator=generator
    )
    zeros = torch.zeros(500)
    half = torch.full((500,), 6.5)
    nothing = SpotLibrary(
        crops=dark,
        x_px=half,
        y_px=half,
        photons=zeros,
        background=zeros + 10,
        sigma_px=(1.15, 1.15),
        noise=library.noise,
        read_variance=2.25,
        excess=1.0,
        pixel_size_nm=100.0,
    )
    single, overlapping = (
        sample_summed_crops(
            nothing,
            DataSettings(density_per_um2=(density, density), filament_share=0, background_structure=0),
            400,
            generator,
        )[0]
        for density in (0.05, 3.0)
    )
    for frames in (single, overlapping):
        assert frames.mean().item() == pytest.approx(10, abs=0.05)
    assert single.var().item() == pytest.approx(12.25, rel=0.02)
    assert overlapping.var().item() > 1.2 * 12.25


def test_fine_tuning_on_summed_crops_beats_the_stock_weights(
    library: SpotLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "_CARD_DENSITIES", (1.0,))  # all of them take longer than the training
    monkeypatch.setattr(loop, "write_report", lambda *_: None)
    stock = shipped()[DEFAULT]
    arguments = read_card(stock).arguments
    recipe = Recipe(
        data=DataSettings(density_per_um2=(0.3, 6.0)),
        training=TrainingSettings(
            steps=40, batch=8, learning_rate=2e-3, warmup_steps=10, weight_average=0.9, bf16=False, validate_every=1000
        ),
    )
    assert arguments["pixel_size_nm"] == recipe.data.pixel_size_nm
    tuned = tmp_path / "tuned.safetensors"
    loop.train(recipe, tuned, torch.device("cpu"), source=experimental_data(library, "sparse"), start_from=stock)
    adu, truth = movie(12, 48, 1.5, 1200, torch.Generator().manual_seed(4))
    scores = {}
    for path in (stock, tuned):
        network, _ = load_model(path, torch.device("cpu"))
        found = localize(network, to_photons(adu), 100.0)
        table = Emitters(frame=found.frame, x_nm=found.x_nm, y_nm=found.y_nm, photons=found.photons)
        scores[path] = score(table, truth, 100.0)
    assert scores[tuned].jaccard > scores[stock].jaccard + 0.2
    assert scores[tuned].rmse_nm < 0.8 * scores[stock].rmse_nm
    card = read_card(tuned)
    assert card.trained["started_from"] == DEFAULT
    assert card.trained["experimental"] == "sparse"
    assert all("kept from training" in name for name in card.metrics)


def test_too_few_isolated_spots_are_counted(sparse: Tensor) -> None:
    with pytest.raises(InputError, match=rf"found \d+ spots that are isolated in 3 frames .*needed {NEEDED_SPOTS}"):
        collect_spots([to_photons(sparse[:3])], pixel_size_nm=100, expected_sigma_nm=120)
    dense = to_photons(movie(20, 64, 3.0, 2500, torch.Generator().manual_seed(5))[0])
    with pytest.raises(InputError, match="give more frames, or sparser ones"):
        collect_spots([dense], pixel_size_nm=100, expected_sigma_nm=120)
    with pytest.raises(InputError, match="at least 25 pixels a side, got 128x20"):
        collect_spots([dense.new_zeros(2, 20, 128)], pixel_size_nm=100, expected_sigma_nm=120)


@pytest.mark.parametrize("pixel_size_nm", [16.0, 650.0])
def test_a_pixel_size_that_cannot_be_is_refused(sparse: Tensor, pixel_size_nm: float) -> None:
    blocks = [to_photons(sparse[:40])]
    with pytest.raises(InputError, match="check --pixel-size-nm"):
        collect_spots(blocks, pixel_size_nm=pixel_size_nm, expected_sigma_nm=1.2 * pixel_size_nm)


def test_a_wrong_calibration_is_noticed(sparse: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="check --baseline-adu"):
        collect_spots([to_photons(sparse[:40]) - 12], pixel_size_nm=100, expected_sigma_nm=120)
    with caplog.at_level(logging.WARNING):
        collect_spots([4 * to_photons(sparse[:40])], pixel_size_nm=100, expected_sigma_nm=120)
    assert "--photons-per-adu" in caplog.text


def test_the_command_trains_from_a_recording(
    sparse: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(validation, "_CARD_DENSITIES", ())
    tifffile.imwrite("sparse.tif", sparse.numpy().astype("uint16"))
    recipe = "[data]\npatch_px = 16\n[training]\nsteps = 2\nbatch = 2\nbf16 = false\n"
    Path("tune.toml").write_text(recipe, encoding="utf-8")
    common = ["train", "tune.toml", "-o", "out.safetensors", "--experimental", "sparse.tif", "--device", "cpu"]
    assert run([*common, "--pixel-size-nm", "160"]) == 1
    complaint = " ".join(capsys.readouterr().err.split())
    assert "recording has pixels of 160 nm (--pixel-size-nm), the recipe trains for 100 nm" in complaint
    assert run([*common, "--start-from", "livenet"]) == 0
    assert "isolated spots of sparse: " in capsys.readouterr().err
    assert read_card(Path("out.safetensors")).trained["started_from"] == "livenet"


def test_only_a_model_of_the_recipes_shape_can_be_fine_tuned(tmp_path: Path) -> None:
    recipe = Recipe(model=ModelSettings(width=16))
    with pytest.raises(InputError, match=r"architecture livenet, width 16, the model livenet .* width 48"):
        loop.train(recipe, tmp_path / "x.safetensors", torch.device("cpu"), start_from=shipped()[DEFAULT])
