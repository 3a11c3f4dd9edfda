import errno
import math
from pathlib import Path

import msgspec
import pytest
import torch

from stormlive_models.checkpoint import ModelCard, file_sha256, load_model, read_card, save_model
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training import data, loop, validation
from stormlive_models.training.data import sample_batch
from stormlive_models.training.history import Progress
from stormlive_models.training.kinetics import crowding, draw_overlaps
from stormlive_models.training.loop import train
from stormlive_models.training.recipe import DataSettings, read_recipe
from stormlive_models.training.validation import validation_settings
from stormlive_models.zoo import find_model
from stormlive_sim.errors import InputError
from stormlive_sim.pixel_maps import PixelMaps, PixelVariation, draw_pixel_maps

RECIPES = Path(read_recipe.__code__.co_filename).parent / "recipes"
TINY = """
name = "tiny"
[model]
architecture = "{architecture}"
width = 16
[data]
patch_px = 16
density_per_um2 = [1, 2]
photons = [3000, 4000]
[training]
steps = {steps}
batch = 4
warmup_steps = 20
validate_every = 40
bf16 = false
"""


def recipe_file(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def livenet_card(width: int) -> ModelCard:
    return ModelCard(
        name="x",
        architecture="livenet",
        arguments={"pixel_size_nm": 100.0, "upsampling": 8, "width": width},
        normalisation="",
        training={},
        trained={},
        metrics={},
    )


def test_batches_hold_what_the_recipe_says() -> None:
    settings = DataSettings(
        density_per_um2=(3, 3),
        filament_share=0,
        cluster_share=0,
        ring_share=0,
        empty_share=0,
        photons=(1000, 1000),
        photon_spread=(0, 0),
        partial_share=0,
        background_photons=(1, 10),
    )
    photons, truth = sample_batch(settings, 200, torch.Generator().manual_seed(0))
    assert photons.shape == (200, 32, 32)
    assert len(truth) / (200 * 3.2**2) == pytest.approx(3, rel=0.05)
    assert torch.allclose(truth.photons, torch.tensor(1000.0))
    for position in (truth.x_nm, truth.y_nm):
        assert position.min() >= 0
        assert position.max() < 3200


def test_batches_are_registered_to_their_truth() -> None:
    settings = validation_settings(DataSettings(photons=(1e4, 1e4)), 0.02)
    photons, truth = sample_batch(settings, 400, torch.Generator().manual_seed(0))
    lonely = [i for i in range(len(truth)) if (truth.frame == truth.frame[i]).sum() == 1]
    errors = []
    for i in lonely:
        x, y = truth.x_nm[i].item() / 100, truth.y_nm[i].item() / 100
        column, row = int(x), int(y)
        if 6 <= column < 58 and 6 <= row < 58:
            window = photons[truth.frame[i], row - 5 : row + 6, column - 5 : column + 6] - 10
            centres = torch.arange(-5, 6) + 0.5
            errors.append(
                (
                    (window.sum(0) * centres).sum() / window.sum() + column - x,
                    (window.sum(1) * centres).sum() / window.sum() + row - y,
                )
            )
    bias = torch.tensor(errors).mean(0)
    scatter = torch.tensor(errors).std(0) / math.sqrt(len(errors))
    assert len(errors) > 50
    assert (bias.abs() < 4 * scatter).all(), (bias, scatter)
    assert (scatter < 0.03).all()


def test_a_frame_comes_between_its_neighbours() -> None:
    settings = msgspec.structs.replace(
        validation_settings(DataSettings(on_frames=(1, 1)), 0.3), photons=(3000.0, 3000.0), absent_share=0.2
    )
    stacks, truth = sample_batch(settings, 150, torch.Generator().manual_seed(0))
    assert stacks.shape == (150, 3, 64, 64)
    # Emitters of the middle frame, as many as without neighbours, all on for the whole of it.
    assert len(truth) / (150 * 6.4**2) == pytest.approx(0.3, rel=0.07)
    assert torch.allclose(truth.photons, torch.tensor(3000.0))
    absent = ~stacks.any(-1).any(-1)
    assert absent.float().mean(0).tolist() == pytest.approx([0.2, 0, 0.2], abs=0.06)
    # Of those that are on for one frame on average, whose ends are rounded up, half are there in the next one as well.
    column, row = (truth.x_nm / 100).long(), (truth.y_nm / 100).long()
    inner = (column > 3) & (column < 60) & (row > 3) & (row < 60)
    for neighbour, share in ((0, 0.5), (1, 1.0), (2, 0.5)):
        there = inner & ~absent[truth.frame, neighbour]
        light = stacks[truth.frame, neighbour, row, column][there]
        assert (light > 100).float().mean().item() == pytest.approx(share, abs=0.07)


def test_emitters_switch_at_any_time_and_for_as_long_as_they_are_on() -> None:
    for on in (0.5, 3.0):
        overlaps = draw_overlaps(torch.full((40_000,), on), torch.Generator().manual_seed(1))
        assert ((overlaps >= 0) & (overlaps <= 1)).all()
        assert overlaps.any(0).all()
        # A stationary process: λ (1 + on) emitters are seen in a frame, of λ (3 + on) in all, for λ on frames together.
        seen, light = (overlaps > 0).double().mean(1), overlaps.double().mean(1)
        assert seen.tolist() == pytest.approx([(1 + on) / (3 + on)] * 3, rel=0.02)
        assert light.tolist() == pytest.approx([on / (3 + on)] * 3, rel=0.02)
        assert crowding(torch.tensor(on)).item() == pytest.approx(1 / seen[1].item(), rel=0.02)


def test_the_frames_of_cards_and_benchmarks_stay_what_they_are() -> None:
    photons, truth = sample_batch(validation_settings(DataSettings(), 3.0), 4, torch.Generator().manual_seed(7))
    assert len(truth) == 478
    assert photons.sum(dtype=torch.float64).item() == pytest.approx(646_202, abs=100)
    pixels = [10.0, 10.0, 9.0, 14.0, 11.5, 13.0, 13.0, 9.5, 11.0, 9.0]
    assert photons[2, 17, 30:40].tolist() == pytest.approx(pixels, abs=0.6)


def test_pixels_differ_as_those_of_the_simulator_and_stay_so_in_all_frames_of_a_camera(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[PixelMaps] = []

    def draw(variation: PixelVariation, shape: tuple[int, ...], generator: torch.Generator) -> PixelMaps:
        drawn.append(draw_pixel_maps(variation, shape, generator))
        return drawn[-1]

    monkeypatch.setattr(data, "draw_pixel_maps", draw)
    every = DataSettings(
        empty_share=1, emccd_share=0, pixel_map_share=1, background_photons=(50, 50), background_structure=0
    )
    some = msgspec.structs.replace(every, emccd_share=0.5, pixel_map_share=0.5)
    every = msgspec.structs.replace(every, on_frames=(1, 1), absent_share=0)
    stacks, _ = sample_batch(every, 32, torch.Generator().manual_seed(2))
    sample_batch(some, 400, torch.Generator().manual_seed(2))
    maps, few = drawn
    assert maps.gain.shape == (32, 1, 32, 32)
    hot = (maps.dark_e_per_ms > 0.1).expand_as(stacks)
    assert 8 < hot[:, 0].sum() < 30
    assert (stacks[hot] > 100).all()
    assert (stacks > 110).sum() <= hot.sum() + 30
    expected = 50 * maps.gain + 0.5 * maps.offset_adu
    both = torch.stack((stacks.mean(1), expected[:, 0]))[:, ~hot[:, 0]]
    assert torch.corrcoef(both)[0, 1] > 0.2
    assert len(few.gain) / 400 == pytest.approx(0.25, abs=0.07)


def test_the_conditions_of_a_card_leave_nothing_to_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataSettings(pixel_size_nm=160)
    monkeypatch.setattr(validation, "DataSettings", lambda **given: given)
    given = validation_settings(data, 3.0)
    # A disturbance that the simulation learns later must be switched off here, or all cards change their meaning.
    assert set(given) == set(DataSettings.__struct_fields__)  # type: ignore[call-overload]
    assert all(value == 0 for name, value in given.items() if name.endswith("_share"))  # type: ignore[attr-defined]


def test_the_shipped_recipes_are_valid() -> None:
    for path in RECIPES.glob("*.toml"):
        assert read_recipe(path).name == path.stem


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[data]\nphotns = [1, 2]\n", "unknown key 'data.photns'; did you mean 'photons'"),
        ("[datum]\n", "unknown key 'datum'; did you mean 'data'"),
        ("[training]\nbatch = 0\n", "batch"),
        ("[data]\nphotons = [500, 100]\n", "data.photons must be"),
        ("[data]\nphotons = [100, inf]\n", "data.photons must be [low, high] with 0 < low <= high, got [100.0, inf]"),
        ("[data]\ndensity_per_um2 = [0, 5]\n", "data.density_per_um2 must be [low, high] with 0 < low <= high"),
        ("[data]\nbackground_photons = [0, 5]\n", "data.background_photons must be [low, high] with 0 < low"),
        ("[data]\npsf_sigma_nm = [0, 0]\n", "data.psf_sigma_nm must be [low, high] with 0 < low"),
        ("[data]\nfilament_share = 0.9\nring_share = 0.9\n", "must sum to at most 1, got 1.8"),
        ("[training]\nlearning_rate = inf\n", "learning_rate"),
        ("[training]\nseed = 100000000000000000000\n", "seed"),
        ("[model]\narchitecture = 'deepstorm'\n[training]\npatience = 3\n", "training.patience needs validations"),
        (
            "[data]\npixel_size_nm = 160\n[model]\npixel_sizes_nm = [85, 120]\n",
            "model.pixel_sizes_nm must contain data.pixel_size_nm, which is 160, got [85.0, 120.0]",
        ),
        ("[model]\ncontext = 1\n", "model.context needs frames with neighbours: give data.on_frames"),
        ("[model]\ncontext = 2\n", "context"),
        ("[data]\non_frames = [0, 2]\n", "data.on_frames must be [low, high] with 0 < low"),
        ("[model]\narchitecture = 'deepstorm'\n[data]\non_frames = [1, 2]\n", "is for the architecture livenet"),
        ("[data\n", "no valid TOML"),
        ("[model]\narchitecture = 'unet'\n", "unet"),
    ],
)
def test_a_bad_recipe_says_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError) as error:
        read_recipe(recipe_file(tmp_path, text))
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_training_learns_and_leaves_weights_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_CARD_DENSITIES", (1.0,))  # all of them take longer than the training
    recipe = read_recipe(recipe_file(tmp_path, TINY.format(architecture="livenet", steps=120)))
    seen: list[Progress] = []
    path = tmp_path / "tiny.safetensors"
    card = train(recipe, path, torch.device("cpu"), seen.append)
    assert [p.step for p in seen] == list(range(1, 121))
    first, last = (sum(p.loss for p in part) / 20 for part in (seen[:20], seen[-20:]))
    assert last < first - 1
    assert sum(p.validation is not None for p in seen) == 3
    assert all(p.data_s > 0 and p.network_s > 0 for p in seen)
    network, loaded = load_model(path, torch.device("cpu"))
    assert isinstance(network, LiveNet)
    assert loaded.trained == card.trained
    assert loaded.training["data"]["photons"] == [3000, 4000]
    assert len(file_sha256(path)) == 64


