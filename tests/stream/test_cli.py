"""What the command line says to bad input: one line, a non-zero status, no traceback."""

import errno
import re
import socket
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch

from stormlive.cli import app as app_module
from stormlive.cli.app import run
from stormlive.offline.blocks import Block, blocks
from stormlive.output.manifest import read_record
from stormlive.output.tables import CsvTable
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError
from stormlive_sim.movie import Scene
from stormlive_sim.recording import Recording
from stormlive_sim.thunderstorm import read_table


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
    line = complaint(capsys, "reconstruct", "two  spaces/:no: movie.tif", "-o", "x.ome.tif")
    assert f"{Path('two  spaces/:no: movie.tif')}, but there is no such file" in line


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
    line = complaint(capsys, "reconstruct", "m.tif", "-o", "x.ome.tif", "--pixel-size-nm", "300")
    assert "takes camera pixels of" in line
    assert "300 nm" in line


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
        (["acquire", "--headless", "--config", "b.cfg"], "--baseline-adu"),
        (["demo", "--headless", "--exposure-ms", "0.01"], "--exposure-ms of at least"),
        (["acquire", "--headless", "--size", "64"], "WIDTHxHEIGHT"),
        (["acquire", "--headless", "--roi", "1,2,3"], "X,Y,WIDTH,HEIGHT"),
        (["acquire", "--headless", "--roi", "60,60,4,4"], "is too small in the camera's picture of 64x64 pixels"),
        (["simulate", "-o", "m.png", "--truth", "t.csv"], "m.png is to be the movie, a 16-bit TIFF"),
        (["serve", "--model", "nonsense"], "; those that ship are: "),
        (["simulate", "-o", "m.tif", "--truth", "t.csv", "--size", "4x4"], "8 to 4096"),
        (["demo", "--seconds", "0"], "seconds"),
        (["reconstruct", "m.tif", "-o", "x.ome.tif", "--photons-per-adu", "0"], "--photons-per-adu"),
        (["view", "nofolder"], "there is no folder nofolder"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_other_bad_input(capsys: pytest.CaptureFixture[str], arguments: list[str], word: str) -> None:
    assert word in complaint(capsys, *arguments)


@pytest.mark.parametrize("suffix", [".csv", ".hdf5"])
def test_what_is_stopped_leaves_nothing_half_written_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    assert run(["simulate", "-o", "m.tif", "--truth", "t.csv", "--frames", "100", "--size", "32x32"]) == 0
    command = ["reconstruct", "m.tif", "-o", "p.ome.tif", "--localizations", f"p{suffix}", "--model", "small"]
    command += ["--device", "cpu:torch"]
    before = set(Path().iterdir())

    def stopped(failure: BaseException) -> SimpleNamespace:
        """Fail after the first block, when the table has its rows."""

        def one_block(movie: Recording, context: int) -> Iterator[Block]:
            yield next(blocks(movie, context))
            assert any(path.suffix == suffix and path.stat().st_size for path in set(Path().iterdir()) - before)
            raise failure

        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr("stormlive.offline.blocks.blocks", one_block)
            status = run(command)
        return SimpleNamespace(status=status, lines=capsys.readouterr().err.strip().splitlines())

    for failure, status in ((KeyboardInterrupt(), 130), (OSError(errno.EIO, "the share is gone"), 1)):
        result = stopped(failure)
        assert result.status == status
        last = result.lines[-1 if status == 130 else -2]
        assert last == "p.ome.tif is not finished: nothing half written is left"
        assert set(Path().iterdir()) == before

    assert run(command) == 0
    first = {path: path.read_bytes() for path in set(Path().iterdir()) - before}
    assert Path(f"p{suffix}") in first
    command += ["--overwrite", "--photons-per-adu", "0.4"]
    assert "what an earlier run wrote stays as it was" in stopped(KeyboardInterrupt()).lines[-1]
    assert {path: path.read_bytes() for path in set(Path().iterdir()) - before} == first

    def ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stormlive.output.ome_tiff.write_image", ctrl_c)
    assert run(command) == 130
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"p.ome.tif is not finished; whole are p{suffix}")
    assert "p.png" not in last
    assert Path(f"p{suffix}").read_bytes() != first[Path(f"p{suffix}")]


