import math
import tomllib
from pathlib import Path

import msgspec
import pytest

from stormlive_sim import structures
from stormlive_sim.errors import InputError
from stormlive_sim.movie import Scene, SceneSettings
from stormlive_sim.scene_file import CAMERAS, SceneFile, Scmos, find_scene, read_scene
from stormlive_sim.structure_kinds import STRUCTURES, Rings, Uniform

EVERYTHING = find_scene("everything")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scene.toml"
    path.write_text(text, encoding="utf-8")
    return path


def knobs(part: object) -> set[str]:
    """Dotted names of all values in a nest of dicts and lists."""
    if isinstance(part, list | tuple):
        return set().union(*(knobs(item) for item in part)) if any(isinstance(i, dict) for i in part) else {""}
    if not isinstance(part, dict):
        return {""}
    return {f"{key}.{inner}".rstrip(".") for key, value in part.items() for inner in knobs(value)}


def test_the_scene_that_ships_shows_every_knob_with_a_comment() -> None:
    text = EVERYTHING.read_text(encoding="utf-8")
    shown = knobs(tomllib.loads(text))
    all_kinds = SceneFile(structure=tuple(kind() for kind in STRUCTURES.values()), camera=Scmos())
    assert shown == knobs(msgspec.to_builtins(all_kinds))
    assert all(f'"{kind}"' in text for kind in STRUCTURES)
    assert "em_gain" in text
    lines = [line.split("=")[0].strip() for line in text.splitlines() if "=" in line.split("#")[0] and "#" in line]
    assert {name.split(".")[-1] for name in shown} <= set(lines)


def test_the_scene_that_ships_differs_from_plain_in_every_part() -> None:
    scene = read_scene(EVERYTHING)
    for section in ("optics", "focus", "structure", "emitters", "background", "drift", "camera"):
        assert getattr(scene, section) != getattr(SceneFile(), section)
    image, truth = next(Scene(scene.settings()).frames(1, scene.movie.exposure_ms))
    assert image.shape == (128, 128)
    assert len(truth) > 50


def test_an_empty_scene_is_the_plain_one(tmp_path: Path) -> None:
    assert read_scene(written(tmp_path, "")) == SceneFile()


def test_units_of_the_file_become_those_of_the_simulation(tmp_path: Path) -> None:
    text = """
        movie = {exposure_ms = 20, size = [40, 24]}
        emitters = {photons = 600, bleach_s = 3}
        background = {photons = 10, haze_photons = 4}
        [structure]
        kind = "rings"
        corners = 6
        [camera]
        kind = "emccd"
        em_gain = 50
        qe = 0.9
        photons_per_adu = 0.2
    """
    settings = read_scene(written(tmp_path, text)).settings()
    assert settings.shape == (24, 40)
    assert settings.blinking.photons_per_ms == pytest.approx(30)
    assert settings.blinking.on_ms == pytest.approx(26)
    assert settings.blinking.bleach_ms == pytest.approx(3000)
    assert settings.background_photons_per_ms == pytest.approx(0.5)
    assert settings.haze_photons_per_ms == pytest.approx(0.2)
    assert settings.structure == (Rings(corners=6),)
    assert settings.sensor.photons_per_adu == pytest.approx(0.2)
    assert settings.sensor.electrons_per_adu == pytest.approx(0.2 * 50 * 0.9)


@pytest.mark.parametrize("name", list(CAMERAS))
def test_the_calibration_is_the_one_that_is_stated(tmp_path: Path, name: str) -> None:
    text = f'camera = {{kind = "{name}", photons_per_adu = 0.3, qe = 0.7}}'
    assert read_scene(written(tmp_path, text)).settings().sensor.photons_per_adu == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[optics]\npsf_sgma_nm = 100", "'optics.psf_sgma_nm'; did you mean 'psf_sigma_nm'"),
        ("[optic]\n", "did you mean 'optics'"),
        ("structure = 'ring'", "structure.kind is ring; did you mean 'rings'"),
        ("structure = 3", "structure"),
        ("[[structure]]\nkind = 'ring'", "structure.kind is ring; did you mean 'rings'"),
        ("[[structure]]\nkind = 'rings'\nstrands = 3", "structure.strands"),
        ("[[structure]]\nkind = ['rings']", "structure.kind"),
        ("[camera]\nqe = 0.8", "camera.kind is missing; valid keys: emccd, scmos"),
        ("[camera]\nkind = 'scmos'\nem_gain = 100", "camera.em_gain"),
        ("[camera]\nkind = 'emccd'\n[camera.pixels]\nhotshare = 1", "did you mean 'hot_share'"),
        ("[optics]\npixel_size_nm = nan", "optics.pixel_size_nm"),
        ("[emitters]\nphotons = inf", "emitters.photons"),
        ("[emitters]\nbleach_s = nan", "emitters.bleach_s"),
        ("[emitters]\nbrightness = 'gaussian'", "emitters.brightness"),
        ("[drift]\nx_nm_per_s = 'fast'", "drift.x_nm_per_s"),
        ("[movie]\nframes = 0", "movie.frames"),
        ("structure = []", "structure"),
        ("[movie", "no valid TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        read_scene(written(tmp_path, text))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_scene_that_is_not_there_names_those_that_ship() -> None:
    with pytest.raises(InputError, match="everything"):
        read_scene(find_scene("everythin"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[focus]\nsample_depth_nm = 90000", "as wide as in focus"),
        ("emitters = {density_per_um2 = 5}\n[structure]\nkind = 'clusters'\nlabels = 1", "more labels or less density"),
        ("[structure]\nkind = 'rings'\ndiameter_nm = 2000", "fit into the field"),
        (
            "movie = {size = [4096, 4096]}\noptics = {pixel_size_nm = 10000}",
            "at most 30,000,000 .* choose a smaller field",
        ),
        ("movie = {size = [4096, 4096]}\n[structure]\nkind = 'rings'\nper_um2 = 1000", "at most 30,000,000"),
        ("movie = {size = [4096, 4096]}\n[structure]\nkind = 'clusters'\nlabels = 10000", "at most 30,000,000"),
        ("movie = {size = [4096, 4096]}\n[structure]\nkind = 'uniform'", "at most 30,000,000"),
    ],
)
def test_scenes_that_cannot_be(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Scene(read_scene(written(tmp_path, text)).settings())


def test_infinite_is_how_to_say_never_and_even(tmp_path: Path) -> None:
    scene = read_scene(written(tmp_path, "emitters = {bleach_s = inf}\noptics = {illumination_fwhm_um = inf}"))
    assert scene.settings().blinking.bleach_ms == math.inf
    assert scene == SceneFile()


def test_a_structure_may_be_its_name(tmp_path: Path) -> None:
    assert read_scene(written(tmp_path, "structure = 'rings'")).structure == (Rings(),)
    both = read_scene(written(tmp_path, "structure = ['rings', {kind = 'rings', corners = 9}]")).structure
    assert both == (Rings(), Rings(corners=9))


def test_the_sites_of_all_structures_together_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "_MOST_SITES", 1000)
    with pytest.raises(InputError, match="at most 1,000 label sites, got 1,"):
        Scene(SceneSettings(shape=(8, 8), structure=(Uniform(),) * 2, density_per_um2=0.1))