def test_a_network_with_context_starts_from_one_without_and_is_judged_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "_CARD_DENSITIES", (1.0,))
    monkeypatch.setattr(validation, "_CARD_FRAMES", 2)
    monkeypatch.setattr(loop, "write_report", lambda *_: None)
    alone, wide = tmp_path / "alone.safetensors", tmp_path / "wide.safetensors"
    save_model(alone, LiveNet(width=16), livenet_card(16))
    text = TINY.format(architecture="livenet", steps=2).replace("[data]", "context = 1\n[data]\non_frames = [1, 3]")
    card = train(read_recipe(recipe_file(tmp_path, text)), wide, torch.device("cpu"), start_from=alone)
    network, loaded = load_model(wide, torch.device("cpu"))
    assert isinstance(network, LiveNet)
    assert (network.context, loaded.context, read_card(alone).context) == (1, 1, 0)
    assert network.enter[0].weight[:, :2].any()  # type: ignore[index]
    own, beside = (name for name in card.metrics if name.endswith("tolerance 100 nm"))
    assert "emitters on for 2 frames on average" in own
    assert "each seen alone, by the model that it was started from" in beside
    assert "0 for one that is absent" in card.normalisation


def test_the_original_network_trains_in_the_same_loop(tmp_path: Path) -> None:
    text = TINY.format(architecture="deepstorm", steps=3).replace("batch = 4", "batch = 2")
    path = tmp_path / "original.safetensors"
    train(read_recipe(recipe_file(tmp_path, text)), path, torch.device("cpu"))
    network, card = load_model(path, torch.device("cpu"))
    assert card.architecture == "deepstorm"
    # Its scaling constants are those of this training set, not of the authors'.
    assert network.mean.item() != pytest.approx(0.19608, abs=1e-4)  # type: ignore[union-attr, operator]


