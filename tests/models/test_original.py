import logging
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from stormlive_models.checkpoint import ModelCard, load_model, read_card, save_model
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training import original
from stormlive_models.training.history import Progress
from stormlive_models.training.original import train_original, validation_loss
from stormlive_models.training.patches import Patches, cut_patches
from stormlive_models.training.recipe import EpochSettings, Recipe, TrainingSettings, read_recipe
from stormlive_models.training.state import read_standing, state_path
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError
from stormlive_sim.psf import render_gaussians

CPU = torch.device("cpu")
RECIPE = Path(read_recipe.__code__.co_filename).parent / "recipes" / "deepstorm2018.toml"


@pytest.fixture(autouse=True)
def _no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(original, "write_report", lambda *_: None)


def tiny(epochs: dict[str, object] | None = None, training: dict[str, object] | None = None) -> Recipe:
    """Return the recipe of 2018 on a few small patches."""
    recipe = read_recipe(RECIPE)
    return msgspec.structs.replace(
        recipe,
        model=msgspec.structs.replace(recipe.model, upsampling=2),
        data=msgspec.structs.replace(recipe.data, patch_px=32, density_per_um2=(12.0, 12.0)),
        epochs=EpochSettings(**{"frames": 2, "patches": 20, "patch_px": 10, "count": 3, **(epochs or {})}),  # type: ignore[arg-type]
        training=TrainingSettings(
            **{"batch": 4, "learning_rate": 1e-3, "bf16": False, "save_minutes": 1e3, **(training or {})}  # type: ignore[arg-type]
        ),
    )


def cut(recipe: Recipe, seed: int = 0) -> tuple[Patches, Patches]:
    assert recipe.epochs is not None
    return cut_patches(recipe.data, recipe.epochs, torch.Generator().manual_seed(seed))


class Script:
    """Validation losses as a test wants them; keeps the weights that each was asked for."""

    def __init__(self, losses: list[float]) -> None:
        self.losses, self.weights = iter(losses), list[dict[str, Tensor]]()

    def __call__(self, network: DeepStorm, patches: Patches, batch: int, *, bf16: bool) -> float:
        self.weights.append({name: value.clone() for name, value in network.state_dict().items()})
        return next(self.losses)


