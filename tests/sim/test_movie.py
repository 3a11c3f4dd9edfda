from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stormlive_sim.blinking import Blinking, BlinkingSample, mixed_seed
from stormlive_sim.drift import Drift
from stormlive_sim.errors import InputError
from stormlive_sim.focus import Focus
from stormlive_sim.movie import Scene, SceneSettings
from stormlive_sim.psf import render_gaussians
from stormlive_sim.sensor import emccd
from stormlive_sim.structure_kinds import STRUCTURES, Bundles, Clusters, Rings, Uniform
from stormlive_sim.structures import filaments, uniform
from stormlive_sim.thunderstorm import read_table, write_table


def sample(**kinetics: float | str) -> BlinkingSample:
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


@pytest.mark.parametrize("structure", list(STRUCTURES))
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
    frames = [s.expose(s.photons(7, 30.0), 7, 30.0) for s in (a, b, c)]
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])
    assert frames[0].shape == (32, 48)


VARIANTS = {
    "plain": SceneSettings(),
    "defocused": SceneSettings(focus=Focus(defocus_nm=300, astigmatism_nm=100, sample_depth_nm=500)),
    "drifting": SceneSettings(drift=Drift(x_nm_per_s=50, walk_nm_per_sqrt_s=20)),
    "in a beam": SceneSettings(illumination_fwhm_um=4.0),
    "mixed": SceneSettings(structure=(Bundles(), Rings(), Clusters(), Uniform(per_um2=10.0))),
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_photons_are_conserved_from_truth_to_image(settings: SceneSettings) -> None:
    scene = Scene(replace(settings, background_photons_per_ms=0.0))
    for frame in (4, 2000):
        table = scene.emitters(frame, 30.0)
        reach = 520 * scene.settings.focus.greatest_widening
        inside = [(c > reach) & (c < 6400 - reach) for c in (table.x_nm, table.y_nm)]
        near = [(c > -reach) & (c < 6400 + reach) for c in (table.x_nm, table.y_nm)]
        image = scene.photons(frame, 30.0).sum()
        assert table.select(inside[0] & inside[1]).photons.sum() <= image * 1.0001
        assert image <= table.select(near[0] & near[1]).photons.sum() * 1.0001


def test_the_plain_scene_is_what_it_was_before_it_had_knobs() -> None:
    scene = Scene(SceneSettings(seed=2))
    generator = torch.Generator().manual_seed(mixed_seed(2, -2))
    side, area_um2 = 6400 + 8 * 115.0, (6400 + 8 * 115.0) ** 2 / 1e6
    sites = filaments(round(1.65 * area_um2**0.5), (side, side), generator) - 4 * 115.0
    off_ms = 40.0 * (len(sites) / area_um2 - 1)
    table = BlinkingSample(sites, Blinking(off_ms=off_ms), 2).emitters(30.0, 60.0, 1)
    image = torch.full((1, 64, 64), 0.67 * 30)
    where = torch.zeros(len(table), dtype=torch.long)
    render_gaussians(
        image, where, table.x_nm / 100, table.y_nm / 100, table.photons, torch.tensor(1.15), radius=int(4.5 * 1.15) + 1
    )
    adu = emccd().expose(image[0], torch.Generator().manual_seed(mixed_seed(3, 1)))
    frames = list(scene.frames(2, 30.0))
    assert torch.equal(frames[1][0], adu.to(torch.uint16))
    assert torch.equal(scene.emitters(1, 30.0).x_nm, table.x_nm)


def test_the_beam_scales_emitters_and_background_alike() -> None:
    even, beam = (
        Scene(SceneSettings(shape=(40, 60), illumination_fwhm_um=w, haze_photons_per_ms=0.5)) for w in (1e9, 3.0)
    )
    ratio = beam.photons(3, 30.0) / even.photons(3, 30.0)
    y, x = torch.meshgrid((torch.arange(40) - 19.5) / 10, (torch.arange(60) - 29.5) / 10, indexing="ij")
    expected = torch.exp2(-4 * (x**2 + y**2) / 3.0**2)  # one half at half the FWHM from the centre
    # A PSF straddles pixels of unequal illumination: the emitter counts where it is, not where its light lands.
    assert torch.allclose(ratio, expected, rtol=0.35)
    dark = replace(beam.settings, density_per_um2=0.0), replace(even.settings, density_per_um2=0.0)
    a, b = (Scene(s).photons(3, 30.0) for s in dark)
    assert torch.allclose(a / b, expected, rtol=1e-4)
    table, reference = beam.emitters(3, 30.0), even.emitters(3, 30.0)
    r2 = (table.x_nm - 3000).square() + (table.y_nm - 2000).square()
    assert torch.allclose(table.photons / reference.photons, torch.exp2(-4 * r2 / 3000**2), rtol=1e-4)


def test_haze_has_its_mean_follows_the_structure_and_moves_with_it() -> None:
    settings = SceneSettings(
        shape=(96, 96),
        structure=(Clusters(per_um2=0.05),),
        density_per_um2=0.0,
        background_photons_per_ms=0.0,
        haze_photons_per_ms=0.5,
        haze_sigma_nm=600.0,
    )
    scene = Scene(settings)
    haze = scene.photons(0, 30.0).double()
    sites = scene.sample.sites_nm.double()
    centres = (torch.arange(96, dtype=torch.float64) + 0.5) * 100
    expected = torch.zeros(96, 96, dtype=torch.float64)
    side = 9600 + 2 * 500.0  # the sample goes round
    for dx in (-side, 0, side):
        for dy in (-side, 0, side):
            gx = torch.exp(-((centres - sites[:, :1] - dx) ** 2) / (2 * 600**2))
            gy = torch.exp(-((centres - sites[:, 1:] - dy) ** 2) / (2 * 600**2))
            expected += gy.T @ gx
    expected *= 15 * side**2 / (2 * torch.pi * 600**2) / len(sites)
    assert torch.allclose(haze, expected, atol=0.02 * expected.max().item())

    moving = Scene(replace(settings, drift=Drift(x_nm_per_s=100.0, y_nm_per_s=-50.0)))
    # 299 frames of 30 ms later the sample has moved by 8.97 and -4.485 pixels.
    early, late = (moving.photons(n, 30.0).double() for n in (0, 299))
    shifted = 0.5 * (early[4:-1, :-9] + early[5:, :-9])
    assert (late[:-5, 9:] - shifted).abs().max() < 0.03 * early.max()
    assert (late - early).abs().max() > 0.1 * early.max()


@pytest.mark.parametrize(("brightness", "deviation"), [("exponential", 1.0), ("log-normal", 0.307)])
def test_brightness_is_distributed_as_asked(brightness: str, deviation: float) -> None:
    blinking = sample(on_ms=40.0, off_ms=400.0, photons_per_ms=50.0, brightness=brightness)
    # Those that are on throughout a short exposure show their rate.
    rates = torch.cat([blinking.seen(t * 500.0, t * 500.0 + 0.1)[1] for t in range(30)]) / 0.1
    assert rates.mean().item() == pytest.approx(50, rel=0.03)
    assert (rates.std() / rates.mean()).item() == pytest.approx(deviation, rel=0.05)


def test_most_emitters_are_on_for_a_part_of_the_frame_only() -> None:
    blinking = sample(on_ms=40.0, photons_per_ms=50.0, brightness_spread=0.0)
    photons = torch.cat([blinking.seen(t * 500.0, t * 500.0 + 30.0)[1] for t in range(200)])
    whole = (photons > 0.9999 * 50 * 30).double().mean().item()
    # On throughout: on at the start (40 of 40 + 30) and for exp(-30 / 40) of those until the end.
    assert whole == pytest.approx(40 / 70 * 2.718281828 ** (-0.75), abs=0.03)
    assert photons.max() <= 1500.01


def test_a_density_beyond_the_labels_is_refused() -> None:
    with pytest.raises(InputError, match="less density"):
        Scene(SceneSettings(structure="rings", density_per_um2=60.0))


def test_an_unknown_structure_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'microtubules'"):
        Scene(SceneSettings(structure="microtubule"))


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
