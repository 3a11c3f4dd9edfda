import pytest
import torch

from stormlive_sim.sensor import Sensor, emccd, scmos

N = 400_000


def expose(sensor: Sensor, photons: float, seed: int = 0) -> torch.Tensor:
    return sensor.expose(torch.full((N,), photons), torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("photons", [0.3, 1.0, 5.0, 20.0, 500.0])
def test_scmos_mean_and_variance_are_those_of_theory(photons: float) -> None:
    sensor = Sensor(baseline_adu=100, electrons_per_adu=0.25, qe=0.8, read_noise_e=1.5)
    adu = expose(sensor, photons)
    electrons = photons * 0.8
    variance = (electrons + 1.5**2) / 0.25**2 + 1 / 12
    assert adu.mean().item() == pytest.approx(100 + electrons / 0.25, abs=5 * (variance / N) ** 0.5)
    assert adu.var().item() == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize("photons", [0.3, 1.0, 5.0, 20.0, 500.0])
def test_emccd_has_an_excess_noise_factor_of_two(photons: float) -> None:
    sensor = emccd()
    adu = expose(sensor, photons)
    # 2 ADU per photon; read noise of 20 electrons behind a gain of 100 is 0.4 ADU.
    variance = 4 * 2 * photons + 0.4**2 + 1 / 12
    assert adu.mean().item() == pytest.approx(100 + 2 * photons, abs=5 * (variance / N) ** 0.5 + 0.002 * photons)
    assert adu.var().item() == pytest.approx(variance, rel=0.05)


def test_the_demo_datas_camera_comes_out_as_it_was_measured() -> None:
    adu = expose(emccd(), 20.0)
    assert adu.mean().item() == pytest.approx(140, abs=0.2)
    assert adu.var().item() == pytest.approx(160, rel=0.03)


@pytest.mark.parametrize("sensor", [emccd(50, 0.2), scmos(200, 1.7), Sensor(qe=0.7, electrons_per_adu=0.4)])
def test_calibration_gives_the_photons_back(sensor: Sensor) -> None:
    photons = (expose(sensor, 200.0) - sensor.baseline_adu) * sensor.photons_per_adu
    assert photons.mean().item() == pytest.approx(200, rel=2e-3)


def test_saturates_at_the_bit_depth_and_never_below_zero() -> None:
    sensor = Sensor(baseline_adu=2, bit_depth=12, read_noise_e=5)
    assert expose(sensor, 1e6).unique().tolist() == [4095]
    dark = expose(sensor, 0.0)
    assert dark.min() == 0
    assert (dark == dark.round()).all()


def test_the_generator_decides_everything() -> None:
    assert torch.equal(expose(emccd(), 10, seed=3), expose(emccd(), 10, seed=3))
    assert not torch.equal(expose(emccd(), 10, seed=3), expose(emccd(), 10, seed=4))