def test_the_recipe_is_that_of_2018() -> None:
    recipe = read_recipe(RECIPE)
    training, held_out = cut(recipe)
    assert (len(training), len(held_out), len(training) // recipe.training.batch) == (7000, 3000, 437)
    assert training.photons()[:1].shape == (1, 26, 26)
    assert recipe.epochs == EpochSettings()
    # The authors' own set, 20 frames that this one is to be like: 6.05 emitters/µm², and these two constants.
    assert len(training.emitters) / (20 * 6.4**2) == pytest.approx(6.05, rel=0.05)
    assert training.emitters.photons.min() >= 2000
    network = DeepStorm()
    mean, std = network.mean.item(), network.std.item()
    network.calibrate(training.photons())
    assert network.mean.item() == pytest.approx(mean, rel=0.1)
    assert network.std.item() == pytest.approx(std, rel=0.1)


def test_patches_are_split_without_overlap_and_are_not_poor() -> None:
    recipe = tiny({"patches": 400, "least_emitters": 13})
    training, held_out = cut(recipe)
    both = torch.cat((training.count_emitters(), held_out.count_emitters()))
    assert 100 < len(both) < 300  # a mean of 12 emitters: some are poorer, some are not
    assert both.min() == 13
    assert len(held_out) == round(0.3 * len(both))
    # All places differ in a larger set of frames; then no patch may be on both sides.
    training, held_out = cut(tiny({"patches": 60, "frames": 60}))
    sides = [{tuple(corner) for corner in side.corners.tolist()} for side in (training, held_out)]
    assert len(sides[0]) == len(training)
    assert not sides[0] & sides[1]


def test_patches_are_registered_to_their_emitters() -> None:
    training, _ = cut(tiny())
    photons, truth = training.photons(), training.truth()
    assert torch.equal(truth.frame.bincount(minlength=len(training)), training.count_emitters())
    for position in (truth.x_nm, truth.y_nm):
        assert position.min() >= 0
        assert position.max() < 1000

    def likeness(shift_nm: float) -> float:
        drawn = torch.zeros_like(photons)
        x_px, y_px = (truth.x_nm + shift_nm) / 100, (truth.y_nm - shift_nm) / 100
        render_gaussians(drawn, truth.frame, x_px, y_px, truth.photons, torch.tensor(1.1), radius=5)
        inner = torch.stack((drawn, photons))[:, :, 3:-3, 3:-3].flatten(1)
        return torch.corrcoef(inner)[0, 1].item()

    assert likeness(0) > 0.8
    assert likeness(0) > max(likeness(-30), likeness(30))


def test_it_learns_and_leaves_the_constants_of_its_training_set(tmp_path: Path) -> None:
    recipe = tiny({"count": 8})
    seen: list[Progress] = []
    path = tmp_path / "original.safetensors"
    card = train_original(recipe, path, CPU, seen.append)
    training, held_out = cut(recipe, recipe.training.seed)
    steps = len(training) // 4
    assert [p.step for p in seen] == list(range(1, 8 * steps + 1))
    assert seen[-1].fraction == pytest.approx(1, abs=0.2)
    assert sum(p.loss for p in seen[-steps:]) < 0.8 * sum(p.loss for p in seen[:steps])
    network, loaded = load_model(path, CPU)
    assert isinstance(network, DeepStorm)
    assert loaded == read_card(path) == msgspec.structs.replace(card, training=loaded.training)
    photons = training.photons()
    low, high = photons.amin((1, 2), keepdim=True), photons.amax((1, 2), keepdim=True)
    scaled = (photons - low) / (high - low)
    assert network.mean.item() == pytest.approx(scaled.mean().item(), rel=1e-5)
    assert network.std.item() == pytest.approx(scaled.flatten(1).std(1, correction=0).mean().item(), rel=1e-5)
    # The figure in the card is that of the weights in the file.
    assert validation_loss(network, held_out, 4, bf16=False) == pytest.approx(card.trained["validation_loss"], rel=1e-4)


def test_the_rate_falls_after_epochs_without_progress_and_stops_at_the_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # The third loss is less than 1e-4 better: no progress.
    monkeypatch.setattr(original, "validation_loss", Script([1, 0.5, 0.49995, 0.6, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5]))
    recipe = tiny({"patches": 6, "count": 10, "patience": 2}, {"batch": 8})
    with caplog.at_level(logging.INFO, logger=original.__name__):
        train_original(recipe, tmp_path / "original.safetensors", CPU)
    rates = [record.args[3] for record in caplog.records if isinstance(record.args, tuple)]
    assert rates == pytest.approx([1e-3] * 4 + [1e-4] * 3 + [5e-5] * 3)


def test_the_best_epoch_is_kept_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([3.0, 1.0, 2.0])
    monkeypatch.setattr(original, "validation_loss", script)
    path = tmp_path / "original.safetensors"
    card = train_original(tiny(), path, CPU)
    assert (card.trained["epochs"], card.trained["validation_loss"]) == (2, 1.0)
    network, loaded = load_model(path, CPU)
    assert loaded.trained == card.trained
    kept = network.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in script.weights[1].items())
    assert not torch.equal(kept["layers.0.0.weight"], script.weights[2]["layers.0.0.weight"])


def test_the_minutes_end_it_and_what_was_learnt_is_validated(tmp_path: Path) -> None:
    card = train_original(tiny(training={"max_minutes": 1e-6}), tmp_path / "original.safetensors", CPU)
    assert card.trained["steps"] == 1
    assert 0 < card.trained["epochs"] < 1
    assert card.trained["validation_loss"] > 0


