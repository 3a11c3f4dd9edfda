"""``stormlive train``: what it says on the way, and that a kill costs no more than the last minutes."""

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.progress import Progress as Bar

from children import killed_at_last
from stormlive.cli.app import run
from stormlive.cli.train import _Display
from stormlive_models.checkpoint import read_card
from stormlive_models.training import loop
from stormlive_models.training.history import Progress
from stormlive_models.training.recipe import read_recipe, shipped_recipes
from stormlive_models.training.state import read_standing, state_path

RECIPE = """
name = "tiny"
[model]
width = 4
[data]
patch_px = 16
[training]
steps = {steps}
batch = 2
warmup_steps = 2
validate_every = 1000
save_minutes = 1e-6
bf16 = false
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "write_report", lambda *_: None)
    monkeypatch.setattr(loop, "card_metrics", lambda *_: {})


def train(recipe: str, *arguments: str) -> int:
    Path("recipe.toml").write_text(recipe, encoding="utf-8")
    return run(["train", "recipe.toml", "-o", "mine.safetensors", "--device", "cpu", *arguments])


def test_a_killed_training_goes_on(capsys: pytest.CaptureFixture[str], child_environment: dict[str, str]) -> None:
    output = Path("mine.safetensors")
    Path("recipe.toml").write_text(RECIPE.format(steps=30), encoding="utf-8")
    command = [sys.executable, "-m", "stormlive", "train", "recipe.toml", "-o", str(output), "--device", "cpu"]
    with killed_at_last(subprocess.Popen(command, stderr=subprocess.DEVNULL, env=child_environment)) as process:
        deadline = time.monotonic() + 60
        while not state_path(output).exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    reached = read_standing(state_path(output)).step
    assert 1 <= reached < 30
    assert not output.exists()

    # A fresh start would throw that away: it is refused, and says what to do.
    assert train(RECIPE.format(steps=30)) == 1
    assert f"was left at step {reached}; add --resume" in capsys.readouterr().err
    assert train(RECIPE.format(steps=40), "--resume") == 1
    assert "training.steps was 30, now 40" in capsys.readouterr().err

    assert train(RECIPE.format(steps=30), "--resume") == 0
    assert "all steps made: wrote mine.safetensors and mine.report.html after 30 steps" in capsys.readouterr().err
    assert read_card(output).trained["steps"] == 30
    assert sorted(path.name for path in Path().iterdir()) == ["mine.safetensors", "recipe.toml"]


def test_loss_scores_and_speed_are_told_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(RECIPE.format(steps=4).replace("= 1000", "= 2")) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert [line.split(":")[0] for line in lines if "J(" in line] == ["step 2", "step 4"]
    for line in lines[:2]:
        for word in ("loss ", " steps/s", "data ", " %", "J(1/um2) ", "J(5/um2) "):
            assert word in line


def test_resume_needs_something_to_resume(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(RECIPE.format(steps=4), "--resume") == 1
    assert "nothing to resume: mine.state does not exist" in capsys.readouterr().err


def test_what_does_not_go_together_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    epochs = '[model]\narchitecture = "deepstorm"\nupsampling = 2\n[data]\npatch_px = 32\n[epochs]\npatch_px = 16\n'
    assert train(epochs, "--resume") == 1
    assert "nothing to resume: mine.state does not exist" in capsys.readouterr().err
    assert train(epochs, "--experimental", "sparse.tif") == 1
    assert "[epochs] table takes no --experimental" in capsys.readouterr().err
    context = "[model]\ncontext = 1\n[data]\non_frames = [1, 2]\n"
    assert train(context, "--experimental", "sparse.tif") == 1
    assert "--experimental takes no recipe with data.on_frames" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_does_not_stay_in_the_mean() -> None:
    with Bar(disable=True) as bar:
        display = _Display(bar)
        shown = []
        for step, loss in enumerate((4.0, math.nan, 2.0, 2.0), 1):
            display(Progress(step=step, fraction=0.1, loss=loss))
            shown.append(bar.tasks[0].fields["now"])
    assert shown == ["loss 4.000", "loss nan", "loss 2.000", "loss 2.000"]


def test_what_a_training_starts_from_is_not_replaced_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(RECIPE.format(steps=4)) == 0
    before = Path("mine.safetensors").read_bytes()
    assert train(RECIPE.format(steps=4), "--start-from", "mine.safetensors") == 1
    assert "would replace mine.safetensors, which it starts from" in capsys.readouterr().err
    assert train(RECIPE.format(steps=4)) == 1
    assert "mine.safetensors exists already; choose another name, or add --overwrite" in capsys.readouterr().err
    assert Path("mine.safetensors").read_bytes() == before
    assert train(RECIPE.format(steps=2), "--overwrite") == 0
    assert read_card(Path("mine.safetensors")).trained["steps"] == 2


def test_a_shipped_recipe_is_shown_as_the_start_of_an_own_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "small", "--show"]) == 0
    shown = Path("mine.toml")
    shown.write_text(capsys.readouterr().out, encoding="utf-8")
    assert read_recipe(shown) == read_recipe(shipped_recipes()["small"])


def test_what_is_missing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "smal", "-o", "mine.safetensors"]) == 1
    assert "did you mean 'small'" in capsys.readouterr().err
    assert run(["train", "small"]) == 1
    assert "--output" in capsys.readouterr().err
