"""Whether anything blinks, and how wide it is, on simulated frames of known width and density."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import shift

from stormlive_models.judge.blinking import LEAST_TILES, Blinks, blinks, spot_of
from stormlive_models.judge.frames import Frames
from stormlive_sim.blinking import Blinking
from stormlive_sim.movie import Scene, SceneSettings
from stormlive_sim.sensor import emccd, scmos


def frames(n: int = 32, **settings: object) -> np.ndarray:
    """Return photons (T, Y, X) as a camera counts them, 64x64 pixels of 100 nm unless told."""
    scene = Scene(SceneSettings(**settings))
    return np.stack([(frame.float().numpy() - 100) * 0.5 for frame, _ in scene.frames(n, 20.0)])


def steady(n: int = 64, brightest: float = 300.0) -> np.ndarray:
    """Return the mean light, photons (Y, X), of a dense sample that never blinks."""
    scene = Scene(SceneSettings(density_per_um2=5.0, background_photons_per_ms=0.001))
    mean = sum(scene.photons(number, 20.0) for number in range(n)).numpy()
    return 20 + brightest * mean / mean.max()


def counted(light: np.ndarray, n: int = 64) -> np.ndarray:
    return np.random.default_rng(0).poisson(np.broadcast_to(light, (n, *light.shape[-2:]))).astype(np.float32)


def seen(photons: np.ndarray, pixel_size_nm: float = 100.0) -> Blinks:
    return Blinks.join([blinks(photons[first : first + 16], pixel_size_nm) for first in range(0, len(photons), 16)])


@pytest.mark.parametrize("density", [0.3, 5.0])
@pytest.mark.parametrize("sigma_nm", [80.0, 115.0, 220.0])
def test_the_width_is_right_however_dense_the_spots_are(sigma_nm: float, density: float) -> None:
    found = spot_of(seen(frames(psf_sigma_nm=sigma_nm, density_per_um2=density)))
    assert found.sigma_px == pytest.approx(sigma_nm / 100, rel=0.06)


@pytest.mark.parametrize(
    "settings",
    [
        {"sensor": scmos()},
        {"structure": "uniform"},
        {"haze_photons_per_ms": 3.0},
        {"illumination_fwhm_um": 6.0},
        {"blinking": Blinking(on_ms=400)},
        {"pixel_size_nm": 60.0, "shape": (96, 96)},
        {"pixel_size_nm": 160.0, "psf_sigma_nm": 130.0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_the_width_is_right_in_spite_of(settings: dict) -> None:
    pixel_nm, sigma_nm = settings.get("pixel_size_nm", 100.0), settings.get("psf_sigma_nm", 115.0)
    found = spot_of(seen(frames(density_per_um2=5.0, **settings), pixel_nm))
    assert found.sigma_px == pytest.approx(sigma_nm / pixel_nm, rel=0.06)


@pytest.mark.parametrize(
    "still",
    [
        counted(np.full((64, 64), 20.0)),
        counted(steady()),
        counted(steady(brightest=30_000.0)),
        # A lamp that flickers, a sample that bleaches, a stage that trembles.
        counted(steady()[None] * np.random.default_rng(1).normal(1, 0.03, (64, 1, 1))),
        counted(steady()[None] * np.exp(-np.arange(64) / 200)[:, None, None]),
        counted(np.stack([shift(steady(), 0.05 * math.sin(t), order=3, mode="nearest") for t in range(64)])),
        np.random.default_rng(2).uniform(0, 30_000, (64, 64, 64)),
    ],
    ids=["noise", "steady", "bright", "flicker", "bleaching", "trembling", "uniform noise"],
)
def test_what_shines_steadily_does_not_blink(still: np.ndarray) -> None:
    looks = seen(still)
    assert looks.tiles >= LEAST_TILES
    assert looks.blink is False
    assert spot_of(looks) is None


@pytest.mark.parametrize("settings", [{"density_per_um2": 0.01}, {"blinking": Blinking(on_ms=1000)}])
def test_few_or_slow_emitters_blink(settings: dict) -> None:
    assert seen(frames(64, **settings)).blink is True


def test_of_too_little_nothing_is_said() -> None:
    generator = np.random.default_rng(0)
    for shape in ((2, 16, 16), (3, 17, 40), (16, 24, 24)):
        looks = blinks(generator.poisson(20, shape).astype(np.float32), 100.0)
        assert looks.blink is None
        assert spot_of(looks) is None
    for even in (0.0, 7.0, 1e30):
        assert spot_of(blinks(np.full((16, 32, 32), even, np.float32), 100.0)) is None


def test_emccd_and_scmos_noise_is_white_to_it() -> None:
    light = torch.from_numpy(steady(brightest=3000.0)).float().expand(64, -1, -1)
    for sensor in (emccd(), scmos()):
        adu = sensor.expose(light, torch.Generator().manual_seed(0), exposure_ms=20.0).numpy()
        assert seen((adu - 100) * 0.5).blink is False


def test_what_has_bleached_is_told_from_what_never_blinked() -> None:
    adu = {
        "dark": np.random.default_rng(0).poisson(20, (16, 40, 40)),
        "shade": counted(steady()[:40, :40], 16),
        "storm": frames(16, shape=(40, 40), density_per_um2=3.0) + 20,
    }

    def after(*looks: tuple[str, int]) -> str:
        notes = Frames(pixel_size_nm=100, baseline_adu=0, photons_per_adu=1, usual_sigma_nm=120)
        for name, n in looks:
            for _ in range(n):
                notes.see(adu[name].clip(0).astype(np.uint16))
        return notes.blinking

    assert after() == "unknown"
    assert after(("dark", 1)) == "unknown"
    assert after(("dark", 5)) == "dark"
    assert after(("shade", 5)) == "never"
    assert after(("dark", 5), ("storm", 1)) == "yes"
    assert after(("storm", 1), ("dark", 5)) == "yes"
    assert after(("storm", 1), ("dark", 32)) == "no more"
