"""A camera's baseline and gain from its own frames, for who has no certificate."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

from stormlive.cli.app import run
from stormlive_sim.pixel_maps import PixelVariation, draw_pixel_maps
from stormlive_sim.sensor import Sensor, emccd, scmos

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


DARK = np.zeros(LIGHT.shape)
CAMERAS = {
    "sCMOS": scmos(BASELINE_ADU, 0.5),
    "EMCCD": emccd(BASELINE_ADU, 0.5),
    "unequal": Sensor(
        baseline_adu=BASELINE_ADU,
        electrons_per_adu=0.5,
        maps=draw_pixel_maps(
            PixelVariation(
                offset_sd_adu=3,
                gain_spread=0.03,
                read_noise_spread=0.6,
                dark_e_per_s=1,
                hot_share=0.02,
                dead_share=0.001,
            ),
            LIGHT.shape,
            torch.Generator().manual_seed(3),
        ),
    ),
}


def movie_of(path: Path, camera: str, photons: np.ndarray) -> str:
    """Write 64 frames of a simulated camera under light (Y, X) or (64, Y, X)."""
    expected = torch.from_numpy(np.broadcast_to(photons, (64, *LIGHT.shape)).astype(np.float32))
    adu = CAMERAS[camera].expose(expected, torch.Generator().manual_seed(5), exposure_ms=100)
    tifffile.imwrite(path, adu.numpy().astype(np.uint16), photometric="minisblack")
    return str(path)


def blinking(background: float) -> np.ndarray:
    """Return spots that come and go at their places on even light, (64, Y, X)."""
    generator = np.random.default_rng(2)
    spots = np.zeros((64, *LIGHT.shape))
    for row, column in generator.integers(4, np.array(LIGHT.shape) - 4, (60, 2)):
        spots[generator.random(64) < 0.1, row, column] = 1000
    return background + gaussian_filter(spots, (0, 1.2, 1.2))


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_movie_with_light_is_not_believed_to_be_dark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], camera: str
) -> None:
    lit = movie_of(tmp_path / "lit.tif", camera, LIGHT)
    kind = "EMCCD" if camera == "EMCCD" else "sCMOS"

    assert run(["calibrate", lit, "--dark", movie_of(tmp_path / "dark.tif", camera, DARK)]) == 0
    said = capsys.readouterr()
    assert abs(told(said.out, kind)[0] - BASELINE_ADU) < 3  # the hot pixels' own light is in it
    assert "dark" not in said.err

    for light in (LIGHT, blinking(0.0), blinking(30.0)):
        assert run(["calibrate", lit, "--dark", movie_of(tmp_path / "bright.tif", camera, light)]) == 1
        said = capsys.readouterr()
        assert "bright.tif is not dark" in said.err
        assert "cover the camera, close the shutter and record some 100 frames at the same exposure" in said.err
        assert not said.out

    # Even light is the same as a camera that reads more noise, so that it is only told.
    assert run(["calibrate", lit, "--dark", movie_of(tmp_path / "even.tif", camera, DARK + 30)]) == 0
    assert "even.tif may not be dark" in capsys.readouterr().err
