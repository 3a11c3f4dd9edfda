"""What is said of a calibration: nothing where it agrees, figures where it does not, and why where there are none."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from stormlive_models.judge.calibration import Comparison, comparison
from stormlive_models.judge.camera import Transfer, transfer
from stormlive_sim.movie import Scene, SceneSettings
from stormlive_sim.sensor import Sensor, emccd, scmos

EMCCD, SCMOS = emccd(), scmos()
GENERATOR = np.random.default_rng(0)
LIGHT = 30 + 1500 * np.add.outer(np.linspace(0, 1, 64) ** 2, np.linspace(0, 1, 64))
"""Photons, from dark to bright."""


@lru_cache
def storm(sensor: Sensor, density: float = 1.0) -> Transfer:
    scene = Scene(SceneSettings(density_per_um2=density, sensor=sensor))
    return transfer(torch.stack([frame for frame, _ in scene.frames(60, 30.0)]).numpy())


def counted(light: np.ndarray = LIGHT) -> np.ndarray:
    """Return ADU of a camera of 2 ADU per photon and 100 ADU baseline."""
    return (100 + 2 * GENERATOR.poisson(np.broadcast_to(light, (40, *light.shape[-2:])))).astype(np.uint16)


@pytest.mark.parametrize("sensor", [EMCCD, SCMOS, emccd(400, 0.2), scmos(200, 0.25)])
@pytest.mark.parametrize("density", [0.3, 5.0])
def test_a_calibration_that_is_right_is_not_spoken_of(sensor: Sensor, density: float) -> None:
    assert comparison(storm(sensor, density), float(sensor.baseline_adu), float(sensor.photons_per_adu)) == Comparison()


@pytest.mark.parametrize("qe", [1.0, 0.7])
def test_the_quantum_efficiency_is_no_contradiction(qe: float) -> None:
    """Of a camera that was calibrated in photons, the noise tells electrons."""
    sensor = Sensor(baseline_adu=100, qe=qe, electrons_per_adu=0.5 * qe, read_noise_e=1.5)
    assert comparison(storm(sensor), 100, 0.5) == Comparison()


@pytest.mark.parametrize(("baseline_adu", "photons_per_adu"), [(50, 0.5), (150, 0.5), (100, 0.15), (100, 2.5), (0, 8)])
@pytest.mark.parametrize(("sensor", "kind"), [(EMCCD, "an EMCCD"), (SCMOS, "an sCMOS camera")])
def test_one_that_is_wrong_is_told_with_figures(
    sensor: Sensor, kind: str, baseline_adu: float, photons_per_adu: float
) -> None:
    told = comparison(storm(sensor), baseline_adu, photons_per_adu)
    sentence = told.sentence
    assert told.contradicts
    assert len(sentence.encode()) <= 300
    assert sentence.startswith("The stream looks like baseline")
    assert sentence.endswith("photons/ADU: check --baseline-adu and --photons-per-adu.")
    assert f"you gave {baseline_adu:g} and {photons_per_adu:g} photons/ADU" in sentence
    (ours,) = [looks for looks in sentence.split(" (photons")[0].split(" or ") if looks.endswith(kind)]
    baseline, gain = ours.partition("baseline ")[2].split(" ADU and ")
    assert float(baseline.split()[0]) == pytest.approx(100, abs=6)
    assert float(gain.split()[0]) == pytest.approx(0.5, rel=0.15)


def test_where_the_baseline_is_not_known_the_gain_alone_is_told() -> None:
    """Brightfield: 2000 photons everywhere, and some more."""
    sentence = comparison(transfer(counted(2000 + LIGHT)), 100, 5.0).sentence
    assert "baseline" not in sentence
    assert sentence.endswith("you gave 5 photons/ADU: check --photons-per-adu.")


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (gaussian_filter(counted().astype(float), (0, 0.7, 0.7)), "neighbouring pixels share their noise"),
        (100 + LIGHT + GENERATOR.normal(0, 20, (40, 64, 64)), "does not grow with the light"),
        (np.broadcast_to(100 + LIGHT, (40, 64, 64)) + GENERATOR.integers(0, 2, (40, 64, 64)), "does not grow with"),
        (np.broadcast_to(100 + LIGHT, (40, 64, 64)), "does not grow with"),
        (5 * counted().astype(float) ** 0.45, "does not grow with the light"),
        (counted() / 100.0 * counted() / 100.0, "in proportion to the light"),
    ],
    ids=["smoothed", "noise added", "one bit of noise", "without noise", "gamma", "squared"],
)
def test_noise_that_no_camera_makes_gives_no_figures_but_the_reason(frames: np.ndarray, why: str) -> None:
    told = comparison(transfer(frames.astype(np.uint16)), 100, 0.5)
    sentence = told.sentence
    assert not told.contradicts
    assert sentence.startswith("The stream tells nothing of the camera's calibration: ")
    assert why in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    "noise",
    [
        2 * GENERATOR.poisson(20, (60, 64, 64)) + 100,
        GENERATOR.integers(0, 65_536, (60, 64, 64)),
        GENERATOR.exponential(1000, (60, 64, 64)),
        GENERATOR.normal(1000, 30, (60, 64, 64)),
    ],
    ids=["poisson", "uniform", "exponential", "normal"],
)
def test_plain_noise_tells_nothing(noise: np.ndarray) -> None:
    assert comparison(transfer(noise.clip(0, 65_535).astype(np.uint16)), 100, 0.5) == Comparison()
