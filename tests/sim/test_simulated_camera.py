from dataclasses import replace

import numpy as np
import pytest

from stormlive_sim.drift import Drift
from stormlive_sim.errors import InputError
from stormlive_sim.movie import SceneSettings
from stormlive_sim.pixel_maps import PixelVariation
from stormlive_sim.sensor import scmos
from stormlive_sim.simulated_camera import SimulatedCamera

SETTINGS = SceneSettings(shape=(32, 48))


def render(
    camera: SimulatedCamera, frame: int, x: int = 0, y: int = 0, w: int = 48, h: int = 32, **more: int
) -> np.ndarray:
    out = np.zeros((h, w), np.uint16)
    camera.render(frame, x, y, w, h, more.get("binning", 1), 30.0, out)
    return out


def test_frames_depend_on_their_number_and_not_on_what_was_asked_before() -> None:
    a, b = SimulatedCamera(SETTINGS), SimulatedCamera(SETTINGS)
    first = render(a, 3)
    for frame in (7, 100_000, 0):
        render(b, frame)
    assert np.array_equal(first, render(b, 3))
    assert not np.array_equal(first, render(b, 4))


def test_a_region_shows_what_the_full_frame_shows_there() -> None:
    camera = SimulatedCamera(SETTINGS)
    assert np.array_equal(render(camera, 5, x=8, y=4, w=20, h=10), render(camera, 5)[4:14, 8:28])


def test_binning_collects_the_light_of_its_pixels_before_the_baseline() -> None:
    camera = SimulatedCamera(SETTINGS)
    full = np.mean([render(camera, n) - 100.0 for n in range(40)], 0)
    binned = np.mean([render(camera, n, w=24, h=16, binning=2) - 100.0 for n in range(40)], 0)
    assert binned.shape == (16, 24)
    assert binned.sum() == pytest.approx(full.sum(), rel=0.01)
    expected = full.reshape(16, 2, 24, 2).sum((1, 3))
    assert np.corrcoef(binned.ravel(), expected.ravel())[0, 1] > 0.95


def test_half_the_exposure_is_half_the_light() -> None:
    camera = SimulatedCamera(SETTINGS)
    out = np.zeros((32, 48), np.uint16)
    totals = []
    for exposure in (30.0, 60.0):
        total = 0.0
        for frame in range(60):
            camera.render(frame, 0, 0, 48, 32, 1, exposure, out)
            total += out.sum() - 100.0 * out.size
        totals.append(total)
    assert totals[1] / totals[0] == pytest.approx(2, rel=0.1)


def test_a_region_outside_the_sensor_is_refused() -> None:
    with pytest.raises(InputError, match="region"):
        render(SimulatedCamera(SETTINGS), 0, x=30)


def test_the_chip_stays_in_its_place_whatever_the_region_the_frame_and_the_sample() -> None:
    unequal = PixelVariation(offset_sd_adu=30, hot_share=0.02, hot_e_per_s=20_000, dead_share=0.02, seed=4)
    settings = replace(SETTINGS, sensor=scmos(), pixels=unequal, density_per_um2=0.1)
    camera = SimulatedCamera(settings)
    maps = camera.scene.sensor.maps
    assert maps is not None
    pattern = 100 + maps.offset_adu + (20 * maps.qe + 30 * maps.dark_e_per_ms) / 0.5
    for other in (settings, replace(settings, seed=9)):
        seen = SimulatedCamera(other)
        for x, y, w, h in ((0, 0, 48, 32), (7, 4, 30, 20), (20, 11, 28, 21)):
            part = np.median([render(seen, n, x=x, y=y, w=w, h=h) for n in range(20, 45)], 0)
            expected = pattern[y : y + h, x : x + w].numpy()
            assert np.corrcoef(part.ravel(), expected.ravel())[0, 1] > 0.99
    another = SimulatedCamera(replace(settings, pixels=PixelVariation(offset_sd_adu=30, seed=5)))
    assert np.corrcoef(render(another, 0).ravel(), pattern.numpy().ravel())[0, 1] < 0.3


def test_a_region_shows_what_the_full_frame_shows_there_also_with_maps_drift_and_haze() -> None:
    settings = replace(
        SETTINGS,
        pixels=PixelVariation(offset_sd_adu=5, hot_share=0.05),
        drift=Drift(x_nm_per_s=100),
        haze_photons_per_ms=1.0,
        illumination_fwhm_um=5.0,
    )
    camera = SimulatedCamera(settings)
    assert np.array_equal(render(camera, 5, x=8, y=4, w=20, h=10), render(camera, 5)[4:14, 8:28])
    binned = render(camera, 5, w=24, h=16, binning=2)
    assert np.array_equal(render(camera, 5, x=3, y=2, w=8, h=9, binning=2), binned[2:11, 3:11])