def test_a_kill_in_the_first_epoch_leaves_weights_that_say_so(tmp_path: Path) -> None:
    path = tmp_path / "original.safetensors"

    def look(progress: Progress) -> None:
        # After the step's own save: what a kill in the second step would leave.
        if progress.step == 2:
            card = read_card(path)
            assert card.trained["steps"] == 1
            assert card.trained["validation_loss"] is None
            raise ProcessLookupError

    with pytest.raises(ProcessLookupError):
        train_original(tiny(training={"save_minutes": 1e-6}), path, CPU, look)
    assert load_model(path, CPU)[1].trained["steps"] == 1


@pytest.mark.parametrize(("stop_at", "steps", "validation"), [(2, 2, None), (5, 3, 1.0)])
def test_ctrl_c_keeps_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int, steps: int, validation: float | None
) -> None:
    monkeypatch.setattr(original, "validation_loss", Script([1.0, 2.0]))

    def interrupt(progress: Progress) -> None:
        if progress.step == stop_at:
            raise KeyboardInterrupt

    path = tmp_path / "original.safetensors"
    card = train_original(tiny(), path, CPU, interrupt)
    assert (card.trained["steps"], card.trained["validation_loss"]) == (steps, validation)
    assert read_card(path).trained == card.trained


def test_it_starts_from_a_model_with_its_constants(tmp_path: Path) -> None:
    begin, path = tmp_path / "begin.safetensors", tmp_path / "original.safetensors"
    first = train_original(tiny({"count": 1}), begin, CPU)
    recipe = tiny({"count": 1}, {"learning_rate": 1e-9, "seed": 5})
    card = train_original(recipe, path, CPU, start_from=begin)
    assert card.trained["started_from"] == first.name
    before, after = load_model(begin, CPU)[0].state_dict(), load_model(path, CPU)[0].state_dict()
    assert torch.allclose(before["layers.0.0.weight"], after["layers.0.0.weight"], atol=1e-6)
    assert torch.equal(before["mean"], after["mean"])


def test_what_cannot_be_trained_is_refused_in_one_line(tmp_path: Path) -> None:
    path, other = tmp_path / "original.safetensors", tmp_path / "livenet.safetensors"
    card = ModelCard(
        name="other",
        architecture="livenet",
        arguments={"pixel_size_nm": 100.0, "upsampling": 8, "width": 8},
        normalisation="",
        training={},
        trained={},
        metrics={},
    )
    save_model(other, LiveNet(width=8), card)
    with pytest.raises(InputError, match="the model other to start from architecture livenet"):
        train_original(tiny(), path, CPU, start_from=other)
    with pytest.raises(InputError, match="got deepstorm without"):
        train_original(msgspec.structs.replace(tiny(), epochs=None), path, CPU)
    with pytest.raises(InputError, match="do not fit frames of 32 px"):
        train_original(tiny({"patch_px": 33}), path, CPU)
    with pytest.raises(InputError, match="0 of 20 patches have at least 500 emitters"):
        train_original(tiny({"least_emitters": 500}), path, CPU)
    assert not path.exists()


