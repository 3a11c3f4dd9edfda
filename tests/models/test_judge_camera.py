"""Baseline and gain from simulated movies of cameras with known ones, full of blinking emitters."""

import numpy as np
import pytest
import torch

from stormlive_models.judge.calibration import comparison
from stormlive_models.judge.camera import Transfer, dark_baseline, estimate_camera, transfer
from stormlive_sim.movie import Scene, SceneSettings
from stormlive_sim.pixel_maps import PixelVariation
from stormlive_sim.sensor import Sensor, emccd, scmos

UNEQUAL = PixelVariation(offset_sd_adu=2.0, gain_spread=0.02, read_noise_spread=0.5)


def movie(sensor: Sensor, n: int = 120, seed: int = 0, pixels: PixelVariation | None = None) -> np.ndarray:
    scene = Scene(SceneSettings(density_per_um2=1.0, sensor=sensor, pixels=pixels or PixelVariation(), seed=seed))
    return torch.stack([frame for frame, _ in scene.frames(n, 30.0)]).numpy()


@pytest.mark.parametrize(
    ("sensor", "excess", "pixels"),
    [
        (emccd(100, 0.5), 2.0, None),
        (emccd(400, 0.2), 2.0, None),
        (scmos(100, 0.5), 1.0, None),
        (scmos(200, 0.25), 1.0, None),
        (scmos(100, 0.5), 1.0, UNEQUAL),
    ],
)
def test_gain_and_baseline_of_a_blinking_movie(sensor: Sensor, excess: float, pixels: PixelVariation | None) -> None:
    found = estimate_camera(transfer(movie(sensor, pixels=pixels)), excess)
    assert found is not None
    true_gain = float(sensor.photons_per_adu)
    assert found.photons_per_adu == pytest.approx(true_gain, rel=0.1)
    assert abs(found.photons_per_adu - true_gain) < 2.5 * found.photons_per_adu_sd
    # 20 photons of background lie between the dimmest tile and the baseline.
    assert abs(found.baseline_adu - float(sensor.baseline_adu)) < 3 * found.baseline_sd
    assert found.baseline_sd < 6 / true_gain


def test_noise_is_measured_exactly_where_there_is_no_structure() -> None:
    generator = np.random.default_rng(0)
    light = np.linspace(20, 400, 64)[None, None, :] * np.ones((400, 64, 1))
    tiles = transfer(100 + 2 * generator.poisson(light))
    # ADU: the variance is 2² of the photons, the mean 2 of them over the baseline.
    assert np.polyfit(tiles.mean - 100, tiles.variance, 1)[0] == pytest.approx(2, rel=0.02)
    noisy = Transfer(mean=tiles.mean, variance=tiles.variance + 1 / 12 + (1.5 * 2) ** 2, smooth=tiles.smooth)
    found = estimate_camera(noisy)
    assert found is not None
    assert found.photons_per_adu == pytest.approx(0.5, rel=0.02)
    assert found.baseline_adu == pytest.approx(100, abs=2)


def test_unequal_pixels_and_an_uneven_picture_are_no_noise() -> None:
    pattern = np.random.default_rng(1).random((64, 64)) * 50
    tiles = transfer(np.repeat(100 + pattern[None], 10, 0))
    assert tiles.variance.max() < 1e-9


def test_a_picture_without_light_and_shade_tells_nothing() -> None:
    generator = np.random.default_rng(2)
    even = transfer(100 + generator.poisson(np.full((60, 64, 64), 20.0)))
    assert estimate_camera(even) is None
    assert comparison(even, 100, 1.0).sentence == ""
    assert estimate_camera(transfer(np.full((20, 64, 64), 7, np.uint16))) is None
    for shape in ((2, 5, 5), (2, 8, 8), (1, 64, 64), (2, 1, 1)):
        assert comparison(transfer(np.zeros(shape, np.uint16)), 100, 0.5).sentence == ""


def test_dark_frames_tell_the_baseline_in_spite_of_hot_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    dark = scmos(100, 0.5).expose(torch.zeros(50, 64, 64), generator).numpy()
    dark[:, :3, :3] += 500
    tiles = transfer(dark)
    baseline, spread = dark_baseline(tiles)
    assert baseline == pytest.approx(100, abs=0.2)
    assert spread < 1
    told = comparison(tiles, 98, 0.5)
    assert told.sentence.startswith("If these frames are dark, the baseline is 100")
    assert not told.contradicts
    assert comparison(tiles, 100, 0.5).sentence == ""
    # Light that is even is not taken for the dark.
    assert comparison(transfer(dark + 50), 98, 0.5).sentence == ""
