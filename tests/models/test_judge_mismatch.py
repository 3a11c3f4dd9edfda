"""The gauge on simulated frames whose figures are known."""

import math

import pytest
import torch

from stormlive_models.judge.mismatch import Figures, Trained, isolated_spots, judge, measure
from stormlive_sim.blinking import Blinking
from stormlive_sim.movie import Scene, SceneSettings
from stormlive_sim.sensor import Sensor, emccd, scmos

CARD = {
    "data": {
        "pixel_size_nm": 100.0,
        "density_per_um2": [0.2, 12.0],
        "photons": [250.0, 6000.0],
        "psf_sigma_nm": [95.0, 145.0],
        "background_photons": [0.5, 100.0],
    }
}
TRAINED = Trained.from_card(CARD, 100.0)


def frames(n: int = 30, sensor: Sensor | None = None, **settings: object) -> torch.Tensor:
    """Return photons (T, Y, X) of 64x64 pixels of 100 nm, steady emitters of 1000 photons on a background of 20."""
    blinking = Blinking(on_ms=1e4, photons_per_ms=50, brightness_spread=0.0)
    scene = Scene(
        SceneSettings(
            **{"density_per_um2": 0.3, "structure": "uniform", "background_photons_per_ms": 1.0, **settings},  # type: ignore[arg-type]
            sensor=sensor or emccd(),
            blinking=blinking,
        )
    )
    adu = torch.stack([one for one, _ in scene.frames(n, 20.0)]).float()
    return (adu - 100) * 0.5


@pytest.mark.parametrize("sensor", [emccd(), scmos()])
def test_figures_of_sparse_frames_are_the_true_ones(sensor: Sensor) -> None:
    figures = measure(isolated_spots(frames(sensor=sensor), 100.0), 100.0)
    assert figures.psf_sigma_nm == pytest.approx(115, rel=0.03)
    assert figures.photons == pytest.approx(1000, rel=0.1)
    assert figures.background == pytest.approx(20, rel=0.05)
    assert judge(figures, TRAINED).gauge == "green"


@pytest.mark.parametrize("sigma_nm", [165, 220])
def test_a_wrong_psf_is_seen_although_it_is_looked_for_at_the_usual_width(sigma_nm: float) -> None:
    figures = measure(isolated_spots(frames(60, psf_sigma_nm=sigma_nm, density_per_um2=0.1), 100.0), 100.0)
    assert figures.psf_sigma_nm == pytest.approx(sigma_nm, rel=0.05)
    verdict = judge(figures, TRAINED)
    assert verdict.gauge == ("amber" if sigma_nm < 1.25 * 145 else "red")
    assert "PSF width" in verdict.sentence
    assert "95 to 145" in verdict.sentence
    assert f"{100 * (figures.psf_sigma_nm / 145 - 1):.0f} % too wide" in verdict.sentence
    assert "stormlive train" in verdict.sentence


def test_frames_too_dense_to_measure_are_not_taken_for_a_wide_psf() -> None:
    crowded = isolated_spots(frames(20, density_per_um2=8.0, structure="microtubules"), 100.0)
    figures = measure(crowded, 100.0, density_per_um2=8.0)
    assert figures.psf_sigma_nm is None
    verdict = judge(figures, TRAINED)
    assert verdict.gauge == "unknown"
    assert verdict.sentence == (
        "The width of the spots could not be measured, too few stand alone; density 8.0 emitters/µm² would suit the "
        "model."
    )
    assert judge(measure(crowded, 100.0, density_per_um2=14.0), TRAINED).gauge == "amber"


def test_frames_without_spots_or_too_small_give_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.poisson(torch.full((10, 64, 64), 20.0), generator)
    assert measure(isolated_spots(noise, 100.0), 100.0) == Figures()
    for side in (1, 4, 10):
        assert measure(isolated_spots(noise[:, :side, :side], 100.0), 100.0) == Figures()
    assert judge(Figures(), TRAINED).gauge == "unknown"


FINE = {"psf_sigma_nm": 115.0, "photons": 1000.0, "background": 20.0, "density_per_um2": 1.0}


@pytest.mark.parametrize(
    ("name", "value", "gauge", "words"),
    [
        ("psf_sigma_nm", 145.0, "green", "like those"),
        ("psf_sigma_nm", 146.0, "amber", "too wide"),
        ("psf_sigma_nm", 181.0, "amber", "25 % too wide"),
        ("psf_sigma_nm", 182.0, "red", "too wide"),
        ("psf_sigma_nm", 80.0, "amber", "too narrow"),
        ("psf_sigma_nm", 70.0, "red", "too narrow"),
        ("photons", 200.0, "amber", "too dim"),
        ("photons", 9000.0, "red", "too bright"),
        ("background", 130.0, "red", "--baseline-adu"),
        ("background", -3.0, "red", ": too low; check --baseline-adu: it may be too high"),
        ("density_per_um2", 0.01, "green", "like those"),
        ("density_per_um2", 20.0, "red", "bleaching"),
    ],
)
def test_colours(name: str, value: float, gauge: str, words: str) -> None:
    verdict = judge(Figures(**{**FINE, name: value}), TRAINED)
    assert verdict.gauge == gauge
    assert words in verdict.sentence
    assert len(verdict.sentence.encode()) <= 300


def test_a_width_that_no_light_microscope_gives_tells_of_a_wrong_pixel_size() -> None:
    trained = Trained.from_card(CARD, 160.0)
    assert trained is not None
    verdict = judge(Figures(**{**FINE, "psf_sigma_nm": 184.0}), trained)
    assert verdict.gauge == "amber"
    assert "184 nm" in verdict.sentence
    assert "--pixel-size-nm" in verdict.sentence
    assert judge(Figures(**{**FINE, "psf_sigma_nm": 165.0}), trained).gauge == "green"


def test_the_worst_is_told_and_another_is_mentioned() -> None:
    verdict = judge(Figures(**{**FINE, "psf_sigma_nm": 150.0, "photons": 12_000.0}), TRAINED)
    assert verdict.gauge == "red"
    assert verdict.sentence.startswith("Light of an emitter")
    assert "PSF width is out too" in verdict.sentence


def test_ranges_scale_with_the_pixel_that_the_network_sees() -> None:
    trained = Trained.from_card(CARD, 60.0, binning=2)
    assert trained is not None
    assert trained.psf_sigma_nm == pytest.approx((95 * 1.2, 145 * 1.2))
    assert trained.density_per_um2 == pytest.approx((0.2 / 1.44, 12 / 1.44))
    # Four of the camera's pixels are one of the network's.
    assert trained.background == pytest.approx((0.5 / 4, 100 / 4))
    assert trained.photons == (250, 6000)


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"data": None},
        {"data": {**CARD["data"], "photons": [3.0]}},
        {"data": {**CARD["data"], "photons": "many"}},
        {"data": {**CARD["data"], "psf_sigma_nm": [145.0, 95.0]}},
        {"data": {**CARD["data"], "psf_sigma_nm": [95.0, math.inf]}},
        {"data": {**CARD["data"], "pixel_size_nm": "100"}},
    ],
)
def test_a_card_that_does_not_tell_makes_no_colour(training: dict) -> None:
    assert Trained.from_card(training, 100.0) is None
    verdict = judge(Figures(**FINE), None)
    assert verdict.gauge == "unknown"
    assert "card" in verdict.sentence
