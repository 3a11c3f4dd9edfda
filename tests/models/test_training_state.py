"""A training that was cut off goes on as if nothing had happened, or says why it cannot."""

import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save

from stormlive_models.checkpoint import read_card
from stormlive_models.evaluate import Scores
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.training import loop
from stormlive_models.training.calibration import calibrate
from stormlive_models.training.data import sample_batch
from stormlive_models.training.history import Progress, Validation, since_best
from stormlive_models.training.recipe import DataSettings, ModelSettings, Recipe, TrainingSettings
from stormlive_models.training.source import TrainingData
from stormlive_models.training.start import begin
from stormlive_models.training.state import read_standing, state_path
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError

CPU = torch.device("cpu")
RECIPE = Recipe(
    name="tiny",
    model=ModelSettings(width=4),
    data=DataSettings(patch_px=16, density_per_um2=(1, 2)),
    training=TrainingSettings(steps=6, batch=3, warmup_steps=2, validate_every=3, bf16=False, seed=3),
)
ORIGINAL = msgspec.structs.replace(RECIPE, model=ModelSettings(architecture="deepstorm", upsampling=2))


class PowerCutError(Exception):
    """Ends a training where nobody expected it."""


def killed_after(step: int) -> Callable[[Progress], None]:
    def kill(progress: Progress) -> None:
        if progress.step == step:
            raise PowerCutError

    return kill


@pytest.fixture(autouse=True)
def _only_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "write_report", lambda *_: None)
    monkeypatch.setattr(loop, "card_metrics", lambda *_: {})


@pytest.mark.parametrize("recipe", [RECIPE, ORIGINAL], ids=lambda recipe: recipe.model.architecture)
def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path, recipe: Recipe) -> None:
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    losses: list[float] = []
    loop.train(recipe, whole, CPU, lambda progress: losses.append(progress.loss))
    again: list[float] = []
    with pytest.raises(PowerCutError):
        loop.train(recipe, cut, CPU, killed_after(5))
    # The step after the last state is made once more.
    loop.train(recipe, cut, CPU, lambda progress: again.append(progress.loss), resume=True)
    assert again == losses[3:]
    expected, got = load_file(whole), load_file(cut)
    assert expected.keys() == got.keys()
    for name, weights in expected.items():
        assert torch.equal(weights, got[name]), name
    assert read_card(cut).trained["steps"] == 6


