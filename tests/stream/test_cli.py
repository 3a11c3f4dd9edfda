"""What the command line says to bad input: one line, a non-zero status, no traceback."""

import socket
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stormlive.cli.app import run


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    status = run([str(a) for a in arguments])
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert status in (1, 2), said.err
    assert "Traceback" not in said.err + said.out
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert lines[-1] == errors[0]
    return errors[0]


def write_movie(name: str, frames: np.ndarray, **options: object) -> Path:
    path = Path(name)
    tifffile.imwrite(path, frames, **options)  # type: ignore[arg-type]
    return path


def test_missing_movie(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in complaint(capsys, "reconstruct", "missing.tif", "-o", "x.ome.tif")


def test_truncated_movie(capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_movie("whole.tif", np.full((10, 64, 64), 100, np.uint16)).read_bytes()
    Path("cut.tif").write_bytes(whole[: len(whole) * 6 // 10])
    line = complaint(capsys, "reconstruct", "cut.tif", "-o", "x.ome.tif")
    assert "cut short" in line
    assert not Path("x.ome.tif").exists()
    assert "cut short" in complaint(capsys, "acquire", "--headless", "--camera-movie", "cut.tif", "--out", "run")


def test_colour_movie(capsys: pytest.CaptureFixture[str]) -> None:
    write_movie("rgb.tif", np.zeros((3, 32, 32, 3), np.uint8), photometric="rgb")
    assert "RGB" in complaint(capsys, "reconstruct", "rgb.tif", "-o", "x.ome.tif")


def test_nan_in_a_float_movie(capsys: pytest.CaptureFixture[str]) -> None:
    frames = np.full((5, 32, 32), 120, np.float32)
    frames[3, 4, 5] = np.nan
    write_movie("nan.tif", frames)
    line = complaint(capsys, "reconstruct", "nan.tif", "-o", "x.ome.tif")
    assert "frame 3" in line
    assert "x 5, y 4" in line
    assert "uint16" in complaint(capsys, "acquire", "--headless", "--camera-movie", "nan.tif", "--out", "run")


def test_unknown_option_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    line = complaint(capsys, "reconstruct", "m.tif", "-o", "x.ome.tif", "--pixel-sze-nm", "100")
    assert "--pixel-size-nm" in line


def test_unknown_key_in_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.toml").write_text("[training]\nlearningrate = 1\n")
    assert "did you mean 'learning_rate'" in complaint(capsys, "train", "r.toml", "-o", "m.safetensors")


def test_pixel_size_that_contradicts_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    write_movie("m.tif", np.full((2, 16, 16), 100, np.uint16))
    line = complaint(capsys, "reconstruct", "m.tif", "-o", "x.ome.tif", "--pixel-size-nm", "160")
    assert "100 nm" in line
    assert "160 nm" in line


def test_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = complaint(capsys, "serve", "--bind", f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    assert "in use" in line
    assert "--bind" in line


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["serve", "--bind", "tcp://0.0.0.0:5557"], "loopback"),
        (["serve", "--model", "livnet"], "did you mean 'livenet'"),
        (["serve", "--device", "cuda:7"], "cuda:7"),
        (["reconstruct", "m.tif", "-o", "nowhere/x.ome.tif"], "does not exist"),
        (["acquire", "--camera-movie", "a.tif", "--config", "b.cfg"], "one of them"),
        (["acquire", "--headless", "--config", "b.cfg"], "b.cfg"),
        (["acquire", "--headless", "--size", "64"], "WIDTHxHEIGHT"),
        (["acquire", "--headless", "--roi", "1,2,3"], "X,Y,WIDTH,HEIGHT"),
        (["simulate", "-o", "m.tif", "--truth", "t.csv", "--size", "4x4"], "8 to 4096"),
        (["demo", "--seconds", "0"], "seconds"),
        (["reconstruct", "m.tif", "-o", "x.ome.tif", "--photons-per-adu", "0"], "--photons-per-adu"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_other_bad_input(capsys: pytest.CaptureFixture[str], arguments: list[str], word: str) -> None:
    assert word in complaint(capsys, *arguments)


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    shown = capsys.readouterr().out
    for command in ("demo", "serve", "acquire", "reconstruct", "simulate", "train", "models"):
        assert command in shown


def test_models_are_listed_with_their_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    assert "livenet" in capsys.readouterr().out
