import math
from dataclasses import replace

import pytest
import torch

from stormlive_sim.pixel_maps import PixelMaps, PixelVariation, draw_pixel_maps
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


VARIED = PixelVariation(
    offset_sd_adu=3,
    gain_spread=0.03,
    qe_spread=0.04,
    read_noise_spread=0.6,
    dark_e_per_s=2,
    hot_share=0.03,
    hot_e_per_s=500,
    dead_share=0.03,
)


def chip(shape: tuple[int, int], variation: PixelVariation = VARIED) -> PixelMaps:
    return draw_pixel_maps(variation, shape, torch.Generator().manual_seed(5))


@pytest.mark.parametrize("photons", [0.0, 3.0, 60.0])
def test_each_pixel_has_its_own_mean_and_variance(photons: float) -> None:
    maps = chip((24, 20))
    sensor = Sensor(baseline_adu=100, electrons_per_adu=0.25, qe=0.8, read_noise_e=1.5, maps=maps)
    n = 4000
    light = torch.full((n, 24, 20), photons)
    adu = sensor.expose(light, torch.Generator().manual_seed(1), exposure_ms=30).double()
    electrons = photons * 0.8 * maps.qe + maps.dark_e_per_ms * 30
    mean = 100 + maps.offset_adu + maps.gain * electrons / 0.25
    variance = maps.gain**2 * (electrons + (1.5 * maps.read_noise) ** 2) / 0.25**2 + 1 / 12
    z = (adu.mean(0) - mean) / (variance / n).sqrt()
    assert z.abs().max() < 4.5
    assert z.square().mean().item() == pytest.approx(1, abs=0.25)
    # 480 variances, each known to sqrt(2 / n) = 2.2 %.
    ratio = adu.var(0) / variance
    assert ratio.mean().item() == pytest.approx(1, abs=0.01)
    assert (ratio - 1).abs().max() < 0.16


def test_maps_are_distributed_as_asked() -> None:
    maps = chip((500, 500))
    assert maps.offset_adu.std().item() == pytest.approx(3, rel=0.02)
    assert maps.offset_adu.mean().item() == pytest.approx(0, abs=0.05)
    assert (maps.gain.mean().item(), maps.gain.std().item()) == pytest.approx((1, 0.03), rel=0.02)
    assert maps.read_noise.median().item() == pytest.approx(1, rel=0.01)
    # A tail: the rms of a log-normal is exp(s²) medians, and one pixel in a thousand is exp(3.1 s) times as loud.
    assert maps.read_noise.square().mean().sqrt().item() == pytest.approx(math.exp(0.36), rel=0.03)
    assert maps.read_noise.flatten().kthvalue(249_750).values.item() == pytest.approx(math.exp(0.6 * 3.09), rel=0.1)
    dead = maps.qe == 0
    assert dead.float().mean().item() == pytest.approx(0.03, rel=0.05)
    assert maps.qe[~dead].std().item() == pytest.approx(0.04, rel=0.02)
    hot = maps.dark_e_per_ms > 0.002
    assert hot.float().mean().item() == pytest.approx(0.03, rel=0.05)
    assert (maps.dark_e_per_ms[hot] - 0.002).mean().item() == pytest.approx(0.5, rel=0.05)
    assert maps.dark_e_per_ms[~hot].unique().tolist() == pytest.approx([0.002])


def test_a_chip_without_variation_is_the_plain_sensor_on_average() -> None:
    maps = chip((20, 20), PixelVariation())
    for plain in (scmos(), emccd()):
        photons = torch.full((1000, 20, 20), 20.0)
        a = replace(plain, maps=maps).expose(photons, torch.Generator().manual_seed(0), exposure_ms=30)
        assert torch.equal(a, plain.expose(photons, torch.Generator().manual_seed(0)))


def test_dark_current_grows_with_the_exposure_and_is_multiplied_by_an_emccd() -> None:
    maps = chip((40, 40), PixelVariation(hot_share=1.0, hot_e_per_s=200))
    sensor = replace(emccd(), maps=maps)
    dark = torch.zeros(500, 40, 40)
    for exposure_ms in (0.0, 10.0, 100.0):
        adu = sensor.expose(dark, torch.Generator().manual_seed(0), exposure_ms=exposure_ms).mean(0)
        assert (adu - 100).mean().item() == pytest.approx(2 * maps.dark_e_per_ms.mean().item() * exposure_ms, abs=0.05)


def test_an_emccd_bins_charge_and_an_scmos_reads_every_pixel() -> None:
    photons = torch.full((300, 60, 61), 8.0)
    loud = Sensor(read_noise_e=10.0, electrons_per_adu=0.5)
    adu = loud.expose(photons, torch.Generator().manual_seed(0), binning=3).double()
    assert adu.shape == (300, 20, 20)
    assert adu.mean().item() == pytest.approx(100 + 2 * 72, abs=0.5)
    assert adu.var().item() == pytest.approx(4 * (72 + 9 * 100) + 9 / 12, rel=0.03)
    loud = Sensor(read_noise_e=1000.0, electrons_per_adu=50.0, em_gain=100.0)
    adu = loud.expose(photons, torch.Generator().manual_seed(0), binning=3).double()
    assert adu.mean().item() == pytest.approx(100 + 2 * 72, abs=0.5)
    assert adu.var().item() == pytest.approx(4 * (2 * 72 + 100) + 1 / 12, rel=0.03)


def test_binning_with_maps_adds_what_its_pixels_show() -> None:
    maps = chip((24, 20))
    sensor = Sensor(baseline_adu=100, electrons_per_adu=0.25, maps=maps)
    photons = torch.full((3000, 24, 20), 10.0)
    single = sensor.expose(photons, torch.Generator().manual_seed(0), exposure_ms=30).double().mean(0) - 100
    binned = sensor.expose(photons, torch.Generator().manual_seed(1), exposure_ms=30, binning=2).double().mean(0) - 100
    assert torch.allclose(binned, single.reshape(12, 2, 10, 2).sum((1, 3)), atol=4)
    assert binned.std() > 20  # hot and dead pixels: a constant would not pass for this