def test_the_time_used_and_the_history_go_on(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(PowerCutError):
        loop.train(RECIPE, path, CPU, killed_after(3))
    left = read_standing(state_path(path))
    assert left.step == 3
    assert 0 < left.data_seconds < left.seconds
    assert [validation.step for validation in left.validations] == [3]
    run = begin(RECIPE, CPU, state=state_path(path))
    assert len(run.losses) == 3
    assert (run.seconds, run.begun, run.validations) == (left.seconds, left.begun, left.validations)
    assert run.fraction == 0.5


def test_a_state_is_written_between_validations_too(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    often = msgspec.structs.replace(RECIPE.training, save_minutes=1e-9)
    with pytest.raises(PowerCutError):
        loop.train(msgspec.structs.replace(RECIPE, training=often), path, CPU, killed_after(2))
    assert read_standing(state_path(path)).step == 2


def test_the_state_goes_when_the_training_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    card = loop.train(RECIPE, path, CPU)
    assert card.trained["ended"] == "all steps made"
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_leaves_a_training_that_can_go_on(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    path = tmp_path / "x.safetensors"
    assert loop.train(RECIPE, path, CPU, interrupt).trained["ended"] == "by hand"
    assert loop.train(RECIPE, path, CPU, resume=True).trained["steps"] == 6
    assert not state_path(path).exists()


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    path = tmp_path / "cut.safetensors"
    with pytest.raises(PowerCutError):
        loop.train(RECIPE, path, CPU, killed_after(3))
    return path


def test_nothing_is_overwritten_by_a_fresh_start(cut: Path) -> None:
    before = state_path(cut).read_bytes()
    with pytest.raises(InputError, match=r"cut\.state is an unfinished training .*step 3; add --resume .*or delete"):
        loop.train(RECIPE, cut, CPU)
    assert state_path(cut).read_bytes() == before


def test_another_training_cannot_go_on_from_it(cut: Path) -> None:
    other = msgspec.structs.replace(RECIPE, training=msgspec.structs.replace(RECIPE.training, batch=4))
    with pytest.raises(InputError, match=r"another recipe \(training\.batch was 3, now 4\)"):
        loop.train(other, cut, CPU, resume=True)
    with pytest.raises(InputError, match=r"other data .*\(experimental was None, now 'dots'\)"):
        loop.train(RECIPE, cut, CPU, source=TrainingData(origin={"experimental": "dots"}), resume=True)


def test_a_missing_or_damaged_state_is_one_line(cut: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing to resume: .*other\.state does not exist"):
        loop.train(RECIPE, tmp_path / "other.safetensors", CPU, resume=True)
    state = state_path(cut)
    whole = state.read_bytes()
    for damaged in (b"", b"\x80\x04pickle", whole[: len(whole) // 2], cut.read_bytes()):
        state.write_bytes(damaged)
        with pytest.raises(InputError, match=r"cut\.state is no state .*delete it") as error:
            loop.train(RECIPE, cut, CPU, resume=True)
        assert "\n" not in str(error.value)
        with pytest.raises(InputError, match=r"cannot be read; add --resume"):
            loop.train(RECIPE, cut, CPU)


def test_a_state_with_parts_of_another_kind_is_one_line(cut: Path) -> None:
    state = state_path(cut)
    with safe_open(state, framework="pt") as file:
        metadata = file.metadata()
    whole = load(state.read_bytes())
    for changed in ({"moments.0.x/exp_avg": torch.zeros(1)}, {"generator": torch.zeros(5000)}):
        state.write_bytes(save({**whole, **changed}, metadata))
        with pytest.raises(InputError, match=r"cut\.state is no state .*delete it"):
            loop.train(RECIPE, cut, CPU, resume=True)


def test_what_goes_on_is_in_memory_and_not_in_the_file(cut: Path) -> None:
    # Windows replaces no file of which a part is still mapped; here, what is mapped changes with the file.
    state = state_path(cut)
    run = begin(RECIPE, CPU, state=state)
    with state.open("r+b") as file:
        file.write(bytes(state.stat().st_size))
    moments = [value for part in run.optimizer.state_dict() for own in part["state"].values() for value in own.values()]
    assert moments
    assert all(value.any() for value in moments)


def scores(jaccard: float) -> dict[str, Scores]:
    return {"1/um2": Scores(**dict.fromkeys(Scores.__dataclass_fields__, 1) | {"jaccard": jaccard})}


def test_a_training_that_gets_no_better_ends_with_its_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = iter([0.2, 0.5, 0.4, 0.45, 0.9])
    monkeypatch.setattr(loop, "validate", lambda *_, **__: scores(next(course)))
    path = tmp_path / "x.safetensors"
    training = msgspec.structs.replace(RECIPE.training, validate_every=1, patience=2)
    recipe = msgspec.structs.replace(RECIPE, training=training)
    weights = {}

    def keep(progress: Progress) -> None:
        weights[progress.step] = load_file(path)["head.2.bias"]
        if progress.step == 3:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        loop.train(recipe, path, CPU, keep)
    # The best weights survive the kill as well.
    card = loop.train(recipe, path, CPU, resume=True)
    assert card.trained["ended"] == "no better in 2 validations"
    assert card.trained["steps"] == 4
    assert torch.equal(load_file(path)["head.2.bias"], weights[2])
    assert not torch.equal(weights[2], weights[3])


def test_how_long_ago_the_best_validation_was() -> None:
    def validations(*jaccard: float) -> list[Validation]:
        return [Validation(step=i, scores=scores(value)) for i, value in enumerate(jaccard)]

    assert since_best([]) == 0
    assert since_best(validations(0.1, 0.2)) == 0
    assert since_best(validations(0.3, 0.2, 0.1)) == 2
    assert since_best(validations(0.3, 0.2, 0.3)) == 2
    assert since_best(validations(0.3, float("nan"))) == 1
    assert since_best(validations(float("nan"), 0.2, 0.1)) == 1


@pytest.mark.parametrize("recipe", [RECIPE, ORIGINAL], ids=lambda recipe: recipe.model.architecture)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_frame_that_is_not_finite_changes_nothing(recipe: Recipe, bad: float) -> None:
    run = begin(recipe, CPU)
    photons, truth = TrainingData().sample(recipe.data, 3, run.generator)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    spoilt = photons.clone()
    spoilt[1, 3, 4] = bad
    assert not math.isfinite(loop.learn(run, spoilt, truth))
    after = run.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert math.isfinite(loop.learn(run, photons, truth))


def test_the_average_waits_for_the_device_once_not_for_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(RECIPE, CPU)
    weight = run.average.module.head[2].bias
    first = weight.detach().clone()
    run.average.update_parameters(run.network)
    with torch.no_grad():
        run.network.head[2].bias += 11
    waits, real = [], torch.Tensor.__float__
    monkeypatch.setattr(torch.Tensor, "__float__", lambda tensor: waits.append(1) or real(tensor))
    run.average.update_parameters(run.network)
    assert len(waits) == 1
    # The second of few: 2/11 of the average are kept.
    assert torch.allclose(weight, first + 9)


def test_large_frames_are_fewer_in_a_sample() -> None:
    asked = []

    def sample(data: DataSettings, n: int, generator: torch.Generator) -> tuple[torch.Tensor, Emitters]:
        asked.append(n)
        return sample_batch(msgspec.structs.replace(data, patch_px=16), 1, generator)

    for patch_px in (16, 64, 128, 256):
        begin(msgspec.structs.replace(RECIPE, data=DataSettings(patch_px=patch_px)), CPU, TrainingData(sample=sample))
        with torch.no_grad():
            calibrate(LiveNet(width=4), DataSettings(patch_px=patch_px), sample, torch.Generator().manual_seed(0))
    assert asked == [256, 256, 256, 256, 64, 64, 16, 16]
