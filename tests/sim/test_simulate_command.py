"""``stormlive simulate --scene``; the other options' tests are those of the command line."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stormlive.cli.app import run
from stormlive_sim.movie import Scene
from stormlive_sim.scene_file import SceneFile, find_scene
from stormlive_sim.structure_kinds import STRUCTURES
from stormlive_sim.thunderstorm import read_table

SCENE = """
movie = {frames = 4, size = [40, 24], exposure_ms = 20}
optics = {pixel_size_nm = 110}
drift = {x_nm_per_s = 1000}
[structure]
kind = "bundles"
[camera]
kind = "emccd"
baseline_adu = 200
em_gain = 300
[camera.pixels]
dark_e_per_s = 0.1
"""


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(SCENE)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[Scene]:
    made: list[Scene] = []
    begin = Scene.__init__

    def watched(scene: Scene, settings: object) -> None:
        begin(scene, settings)  # type: ignore[arg-type]
        made.append(scene)

    monkeypatch.setattr(Scene, "__init__", watched)
    return made


def simulate(*arguments: str) -> int:
    return run(["simulate", "-o", "m.tif", "--truth", "t.csv", *arguments])


def test_everything_that_is_not_given_comes_from_the_scene(simulated: list[Scene]) -> None:
    assert simulate("--scene", "s.toml", "--drift-table", "d.csv") == 0
    with tifffile.TiffFile("m.tif") as tiff:
        assert len(tiff.pages) == 4
        assert tiff.asarray().shape == (4, 24, 40)
    assert np.loadtxt("d.csv", delimiter=",", skiprows=1)[:, 1] == pytest.approx([10, 30, 50, 70])
    assert read_table(Path("t.csv")).frame.max() <= 3
    settings = simulated[0].settings
    assert (settings.pixel_size_nm, settings.sensor.baseline_adu, settings.sensor.em_gain) == (110, 200, 300)
    assert settings.structure == (STRUCTURES["bundles"](),)


def test_options_overrule_the_scene_and_leave_the_rest(simulated: list[Scene]) -> None:
    options = ["--frames", "2", "--size", "32x16", "--camera", "scmos", "--structure", "uniform", "--photons", "900"]
    assert simulate("--scene", "s.toml", *options, "--baseline-adu", "100") == 0
    settings = simulated[0].settings
    assert tifffile.imread("m.tif").shape == (2, 16, 32)
    assert settings.blinking.photons_per_ms == pytest.approx(45)
    assert settings.structure == (STRUCTURES["uniform"](),)
    # 100 is also the option's default: it counts because it was given.
    assert (settings.sensor.baseline_adu, settings.sensor.em_gain, settings.sensor.read_noise_e) == (100, 1, 1.5)
    assert settings.pixels.dark_e_per_s == 0.1
    assert settings.drift.x_nm_per_s == 1000


def test_without_a_scene_the_options_defaults_are_the_plain_scene(simulated: list[Scene]) -> None:
    assert simulate("--frames", "2") == 0
    assert simulated[0].settings == SceneFile().settings()


@pytest.mark.parametrize("kind", list(STRUCTURES))
def test_structures_by_name(simulated: list[Scene], kind: str) -> None:
    assert simulate("--frames", "1", "--structure", kind) == 0
    assert simulated[0].settings.structure == (STRUCTURES[kind](),)


def test_the_scene_that_ships_goes_by_its_name(simulated: list[Scene]) -> None:
    assert simulate("--scene", "everything", "--frames", "2") == 0
    content = tomllib.loads(find_scene("everything").read_text(encoding="utf-8"))
    assert simulated[0].settings.drift.x_nm_per_s == content["drift"]["x_nm_per_s"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scene", "nowhere.toml"], "nowhere.toml"),
        (["--scene", "everthing"], "everything"),
        (["--scene", "bad.toml"], "did you mean 'frames'"),
        (["--drift-table", "t.csv"], "names of their own"),
        (["--structure", "rings", "--density", "50"], "less density"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    Path("bad.toml").write_text("movie = {frame = 3}")
    assert simulate(*arguments) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert sorted(path.name for path in Path().iterdir()) == ["bad.toml", "s.toml"]
