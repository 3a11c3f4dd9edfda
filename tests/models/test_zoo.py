"""What the shipped weights must hold, whatever else changes: a floor, well below what they reach."""

from pathlib import Path

import msgspec
import pytest
import torch

from stormlive_models.checkpoint import load_model, read_card, save_model
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training.data import sample_batch
from stormlive_models.training.recipe import DataSettings, ModelSettings
from stormlive_models.training.validation import validate, validation_settings
from stormlive_models.zoo import DEFAULT, camera_pixels_nm, shipped
from stormlive_sim.errors import InputError


@pytest.fixture(scope="module")
def network() -> LiveNet:
    network, _ = load_model(shipped()[DEFAULT], torch.device("cpu"))
    assert isinstance(network, LiveNet)
    return network


def test_every_shipped_model_has_a_card_with_its_figures() -> None:
    assert DEFAULT in shipped()
    for path in shipped().values():
        card = read_card(path)
        assert card.name == path.stem
        assert card.trained["steps"] > 0
        assert card.training["data"]["psf_sigma_nm"]
        assert card.metrics


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_model_finds_emitters_on_pixels_of_its_own_size(name: str) -> None:
    network, card = load_model(shipped()[name], torch.device("cpu"))
    assert isinstance(network, LiveNet)
    (scores,) = validate(network, DataSettings(pixel_size_nm=card.pixel_size_nm), (1.0,), 8).values()
    assert scores.jaccard > 0.9
    assert abs(scores.bias_x_nm) < 2
    assert abs(scores.bias_y_nm) < 2


def test_a_card_says_which_camera_pixels_the_network_takes(tmp_path: Path, network: LiveNet) -> None:
    card = msgspec.structs.replace(read_card(shipped()[DEFAULT]), pixel_sizes_nm=None)
    assert card.camera_pixels_nm[1] == pytest.approx((90, 110))
    assert sum(camera_pixels_nm([card]), ()) == pytest.approx((45, 55, 90, 110))
    wide = msgspec.structs.replace(card, pixel_sizes_nm=(60, 120))
    assert camera_pixels_nm([card, wide]) == ((30, 120),)
    path = tmp_path / "m.safetensors"
    save_model(path, network, wide)
    assert read_card(path) == wide
    save_model(path, network, msgspec.structs.replace(card, pixel_sizes_nm=(120, 85)))
    with pytest.raises(InputError, match="least, greatest"):
        read_card(path)
    with pytest.raises(msgspec.ValidationError, match="least, greatest"):
        msgspec.convert({"pixel_sizes_nm": [120, 85]}, ModelSettings)


def test_the_default_model_finds_emitters(network: LiveNet) -> None:
    scores = validate(network, DataSettings(), (0.3, 1.0, 3.0, 5.0), 12)
    jaccard = [s.jaccard for s in scores.values()]
    assert jaccard[0] > 0.95
    assert jaccard[1] > 0.93
    assert jaccard[2] > 0.85
    assert jaccard[3] > 0.78
    assert scores["0.3/um2"].rmse_nm < 15
    assert scores["0.3/um2"].precision > 0.97


def test_figures_on_the_card_are_those_of_the_weights(network: LiveNet) -> None:
    card = read_card(shipped()[DEFAULT])
    on_card = next(v for k, v in card.metrics.items() if k.endswith("tolerance 100 nm"))["3/um2"]["jaccard"]
    assert validate(network, DataSettings(), (3.0,), 48)["3/um2"].jaccard == pytest.approx(on_card, abs=0.002)


@pytest.mark.parametrize("density", [0.3, 1.0, 3.0])
def test_the_mass_of_the_canvas_is_the_number_of_emitters(network: LiveNet, density: float) -> None:
    settings = validation_settings(DataSettings(), density)
    photons, truth = sample_batch(settings, 24, torch.Generator().manual_seed(11))
    canvas = torch.zeros(512, 512)
    network.add_increment(photons, canvas)
    assert canvas.sum().item() == pytest.approx(len(truth), rel=0.1)


@pytest.mark.parametrize("background", [1.0, 10.0, 50.0])
def test_empty_frames_leave_an_empty_canvas(network: LiveNet, background: float) -> None:
    generator = torch.Generator().manual_seed(5)
    canvas = torch.zeros(512, 512)
    for _ in range(6):
        network.add_increment(torch.poisson(torch.full((16, 64, 64), background), generator), canvas)
    per_um2_and_frame = canvas.sum().item() / (6.4**2 * 96)
    assert per_um2_and_frame < 0.001


def test_the_light_of_one_emitter_lands_where_it_is(network: LiveNet) -> None:
    settings = validation_settings(DataSettings(photons=(3000, 3000)), 0.02)
    photons, truth = sample_batch(settings, 96, torch.Generator().manual_seed(2))
    lonely = [i for i in range(len(truth)) if (truth.frame == truth.frame[i]).sum() == 1]
    offsets = []
    for i in lonely:
        x, y = truth.x_nm[i].item(), truth.y_nm[i].item()
        if not (500 < x < 5900 and 500 < y < 5900):
            continue
        canvas = torch.zeros(512, 512)
        network.add_increment(photons[truth.frame[i]][None], canvas)
        # Emitters just outside the frame are not in the table, but may be seen at its rim.
        canvas[:16], canvas[-16:], canvas[:, :16], canvas[:, -16:] = 0, 0, 0, 0
        centres = (torch.arange(512) + 0.5) * 12.5
        offsets.append(
            (
                (canvas.sum(0) * centres).sum() / canvas.sum() - x,
                (canvas.sum(1) * centres).sum() / canvas.sum() - y,
            )
        )
    offset = torch.tensor(offsets)
    assert len(offset) > 20
    assert offset.abs().max() < 40
    # No bias beyond its own error bar: the half-pixel conventions of canvas and truth are the same.
    assert (offset.mean(0).abs() < 4 * offset.std(0) / len(offset) ** 0.5 + 0.5).all()