def test_files_that_are_no_model_are_refused_in_one_line(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"\x80\x04pickle")
    pickle = tmp_path / "pickle.safetensors"
    torch.save({"a": torch.zeros(1)}, pickle)
    strange = tmp_path / "strange.safetensors"
    save_model(strange, LiveNet(width=8), livenet_card(16))
    for path in (garbage, pickle, tmp_path / "missing.safetensors"):
        with pytest.raises(InputError, match=path.name):
            read_card(path)
    with pytest.raises(InputError, match="do not fit"):
        load_model(strange, torch.device("cpu"))
    with pytest.raises(InputError, match="livenet"):
        find_model("livnet")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"upsampling": 8},
        {"pixel_size_nm": 100.0},
        {"pixel_size_nm": "100", "upsampling": 8},
        {"pixel_size_nm": 100.0, "upsampling": 0},
    ],
    ids=str,
)
def test_a_card_without_pixel_size_or_upsampling_is_refused(tmp_path: Path, arguments: dict[str, object]) -> None:
    path = tmp_path / "model.safetensors"
    card = ModelCard(
        name="x", architecture="livenet", arguments=arguments, normalisation="", training={}, trained={}, metrics={}
    )
    save_model(path, LiveNet(width=8), card)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match=r"model\.safetensors lacks a pixel size or an upsampling"):
        read_card(path)


def test_weights_that_cannot_be_written_leave_those_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"before")

    def full(part: Path, data: bytes) -> int:
        part.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    card = ModelCard(
        name="x", architecture="livenet", arguments={}, normalisation="", training={}, trained={}, metrics={}
    )
    with pytest.raises(InputError, match=r"cannot write .*model\.safetensors: No space left"):
        save_model(path, LiveNet(width=8), card)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"before"


def test_ctrl_c_keeps_what_was_learnt(tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file(tmp_path, TINY.format(architecture="deepstorm", steps=500)))

    def interrupt(progress: Progress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    path = tmp_path / "early.safetensors"
    assert train(recipe, path, torch.device("cpu"), interrupt).trained["steps"] == 2
    assert read_card(path).trained["steps"] == 2
