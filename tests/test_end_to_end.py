"""The main job whole: camera, real acquisition, wire, network, canvas, files."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ndstorage import Dataset
from PIL import Image

from stormlive.cli.app import run
from stormlive.output.manifest import read_record
from stormlive.output.ome_tiff import read_image
from stormlive_sim.recording import Recording
from stormlive_sim.thunderstorm import read_table

Cli = Callable[..., subprocess.CompletedProcess[str]]


def stormlive(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a movie, its truth and its picture."""
    folder = tmp_path_factory.mktemp("movie")
    movie, truth = folder / "movie.tif", folder / "truth.csv"
    assert stormlive("simulate", "-o", movie, "--truth", truth, "--frames", 60, "--size", "48x40") == 0
    assert stormlive("reconstruct", movie, "-o", folder / "offline.ome.tif", "--exposure-ms", 10) == 0
    return folder


def test_a_movie_through_the_real_acquisition_gives_the_offline_picture(tmp_path: Path, folder: Path, cli: Cli) -> None:
    movie = folder / "movie.tif"
    live = cli("acquire", "--camera-movie", movie, "--headless", "--out", "run", "--exposure-ms", 10)
    assert live.returncode == 0, live.stderr
    assert "60 of 60 frames are in the picture." in live.stderr

    left = tmp_path / "run"
    record = read_record(left)
    assert record.frames["live"] == [[0, 59]]
    assert record.frames["missing"] == {}
    assert record.exit_status == "ok"
    assert len(record.model.weights_sha256) == 64
    assert {f.name for f in record.files} <= {f.name for f in left.iterdir()}

    canvas, pixel_size_nm = read_image(left / "superres.ome.tif")
    expected, offline_nm = read_image(folder / "offline.ome.tif")
    assert pixel_size_nm == offline_nm == pytest.approx(12.5)
    assert canvas.shape == (320, 384)
    assert canvas.sum() > 500
    assert np.allclose(canvas, expected, rtol=1e-4, atol=1e-3)

    raw = Dataset(str(left / "raw_1"))
    with Recording.open(movie) as recording:
        assert len(raw.get_image_coordinates_list()) == len(recording) == 60
        for number in range(60):
            assert np.array_equal(raw.read_image(time=number), recording.frame(number))
    raw.close()

    # The saved raw data gives the same picture again.
    assert stormlive("reconstruct", left / "raw_1", "-o", tmp_path / "again.ome.tif") == 0
    assert np.array_equal(read_image(tmp_path / "again.ome.tif")[0], expected)


def test_the_canvas_lies_on_the_truth(folder: Path) -> None:
    canvas, _ = read_image(folder / "offline.ome.tif")
    truth = read_table(folder / "truth.csv")
    rows, columns = (truth.y_nm / 12.5).long().numpy(), (truth.x_nm / 12.5).long().numpy()
    near = np.zeros(canvas.shape, bool)
    for dy in range(-4, 5):
        for dx in range(-4, 5):
            near[np.clip(rows + dy, 0, 319), np.clip(columns + dx, 0, 383)] = True
    assert canvas[near].sum() > 0.8 * canvas.sum()
    # A shift by one camera pixel would put most of it beside the filaments.
    assert canvas[np.roll(near, 8, 1)].sum() < 0.8 * canvas[near].sum()


def test_the_demo_leaves_pictures_and_record(tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    done = cli("demo", "--headless", "--seconds", 2, "--size", "40x32", "--out", "demo")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "demo"
    assert read_record(folder).frames["frames"] == 67
    with Image.open(folder / "side_by_side.png") as picture:
        assert picture.width > 2 * picture.height
    assert (folder / "preview.png").stat().st_size > 1000
    assert stormlive("demo", "--headless", "--out", folder) == 1
    assert "already holds a run" in capsys.readouterr().err


def test_a_model_that_contradicts_the_camera_is_refused_before_the_acquisition(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movie, out = folder / "movie.tif", tmp_path / "run"
    assert stormlive("acquire", "--camera-movie", movie, "--headless", "--pixel-size-nm", 300, "--out", out) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    for word in ("takes camera pixels of", "300 nm", "--pixel-size-nm"):
        assert word in line
    assert not out.exists()
