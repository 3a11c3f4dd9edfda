"""Tables of localizations: what their readers find in them, while they grow, at the end and after a kill."""

import subprocess
import sys
import threading
import time
from io import FileIO
from pathlib import Path
from uuid import uuid4

import h5py
import numpy as np
import psutil
import pytest
import tifffile
import torch
import yaml

from children import killed_at_last
from stormlive import StreamHook
from stormlive.cli.app import run as run_command
from stormlive.output.manifest import read_record
from stormlive.output.tables import LOCALIZATION, append_whole, open_table
from stormlive.server import accumulator
from stormlive.server.engine import Engine
from stormlive.server.finish import RunWriter
from stormlive.server.loop import Server
from stormlive.server.run import Ending
from stormlive.server.run_table import RunTable
from stormlive.server.runs import Runs
from stormlive.server.worker import Worker
from stormlive.wire.calibration import Calibration
from stormlive.wire.frame import Frame
from stormlive.wire.messages import Final, Start
from stormlive_models.checkpoint import ModelCard, save_model
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_sim.errors import InputError
from stormlive_sim.movie import Scene, SceneSettings
from stormlive_sim.thunderstorm import read_table

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=30)
SHAPE = (32, 40)
FORMATS = [".csv", ".hdf5"]


def some_rows(n: int, frame: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rows = np.zeros(n, LOCALIZATION)
    rows["frame"] = frame
    rows["x_nm"], rows["y_nm"] = generator.uniform(0, 4000, n), generator.uniform(0, 3200, n)
    rows["photons"] = generator.uniform(100, 3000, n)
    rows["sigma_x_nm"], rows["sigma_y_nm"] = generator.uniform(3, 40, (2, n))
    rows["probability"] = generator.uniform(0.5, 1, n)
    return rows


def csv_rows(path: Path) -> np.ndarray:
    return np.genfromtxt(path, delimiter=",", skip_header=1, ndmin=2)


def picasso_info(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(path.with_suffix(".yaml").read_text()))


def picasso_locs(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["locs"][...]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("livenet", "cpu")


@pytest.fixture(scope="module")
def movie() -> np.ndarray:
    scene = Scene(SceneSettings(shape=SHAPE, density_per_um2=2.0))
    return np.stack([image.numpy() for image, _ in scene.frames(12, 30.0)])


def offline(engine: Engine, movie: np.ndarray, numbers: list[int], path: Path) -> Path:
    """Write the table that the frames `numbers` of the movie give, one by one."""
    reconstruction = engine.open(SHAPE, CALIBRATION)
    table = open_table(path, shape=SHAPE, pixel_size_nm=100.0)
    for number in numbers:
        reconstruction.add(movie[number][None], RunTable(table).sink([number]))
    table.close(len(movie))
    return path


def test_the_csv_is_whole_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    table = open_table(path, shape=SHAPE, pixel_size_nm=100.0)
    assert len(read_table(path)) == 0
    appended = []
    for frame in (0, 3, 4):
        appended.append(some_rows(20, frame, seed=frame))
        table.append(appended[-1])
        expected = np.concatenate(appended)
        found = read_table(path)
        assert found.frame.tolist() == expected["frame"].tolist()
        for column, name, digit in (
            (found.x_nm, "x_nm", 0.01),
            (found.y_nm, "y_nm", 0.01),
            (found.photons, "photons", 0.1),
        ):
            assert np.allclose(column, expected[name], atol=digit)
    table.close(5)
    header, first = path.read_text().splitlines()[:2]
    # What Picasso's import asks for; ThunderSTORM and SMAP want less.
    needed = ("frame", "x [nm]", "y [nm]", "sigma [nm]", "intensity [photon]", "offset [photon]", "uncertainty_xy [nm]")
    assert {f'"{name}"' for name in needed} <= set(header.split(","))
    assert first.startswith("1,1,")
    rows, expected = csv_rows(path), np.concatenate(appended)
    assert rows[:, 0].tolist() == list(range(1, 61))
    assert np.allclose(rows[:, 8:11], np.stack([expected[n] for n in LOCALIZATION.names[4:]], 1), atol=0.006)
    assert np.allclose(rows[:, 7], np.hypot(rows[:, 8], rows[:, 9]) / 2**0.5, atol=0.02)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_table_goes_on_from_a_mark_as_if_nothing_had_come_since(suffix: str, tmp_path: Path) -> None:
    first, lost, second = some_rows(20, 0), some_rows(30, 1, seed=1), some_rows(25, 2, seed=2)
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    table = open_table(whole, shape=SHAPE, pixel_size_nm=100.0)
    for rows in (first, second):
        table.append(rows.copy())
    table.close(3)
    table = open_table(cut, shape=SHAPE, pixel_size_nm=100.0)
    table.append(first.copy())
    mark = table.mark()
    table.append(lost.copy())
    table.sync()
    table.close(0)
    table = open_table(cut, shape=SHAPE, pixel_size_nm=100.0, mark=mark)
    assert table.mark() == mark
    table.append(second.copy())
    table.close(3)
    assert cut.read_bytes() == whole.read_bytes()
    if suffix == ".hdf5":
        assert picasso_info(cut) == picasso_info(whole)
        assert len(picasso_locs(cut)) == 45
    cut.write_bytes(cut.read_bytes()[:50])
    with pytest.raises(InputError, match="fewer than"):
        open_table(cut, shape=SHAPE, pixel_size_nm=100.0, mark=mark)


def test_the_hdf5_is_what_picasso_reads(tmp_path: Path) -> None:
    """The structure that picasso.io.load_locs and picasso.lib.ensure_sanity (0.11.3) ask for."""
    path = tmp_path / "t.hdf5"
    table = open_table(path, shape=SHAPE, pixel_size_nm=106.5)
    assert len(picasso_locs(path)) == 0
    appended = [some_rows(n, frame) for frame, n in ((0, 7), (2, 5000), (6, 1))]
    for rows in appended:
        table.append(rows)
    table.append(some_rows(0, 8))
    assert len(picasso_locs(path)) == 5008
    table.close(9)
    locs = picasso_locs(path)
    expected = np.concatenate(appended)
    assert locs.dtype.names == ("frame", "x", "y", "photons", "lpx", "lpy", "probability")
    assert locs["frame"].dtype == np.uint32
    assert locs["frame"].tolist() == expected["frame"].tolist()
    sources = {"x": "x_nm", "y": "y_nm", "lpx": "sigma_x_nm", "lpy": "sigma_y_nm"}
    for name, source in sources.items():
        assert np.allclose(locs[name] * 106.5, expected[source], rtol=1e-6)
    info = picasso_info(path)
    assert info[0] == {"Frames": 9, "Height": 32, "Width": 40}
    assert info[1]["Pixelsize"] == 106.5
    assert "stormlive" in info[1]["Generated by"]
    sane = (locs["x"] < info[0]["Width"]) & (locs["y"] < info[0]["Height"]) & (locs["lpx"] > 0)
    assert sane.all()


CHILD = """
import sys, numpy as np
from pathlib import Path
from stormlive.output.tables import LOCALIZATION, open_table
table = open_table(Path(sys.argv[1]), shape=(32, 40), pixel_size_nm=100.0)
for frame in range(50):
    rows = np.zeros(300, LOCALIZATION)
    rows["frame"], rows["photons"] = frame, 1000 + frame
    table.append(rows)
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_kill_costs_no_row_and_readers_need_not_wait(
    tmp_path: Path, child_environment: dict[str, str], suffix: str
) -> None:
    path = tmp_path / f"t{suffix}"

    def photons() -> list[float]:
        if suffix == ".csv":
            return csv_rows(path)[:, 5].tolist()
        assert picasso_info(path)[0]["Frames"] == 50
        return picasso_locs(path)["photons"].tolist()

    expected = np.repeat(1000.0 + np.arange(50), 300).tolist()
    with killed_at_last(
        subprocess.Popen(
            [sys.executable, "-c", CHILD, path], env=child_environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"written"
        assert photons() == expected
        child.kill()
    assert photons() == expected


@pytest.mark.parametrize(("suffix", "n_appends"), [(".csv", 150), (".hdf5", 500)])
def test_memory_stays_flat(tmp_path: Path, suffix: str, n_appends: int) -> None:
    table, rows, process = (
        open_table(tmp_path / f"t{suffix}", shape=SHAPE, pixel_size_nm=100.0),
        some_rows(2000, 0),
        psutil.Process(),
    )
    for _ in range(50):
        table.append(rows)
    before = process.memory_info().rss
    for _ in range(n_appends):
        table.append(rows)
    assert process.memory_info().rss - before < 0.5 * n_appends * rows.nbytes
    table.close(1)


@pytest.mark.parametrize("name", ["t.txt", "t", "t.h5", "t.CSV"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.csv .*\.hdf5"):
        open_table(tmp_path / name, shape=SHAPE, pixel_size_nm=100.0)


@pytest.mark.parametrize(("name", "there"), [("t.csv", "t.csv"), ("t.hdf5", "t.hdf5"), ("t.hdf5", "t.yaml")])
def test_what_exists_is_not_touched(tmp_path: Path, name: str, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(InputError, match=f"{there} exists already"):
        open_table(tmp_path / name, shape=SHAPE, pixel_size_nm=100.0)
    assert [f.name for f in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for suffix in FORMATS:
        with pytest.raises(InputError, match="cannot create"):
            open_table(tmp_path / "nowhere" / f"t{suffix}", shape=SHAPE, pixel_size_nm=100.0)


class FullDisk(FileIO):
    """A file for which there are 1000 bytes left."""

    left = 1000

    def write(self, data: memoryview) -> int:
        if self.left == 0:
            raise OSError(28, "No space left on device")
        n = super().write(data[: self.left])
        self.left -= n
        return n


def test_what_a_full_disk_does_not_take_whole_is_not_in_the_file(tmp_path: Path) -> None:
    with FullDisk(tmp_path / "f", "xb") as file:
        append_whole(file, b"a" * 700)
        with pytest.raises(OSError, match="No space"):
            append_whole(file, b"b" * 700)
    assert (tmp_path / "f").read_bytes() == b"a" * 700


def test_an_hdf5_file_on_a_full_disk_holds_the_rows_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.hdf5"
    table = open_table(path, shape=SHAPE, pixel_size_nm=100.0)
    table.append(some_rows(500, 3))

    def full(file: FileIO, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stormlive.output.picasso.append_whole", full)
    with pytest.raises(OSError, match="No space"):
        table.append(some_rows(500, 4))
    table.close(9)
    assert picasso_locs(path)["frame"].tolist() == [3] * 500


def test_a_full_disk_ends_the_table_and_nothing_else() -> None:
    class Full:
        appends = 0

        def append(self, rows: np.ndarray) -> None:
            self.appends += 1
            raise OSError(28, "No space left on device")

        def close(self, n_frames: int) -> None:
            raise OSError(28, "No space left on device")

    full = Full()
    table = RunTable(full)
    for _ in range(3):
        table.sink([0, 1])(some_rows(4, 1))
    table.close(2)
    assert full.appends == 1
    assert table.trouble is not None
    assert "No space left" in table.trouble


def test_localizing_costs_the_canvas_nothing_and_counts_frames_through_pieces(
    engine: Engine, movie: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(accumulator._BATCH_PIXELS, "cpu", 5 * movie[0].size)
    plain, localizing = engine.open(SHAPE, CALIBRATION), engine.open(SHAPE, CALIBRATION)
    taken: list[np.ndarray] = []
    plain.add(movie)
    localizing.add(movie, taken.append)
    assert np.array_equal(plain.canvas(), localizing.canvas())
    rows = np.concatenate(taken)
    assert len(taken) == 3
    assert sorted(set(rows["frame"].tolist())) == list(range(12))
    assert (np.diff(rows["frame"]) >= 0).all()


@pytest.mark.parametrize("suffix", FORMATS)
def test_gaps_in_the_stream_do_not_shift_frame_numbers(
    engine: Engine, movie: np.ndarray, tmp_path: Path, suffix: str
) -> None:
    """Through the server's worker: frames 0, 1, 5, 6, 11 came, one of them twice."""
    writer = RunWriter(engine, tmp_path, folder_per_run=True, localizations=Path(f"t{suffix}"))
    posted: list[object] = []
    runs = Runs(max_open=1, max_batch=4)
    worker = Worker(runs, engine, writer, lambda out: posted.append(out.message), writer.open_table)
    identity = uuid4()
    run = runs.start(Start(run=identity, name="gaps", dtype="uint16", shape=SHAPE, calibration=CALIBRATION), b"me")
    run.state = "opening"
    came = [0, 1, 5, 6, 5, 11]
    for seq in came:
        runs.put(run, Frame(run=identity, seq=seq, t_ns=time.perf_counter_ns(), pixels=movie[seq]))
    runs.end(run, Ending(exit_status="ok", n=14))
    runs.stop("server stopped")
    scribe = threading.Thread(target=worker.scribe.work)
    scribe.start()
    worker.work()
    worker.scribe.stop()
    scribe.join()
    (final,) = [message for message in posted if isinstance(message, Final)]
    assert final.error is None
    live = tmp_path / "gaps" / f"t{suffix}"
    expected = offline(engine, movie, [0, 1, 5, 6, 11], tmp_path / f"offline{suffix}")
    if suffix == ".csv":
        found, wanted = csv_rows(live), csv_rows(expected)
        assert set(found[:, 1]) == {1, 2, 6, 7, 12}
        assert np.allclose(found, wanted, atol=0.11)
    else:
        found, wanted = picasso_locs(live), picasso_locs(expected)
        assert set(found["frame"]) == {0, 1, 5, 6, 11}
        for name in found.dtype.names:
            assert np.allclose(found[name], wanted[name], rtol=1e-3, atol=1e-3)
        assert picasso_info(live)[0]["Frames"] == 14
    names = {file.name for file in read_record(tmp_path / "gaps").files}
    assert {f"t{suffix}"} | ({"t.yaml"} if suffix == ".hdf5" else set()) <= names


def test_live_equals_offline_row_for_row(engine: Engine, movie: np.ndarray, tmp_path: Path) -> None:
    writer = RunWriter(engine, tmp_path / "runs", folder_per_run=True, localizations=Path("t.csv"))
    with Server(engine, finish=writer, open_table=writer.open_table, bind="tcp://127.0.0.1:*") as server:
        for _ in range(2):
            hook = StreamHook(server.address, calibration=CALIBRATION, name="cell")
            for number, image in enumerate(movie):
                hook(image, {"Axes": {"time": number}})
            report = hook.close()
            assert report.failed is None
            assert report.complete
    tifffile.imwrite(tmp_path / "m.tif", movie)
    done = run_command(
        [
            "reconstruct",
            str(tmp_path / "m.tif"),
            "-o",
            str(tmp_path / "m.ome.tif"),
            "--localizations",
            str(tmp_path / "m.csv"),
        ]
    )
    assert done == 0
    expected = csv_rows(tmp_path / "m.csv")
    assert len(expected) > 50
    for name in ("cell", "cell-2"):
        assert np.allclose(csv_rows(tmp_path / "runs" / name / "t.csv"), expected, atol=0.11)
        assert "t.csv" in {file.name for file in read_record(tmp_path / "runs" / name).files}


def test_runs_of_one_name_at_the_same_time_do_not_share_a_table(engine: Engine, tmp_path: Path) -> None:
    writer = RunWriter(engine, tmp_path, folder_per_run=True, localizations=Path("t.csv"))
    for _ in range(3):
        start = Start(run=uuid4(), name="cell", dtype="uint16", shape=SHAPE, calibration=CALIBRATION)
        table = writer.open_table(start)
        assert table is not None
        table.close(0)
    assert sorted(f.parent.name for f in tmp_path.glob("*/t.csv")) == ["cell", "cell-2", "cell-3"]


def test_a_network_that_gives_a_picture_only_is_refused(tmp_path: Path, movie: np.ndarray) -> None:
    path = tmp_path / "deepstorm.safetensors"
    card = ModelCard(
        name="original",
        architecture="deepstorm",
        arguments={"pixel_size_nm": 100.0, "upsampling": 8},
        normalisation="",
        training={},
        trained={},
        metrics={},
    )
    torch.manual_seed(0)
    save_model(path, DeepStorm(), card)
    engine = Engine(str(path), "cpu")
    with pytest.raises(InputError, match="no positions"):
        RunWriter(engine, tmp_path, folder_per_run=True, localizations=Path("t.csv"))
    taken: list[np.ndarray] = []
    with pytest.raises(InputError, match="no positions"):
        engine.open(SHAPE, CALIBRATION).add(movie[:1], taken.append)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["reconstruct", "m.tif", "-o", "x.ome.tif", "--localizations", "t.txt"], "*.csv"),
        (["reconstruct", "m.tif", "-o", "x.ome.tif", "--localizations", "taken.csv"], "exists already"),
        (["reconstruct", "m.tif", "-o", "x.ome.tif", "--localizations", "nowhere/t.csv"], "does not exist"),
        (["acquire", "--headless", "--localizations", "taken.csv", "--out", "run"], "exists already"),
        (["acquire", "--headless", "--localizations", "nowhere/t.csv", "--out", "run"], "does not exist"),
        (["acquire", "--localizations", "t.csv", "--server", "tcp://127.0.0.1:9"], "stormlive serve"),
        (["serve", "--localizations", "folder/t.csv"], "a name such as t.csv"),
        (["serve", "--localizations", "csv"], "*.csv"),
    ],
)
def test_bad_names_are_refused_before_anything_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    word: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.csv").write_text("")
    assert run_command(arguments) == 1
    said = capsys.readouterr().err
    assert word in said.replace("\n", " ")
    assert said.count("error: ") == 1
    assert [f.name for f in tmp_path.iterdir()] == ["taken.csv"]
