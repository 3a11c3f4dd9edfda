"""The one light: what outweighs what, and what is said."""

from dataclasses import replace

import numpy as np
import pytest

from stormlive_models.judge.artifacts import ArtifactMap
from stormlive_models.judge.calibration import Comparison
from stormlive_models.judge.crowding import Crowd
from stormlive_models.judge.frames import Blinking
from stormlive_models.judge.mismatch import Figures, Trained, Verdict
from stormlive_models.judge.verdict import light_of_emitters, verdict

TRAINED = Trained(psf_sigma_nm=(95, 145), photons=(250, 6000), background=(0.5, 100), density_per_um2=(0.2, 12))
FINE = Figures(psf_sigma_nm=115, photons=1000, background=20, density_per_um2=1)
WIDE = Figures(psf_sigma_nm=150, photons=1000, background=20, density_per_um2=1)
BRIGHT = Figures(psf_sigma_nm=115, photons=1000, background=4000, density_per_um2=1)


def compared(rsp: float, best_rsp: float = 1.0) -> ArtifactMap:
    nothing = np.zeros((2, 2), np.float32)
    return ArtifactMap(
        error=nothing,
        excess=nothing,
        marked=nothing > 0,
        rse=1.0,
        rsp=rsp,
        best_rsp=best_rsp,
        sigma_px=1.2,
        scale=700.0,
        offset=12.0,
    )


@pytest.mark.parametrize(
    ("figures", "blinking", "rsp", "gauge", "words"),
    [
        (FINE, "yes", 0.95, "green", "like those that the model was trained on."),
        (FINE, "unknown", 0.95, "green", "like those that the model was trained on."),
        (FINE, "never", 0.95, "red", "Nothing blinks in these frames"),
        (BRIGHT, "dark", 0.1, "red", "Nothing stands out of the noise"),
        (FINE, "no more", 0.95, "amber", "Nothing blinks any more"),
        (BRIGHT, "no more", 0.95, "red", "Background"),
        (FINE, "yes", 0.7, "amber", "looks only in part like the widefield (agreement 0.70)"),
        (FINE, "yes", 0.4, "red", "hardly looks like the widefield (agreement 0.40)"),
        (WIDE, "yes", 0.7, "amber", "PSF width"),
        (WIDE, "yes", 0.4, "red", "hardly looks like"),
        (BRIGHT, "yes", 0.4, "red", "Background"),
        (
            Figures(density_per_um2=3, background=20),
            "yes",
            0.95,
            "unknown",
            "could not be measured, too few stand alone; background 20",
        ),
    ],
)
def test_the_worst_is_told(figures: Figures, blinking: Blinking, rsp: float, gauge: str, words: str) -> None:
    told = verdict(figures, TRAINED, blinking=blinking, compared=compared(rsp), n_frames=500)
    assert told.gauge == gauge
    assert words in told.sentence
    assert told.sentence[0].isupper()
    assert told.sentence.endswith(".")
    assert len(told.sentence.encode()) <= 300


def test_an_agreement_that_noise_decides_is_none() -> None:
    assert verdict(FINE, TRAINED, compared=compared(0.3, best_rsp=0.33), n_frames=500).gauge == "green"
    assert verdict(FINE, TRAINED, compared=compared(0.6, best_rsp=0.7), n_frames=500).gauge == "green"
    assert verdict(FINE, TRAINED, compared=compared(0.3), n_frames=50).gauge == "green"
    assert verdict(FINE, TRAINED, compared=compared(float("nan")), n_frames=500).gauge == "green"


def test_a_calibration_that_the_stream_contradicts_is_amber() -> None:
    wrong = Comparison(sentence="The stream looks otherwise.", contradicts=True)
    assert verdict(FINE, TRAINED, calibration=wrong) == Verdict(gauge="amber", sentence=wrong.sentence)
    assert verdict(BRIGHT, TRAINED, calibration=wrong).sentence.startswith("Background")
    assert verdict(FINE, TRAINED, calibration=replace(wrong, contradicts=False)).gauge == "green"


def test_what_needs_no_card_is_told_without_one() -> None:
    assert verdict(FINE, None, compared=compared(0.95), n_frames=500).gauge == "unknown"
    assert verdict(FINE, None, blinking="never").gauge == "red"
    assert verdict(FINE, None, compared=compared(0.3), n_frames=500).gauge == "red"


def test_light_comes_from_the_comparison_where_no_spot_stood_alone() -> None:
    dense = Figures(psf_sigma_nm=115, background=30, density_per_um2=5)
    told = light_of_emitters(dense, compared(0.95), 500)
    assert (told.photons, told.background, told.psf_sigma_nm) == (700.0, 12.0, 115)
    assert light_of_emitters(FINE, compared(0.95), 500) == FINE
    for poor in (compared(0.6), compared(0.3, best_rsp=0.4), None):
        assert light_of_emitters(dense, poor, 500) == dense


def test_a_crowd_that_the_network_cannot_count_is_told_by_its_light() -> None:
    counted = Figures(psf_sigma_nm=115, background=30, density_per_um2=7)
    crowd = Crowd(photons=900, background=14, density_per_um2=16)
    told = light_of_emitters(counted, compared(0.8), 500, crowd)
    assert (told.photons, told.background, told.density_per_um2) == (900, 14, 16)
    light = verdict(told, TRAINED, blinking="yes", compared=compared(0.8), n_frames=500)
    assert light.gauge == "red"
    assert light.sentence.startswith("Density 16.0 emitters/µm², the model knows 0.2 to 12.0: 33 % too high")
    # Of spots that stand alone more is known, and what the network tells apart is there.
    assert light_of_emitters(FINE, compared(0.95), 500, crowd) == replace(FINE, density_per_um2=16)
    few = replace(crowd, density_per_um2=0.5)
    assert light_of_emitters(FINE, compared(0.95), 500, few) == FINE
    assert light_of_emitters(counted, compared(0.3, best_rsp=0.4), 500, crowd) == counted
