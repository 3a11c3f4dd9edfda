"""A camera's baseline and gain from its own frames, for who has no certificate."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stormlive.cli.app import run

BASELINE_ADU, ADU_PER_PHOTON, READ_NOISE = 130.0, 2.0, 1.5


def camera_movie(path: Path, photons: np.ndarray, n: int = 32) -> Path:
    """Write frames of an sCMOS camera; the same seed for all that see the same."""
    generator = np.random.default_rng(1)
    electrons = generator.poisson(photons, (n, *photons.shape)) + generator.normal(0, READ_NOISE, (n, *photons.shape))
    tifffile.imwrite(
        path, np.rint(BASELINE_ADU + ADU_PER_PHOTON * electrons).astype(np.uint16), photometric="minisblack"
    )
    return path


LIGHT = np.outer(np.linspace(3, 150, 96), np.linspace(0.3, 1, 128))


def told(text: str, kind: str) -> tuple[float, float, float]:
    """Return (baseline, its error, photons per ADU) of a row."""
    found = re.search(rf"{kind}\D+([\d.]+) ± ([\d.]+)\D+([\d.]+) ±", text)
    assert found is not None, text
    baseline, error, gain = map(float, found.groups())
    return baseline, error, gain


def test_baseline_and_gain_are_those_of_the_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    movie = camera_movie(tmp_path / "movie.tif", LIGHT)
    assert run(["calibrate", str(movie)]) == 0
    baseline, error, gain = told(capsys.readouterr().out, "sCMOS")
    assert abs(baseline - BASELINE_ADU) < 3 * error
    assert gain == pytest.approx(1 / ADU_PER_PHOTON, rel=0.1)
    dark = camera_movie(tmp_path / "dark.tif", np.zeros(LIGHT.shape))
    assert run(["calibrate", str(movie), "--dark", str(dark)]) == 0
    baseline, error, _ = told(capsys.readouterr().out, "sCMOS")
    assert abs(baseline - BASELINE_ADU) < 0.6
    assert error <= 1


@pytest.mark.parametrize(
    ("photons", "n", "words"),
    [
        (np.full(LIGHT.shape, 20.0), 32, "all as bright"),
        (LIGHT[:16, :16], 32, "too few pixels"),
        (LIGHT, 1, "noise shows between two"),
    ],
)
def test_a_movie_that_cannot_tell_is_refused_with_what_could(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], photons: np.ndarray, n: int, words: str
) -> None:
    assert run(["calibrate", str(camera_movie(tmp_path / "movie.tif", photons, n))]) == 1
    text = " ".join(capsys.readouterr().err.split())
    assert words in text
    assert "give a movie of some hundred raw frames" in text
