from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stormlive_sim.blinking import Blinking, BlinkingSample
from stormlive_sim.errors import InputError
from stormlive_sim.movie import Scene, SceneSettings
from stormlive_sim.structures import filaments, uniform
from stormlive_sim.thunderstorm import read_table, write_table


def sample(**kinetics: float) -> BlinkingSample:
    sites = uniform(5000, (6400.0, 6400.0), torch.Generator().manual_seed(0))
    return BlinkingSample(sites, Blinking(**{"off_ms": 4000.0, **kinetics}), seed=1)


def test_photons_of_two_frames_are_those_of_one_of_twice_the_length() -> None:
    blinking = sample()
    for start in (0.0, 29_970.0, 60_000.0):  # also across the seam between two blocks of the random process
        long = blinking.emitters(start, start + 60, 0).photons.sum()
        short = blinking.emitters(start, start + 30, 0).photons.sum()
        short = short + blinking.emitters(start + 30, start + 60, 1).photons.sum()
        assert short.item() == pytest.approx(long.item(), rel=1e-4)


def test_any_order_of_frames_gives_the_same_frames() -> None:
    forward, backward = sample(), sample()
    numbers = [0, 5, 3000, 1, 999]
    a = {n: forward.emitters(n * 30, n * 30 + 30, n) for n in numbers}
    b = {n: backward.emitters(n * 30, n * 30 + 30, n) for n in reversed(numbers)}
    assert all(torch.equal(a[n].photons, b[n].photons) and torch.equal(a[n].x_nm, b[n].x_nm) for n in numbers)


def test_mean_photons_are_rate_times_duty() -> None:
    blinking = sample(on_ms=40.0, off_ms=3960.0, photons_per_ms=50.0)
    seconds = 100
    photons = sum(blinking.emitters(t * 1000, t * 1000 + 1000, t).photons.sum().item() for t in range(1, seconds + 1))
    assert photons == pytest.approx(5000 * seconds * 1000 * 0.01 * 50, rel=0.02)


def test_bleaching_dims_the_sample() -> None:
    blinking = sample(bleach_ms=30_000.0)
    early = blinking.emitters(1000, 11_000, 0).photons.sum()
    late = blinking.emitters(91_000, 101_000, 0).photons.sum()
    assert (late / early).item() == pytest.approx(0.05, abs=0.02)


def test_filaments_are_continuous_lines_inside_the_field() -> None:
    sites = filaments(1, (6400.0, 6400.0), torch.Generator().manual_seed(2), spacing_nm=8.0)
    assert len(sites) > 200
    assert (sites >= 0).all()
    assert (sites < 6400).all()
    nearest = torch.cdist(sites, sites).topk(2, largest=False).values[:, 1]
    assert nearest.max() < 8 + 2 * 12.5


@pytest.mark.parametrize("structure", ["microtubules", "uniform"])
def test_density_is_the_one_asked_for(structure: str) -> None:
    scene = Scene(SceneSettings(structure=structure, density_per_um2=2.0))
    # What is on at one moment: a frame of vanishing exposure.
    counts = [len(scene.sample.emitters(t * 300.0, t * 300.0 + 1e-3, t)) for t in range(300)]
    margin = 8 * scene.settings.psf_sigma_nm
    area = ((6400 + margin) / 1000) ** 2
    assert sum(counts) / len(counts) / area == pytest.approx(2.0, rel=0.1)


def test_frames_depend_on_number_and_seed_alone() -> None:
    settings = SceneSettings(shape=(32, 48))
    a, b = Scene(settings), Scene(settings)
    c = Scene(replace(settings, seed=1))
    b.photons(3, 30.0)
    frames = [s.expose(s.photons(7, 30.0), 7) for s in (a, b, c)]
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])
    assert frames[0].shape == (32, 48)


def test_photons_are_conserved_from_truth_to_image() -> None:
    scene = Scene(SceneSettings(background_photons_per_ms=0.0))
    table = scene.emitters(4, 30.0)
    well_inside = (table.x_nm > 800) & (table.x_nm < 5600) & (table.y_nm > 800) & (table.y_nm < 5600)
    image = scene.photons(4, 30.0).sum()
    assert table.select(well_inside).photons.sum() <= image * 1.0001
    assert image <= table.photons.sum() * 1.0001


def test_thunderstorm_table_round_trip(tmp_path: Path) -> None:
    scene = Scene(SceneSettings())
    tables = [scene.truth(n, 30.0) for n in range(3)]
    path = tmp_path / "truth.csv"
    n = write_table(path, tables, sigma_nm=115.0)
    text = path.read_text().splitlines()
    assert text[0] == '"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]"'
    assert text[1].split(",")[1] == "1"  # frames count from one in the file
    back = read_table(path)
    assert len(back) == n == sum(map(len, tables))
    assert torch.equal(back.frame, torch.cat([t.frame for t in tables]))
    assert torch.allclose(back.x_nm, torch.cat([t.x_nm for t in tables]), atol=0.006)


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n"])
def test_a_table_that_is_none_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "x.csv"
    if content:
        path.write_text(content)
    with pytest.raises(InputError, match=r"x\.csv"):
        read_table(path)


def test_the_run_begins_in_the_middle_of_the_blinking() -> None:
    seeds = range(20)
    sites = uniform(2000, (6400.0, 6400.0), torch.Generator().manual_seed(0))

    def on(at_ms: float) -> int:
        kinetics = Blinking(on_ms=40.0, off_ms=1960.0)
        return sum(len(BlinkingSample(sites, kinetics, s).emitters(at_ms, at_ms + 1e-3, 0)) for s in seeds)

    assert on(0.0) == pytest.approx(20 * 2000 * 0.02, rel=0.15)
    assert on(5000.0) == pytest.approx(20 * 2000 * 0.02, rel=0.15)