def test_a_recipe_with_epochs_is_told_from_one_without(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('[model]\narchitecture = "deepstorm"\n[epochs]\ncount = 2\n', encoding="utf-8")
    assert read_recipe(path).epochs == EpochSettings(count=2)
    assert read_recipe(RECIPE.with_name("livenet.toml")).epochs is None
    path.write_text("[epochs]\npatiens = 2\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"unknown key 'epochs\.patiens'; did you mean 'patience'"):
        read_recipe(path)


class Losses:
    """Lets the network's loss be what a test wants from a step on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bad: float, first_bad: int) -> None:
        self.steps = 0
        real = DeepStorm.loss

        def loss(network: DeepStorm, photons: Tensor, truth: Emitters) -> Tensor:
            self.steps += network.training
            return real(network, photons, truth) * (bad if self.steps >= first_bad else 1.0)

        monkeypatch.setattr(DeepStorm, "loss", loss)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_it_and_keeps_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    recipe, path = tiny(), tmp_path / "original.safetensors"
    steps = len(cut(recipe, recipe.training.seed)[0]) // 4
    Losses(monkeypatch, bad, first_bad=steps + 2)
    seen: list[Progress] = []
    said = rf"finite loss, got {bad} .*original\.safetensors holds the weights of the best epoch"
    with pytest.raises(InputError, match=said) as error:
        train_original(recipe, path, CPU, seen.append)
    assert "\n" not in str(error.value)
    assert [p.step for p in seen] == list(range(1, steps + 2))
    network, card = load_model(path, CPU)
    assert card.trained["epochs"] == 1
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_a_validation_that_is_not_finite_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(original, "validation_loss", Script([float("nan")]))
    path = tmp_path / "original.safetensors"
    with pytest.raises(InputError, match="finite validation loss, got nan"):
        train_original(tiny(), path, CPU)
    assert not path.exists()


class PowerCutError(Exception):
    """Ends a training where nobody expected it."""


@pytest.mark.parametrize("where", ["in an epoch", "before a validation"])
def test_a_resumed_training_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    # The rate falls twice on the way, which must not be forgotten either.
    whole_recipe, recipe = tiny({"patience": 1}), tiny({"patience": 1}, {"save_minutes": 1e-9})
    losses, script = list[float](), [1.0, 2.0, 3.0]
    monkeypatch.setattr(original, "validation_loss", Script(script))
    with caplog.at_level(logging.INFO, logger=original.__name__):
        whole = train_original(whole_recipe, tmp_path / "whole.safetensors", CPU, lambda p: losses.append(p.loss))
    logged = [record.getMessage() for record in caplog.records]
    assert len(losses) == 9

    path = tmp_path / "cut.safetensors"
    cut_at, made = (5, 4) if where == "in an epoch" else (9, 6)

    def kill(progress: Progress) -> None:
        if progress.step == cut_at:
            raise PowerCutError

    def fail(*_: object, **__: object) -> float:
        if len(script) == 2:
            raise PowerCutError
        return script.pop(0)

    monkeypatch.setattr(original, "validation_loss", fail if where == "before a validation" else Script(script))
    with pytest.raises(PowerCutError):
        train_original(recipe, path, CPU, kill)
    assert read_standing(state_path(path)).step == made
    with pytest.raises(InputError, match=rf"cut\.state is an unfinished training .*step {made}; add --resume"):
        train_original(recipe, path, CPU)
    done = len(read_standing(state_path(path)).epochs)
    monkeypatch.setattr(original, "validation_loss", Script([1.0, 2.0, 3.0][done:]))
    again: list[float] = []
    caplog.clear()
    with caplog.at_level(logging.INFO, logger=original.__name__):
        card = train_original(recipe, path, CPU, lambda p: again.append(p.loss), resume=True)
    assert again == losses[made:]
    assert [record.getMessage() for record in caplog.records][1:] == logged[done:]
    expected, got = load_file(tmp_path / "whole.safetensors"), load_file(path)
    assert expected.keys() == got.keys()
    assert all(torch.equal(weights, got[name]) for name, weights in expected.items())
    for key in ("steps", "epochs", "validation_loss", "ended"):
        assert card.trained[key] == whole.trained[key]
    assert card.trained["ended"] == "all epochs made"
    assert not state_path(path).exists()


def test_another_training_in_epochs_cannot_go_on_from_it(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"

    def interrupt(progress: Progress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    # Ctrl-C leaves a training that can go on.
    assert train_original(tiny(), path, CPU, interrupt).trained["ended"] == "by hand"
    with pytest.raises(InputError, match=r"another recipe \(epochs\.count was 3, now 4\)"):
        train_original(tiny({"count": 4}), path, CPU, resume=True)
    with pytest.raises(InputError, match="nothing to resume"):
        train_original(tiny(), tmp_path / "other.safetensors", CPU, resume=True)