def test_a_full_disk_ends_the_table_and_leaves_the_picture(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert run(["simulate", "-o", "m.tif", "--truth", "t.csv", "--frames", "20", "--size", "32x32"]) == 0
    monkeypatch.setattr(CsvTable, "append", full)
    command = ["reconstruct", "m.tif", "-o", "p.ome.tif", "--localizations", "p.csv", "--model", "small"]
    error = complaint(capsys, *command, "--device", "cpu:torch")
    assert "No space left on device; p.csv was not written" in error
    assert [file.name for file in read_record(Path("p.run.json")).files] == ["p.ome.tif", "p.png"]
    assert [path.name for path in Path().glob("*.csv")] == ["t.csv"]


def test_a_picture_says_in_the_end_whether_to_trust_it_and_is_never_lost_unasked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulate = ["simulate", "-o", "m.tif", "--truth", "t.csv", "--frames", "100", "--size", "40x32"]
    assert run(simulate) == 0
    command = ["reconstruct", "m.tif", "-o", "p.ome.tif", "--localizations", "p.csv", "--model", "small"]
    command += ["--device", "cpu:torch"]
    assert run(command) == 0
    assert "judgement: green. The frames are like those" in capsys.readouterr().err
    again = complaint(capsys, "reconstruct", "p.ome.tif", "-o", "again.ome.tif")
    assert "p.ome.tif is a picture that stormlive made" in again
    first = {name: Path(name).read_bytes() for name in ("p.ome.tif", "p.png", "p.run.json", "p.csv")}
    record = read_record(Path("p.run.json"))
    assert record.judgement is not None
    assert record.judgement.final.gauge == "green"
    assert record.judgement.final.photons == pytest.approx(1500, rel=0.4)
    assert (record.frames["replayed"], record.frames["judged"]) == ([[0, 99]], 64)
    assert [file.name for file in record.files] == ["p.ome.tif", "p.png", "p.csv"]

    wrong = [*command, "--photons-per-adu", "20"]
    for name in first:
        Path(name).rename("kept")
        for other in first.keys() - {name}:
            Path(other).rename(f"{other}.away")
        Path("kept").rename(name)
        assert f"{name} exists already; choose another name, or add --overwrite" in complaint(capsys, *wrong)
        assert Path(name).read_bytes() == first[name]
        for other in first.keys() - {name}:
            Path(f"{other}.away").rename(other)
    assert run([*wrong, "--overwrite"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "judgement: red. " in said
    assert read_record(Path("p.run.json")).judgement.final.gauge == "red"  # type: ignore[union-attr]
    assert all(Path(name).read_bytes() != before for name, before in first.items())

    Path("t.csv").unlink()
    assert "m.tif exists already" in complaint(capsys, *simulate)
    assert not Path("t.csv").exists()


def test_a_movie_of_which_nothing_is_found_is_judged_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Larger than what is looked at closely, with an empty canvas; and one frame."""
    write_movie("m.tif", np.full((2, 20, 300), 100, np.uint16), photometric="minisblack")
    write_movie("one.tif", np.full((1, 8, 8), 100, np.uint16))
    for name in ("m", "one"):
        command = ["reconstruct", f"{name}.tif", "-o", f"{name}.ome.tif", "--device", "cpu:torch", "--model", "small"]
        assert run(command) == 0
        assert "judgement: " in capsys.readouterr().err
        assert read_record(Path(f"{name}.run.json")).judgement is not None


def test_a_run_s_folder_is_answered_with_that_of_its_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    raw = Path("run") / "raw_1"
    raw.mkdir(parents=True)
    (raw / "NDTiff.index").touch()
    assert f"give {raw}" in complaint(capsys, "reconstruct", "run", "-o", "x.ome.tif")


def test_a_region_beyond_the_frames_is_refused_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stormlive.server.engine.Engine", pytest.fail)
    monkeypatch.setattr("stormlive.cli.session.run_session", pytest.fail)
    write_movie("m.tif", np.full((2, 30, 40), 120, np.uint16))
    for command in (["reconstruct", "m.tif", "-o", "x.ome.tif"], ["acquire", "--headless", "--camera-movie", "m.tif"]):
        line = complaint(capsys, *command, "--region", "10,0,31,30")
        assert "inside frames of 40x30 pixels, got 10,0,31,30" in line
        assert "X + WIDTH may be 40 at most, Y + HEIGHT 30" in line
    assert [path.name for path in Path().iterdir()] == ["m.tif"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--camera-movie", "m.tif"], "so supposed as of the simulated camera: --pixel-size-nm 100, --baseline-adu "),
        (["--camera-movie", "m.tif", "--baseline-adu", "90"], ": --pixel-size-nm 100, --photons-per-adu 0.5, "),
        (["--size", "32x24"], "a simulated camera of 32x24 pixels, with --pixel-size-nm 100, --baseline-adu 100, "),
    ],
)
def test_an_acquisition_tells_once_which_camera_it_takes(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: object, **__: object) -> None:
        assert capsys.readouterr().err.count(told) == 1, "before the run"
        raise InputError("as far as this")

    monkeypatch.setattr("stormlive.cli.session.run_session", begun)
    write_movie("m.tif", np.full((2, 16, 16), 120, np.uint16))
    assert "as far as this" in complaint(capsys, "acquire", "--headless", *options)


def test_a_calibration_that_was_not_given_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    write_movie("m.tif", np.full((2, 16, 16), 120, np.uint16))
    given = ["--pixel-size-nm", "100", "--baseline-adu", "90", "--photons-per-adu", "0.5", "--exposure-ms", "30"]
    for told, options in (("--baseline-adu 100, --photons-per-adu", given[:2]), ("", given)):
        assert run(["reconstruct", "m.tif", "-o", f"{len(options)}.ome.tif", "--device", "cpu:torch", *options]) == 0
        said = capsys.readouterr()
        assert ("supposed" in said.out + said.err) == bool(told)
        assert told in said.out + said.err


def test_what_a_recording_needs_has_no_default_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", "--help"]) == 0
    needed = capsys.readouterr().out.partition("all four are needed")[2]
    assert needed.count("--") == 4
    assert "default" not in needed
    assert run(["simulate", "--help"]) == 0
    assert run(["acquire", "--help"]) == 0
    assert "default" in capsys.readouterr().out.partition("Camera calibration")[2]


@pytest.mark.parametrize("command", app_module._COMMANDS)
def test_help_speaks_of_things_not_of_types(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert not re.search(r"<\w+>|<list|range>|x[<>]=|\[\[|e-\d\d", shown)


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    shown = capsys.readouterr().out
    for command in ("demo", "serve", "acquire", "reconstruct", "simulate", "train", "models"):
        assert command in shown


def test_models_are_listed_with_their_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    assert "livenet" in capsys.readouterr().out


def disk_full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "-o", "file/m.tif", "--truth", "t.csv"],
        ["simulate", "-o", "m.tif", "--truth", "file/t.csv"],
        ["train", "r.toml", "-o", "file/x.safetensors"],
        ["reconstruct", "m.tif", "-o", "file/x.ome.tif"],
    ],
    ids=" ".join,
)
def test_a_folder_that_is_a_file(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    Path("file").touch()
    Path("r.toml").touch()
    assert "file does not exist" in complaint(capsys, *arguments)
    assert sorted(path.name for path in Path().iterdir()) == ["file", "r.toml"]


def test_a_folder_that_refuses_is_found_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def refuse(path: Path, mode: str = "r", *more: object, **options: object) -> object:
        if "r" not in mode:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, mode, *more, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("stormlive_sim.movie.Scene", pytest.fail)
    monkeypatch.setattr("stormlive_models.training.loop.train", pytest.fail)
    line = complaint(capsys, "simulate", "-o", "m.tif", "--truth", "t.csv")
    assert "cannot write m.tif: Permission denied" in line
    monkeypatch.setattr("stormlive_models.training.recipe.read_recipe", lambda _: None)
    assert "cannot write x.safetensors" in complaint(capsys, "train", "r.toml", "-o", "x.safetensors")


@pytest.mark.parametrize(
    ("fails", "blamed"),
    [("tifffile.TiffWriter.write", "m.tif"), ("os.fsync", "m.tif"), ("csv.writer", "t.csv")],
)
def test_a_full_disk_leaves_neither_movie_nor_truth(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fails: str, blamed: str
) -> None:
    full = SimpleNamespace(writerow=disk_full)
    monkeypatch.setattr(fails, (lambda _: full) if blamed == "t.csv" else disk_full)
    line = complaint(capsys, "simulate", "-o", "m.tif", "--truth", "t.csv", "--frames", "20")
    assert f"cannot write {blamed}: No space left on device" in line
    assert "MB are free" in line
    assert list(Path().iterdir()) == []


def test_whatever_else_the_system_refuses_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stormlive_models.zoo.shipped", disk_full)
    assert "No space left on device" in complaint(capsys, "models")


def test_simulate_writes_the_truth_while_it_makes_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []
    tables: weakref.WeakSet[Emitters] = weakref.WeakSet()
    frames = Scene.frames

    def watched(scene: Scene, n: int, exposure_ms: float) -> Iterator[tuple[torch.Tensor, Emitters]]:
        for image, table in frames(scene, n, exposure_ms):
            tables.add(table)
            alive.append(len(tables))
            yield image, table

    monkeypatch.setattr(Scene, "frames", watched)
    assert run(["simulate", "-o", "m.tif", "--truth", "t.csv", "--frames", "30"]) == 0
    assert len(alive) == 30
    assert max(alive) <= 3
    with tifffile.TiffFile("m.tif") as tiff:
        assert len(tiff.pages) == 30
    truth = read_table(Path("t.csv"))
    assert (truth.frame.min(), truth.frame.max()) == (0, 29)
    assert sorted(path.name for path in Path().iterdir()) == ["m.tif", "t.csv"]


def test_the_movie_itself_is_never_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    movie = write_movie("m.tif", np.full((2, 16, 16), 100, np.uint16))
    before = movie.read_bytes()
    assert "the movie itself" in complaint(capsys, "reconstruct", "m.tif", "-o", "./m.tif")
    assert movie.read_bytes() == before
    assert ".ome.tif" in complaint(capsys, "reconstruct", "m.tif", "-o", "picture.png")
    assert "names of their own" in complaint(capsys, "simulate", "-o", "s.tif", "--truth", "s.tif")
