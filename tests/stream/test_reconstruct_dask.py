"""Pictures from a Dask cluster: what the single process gives, whatever happens to the workers on the way."""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
import torch
import zarr
from distributed import Client, KilledWorker
from safetensors import safe_open

from stormlive.cli import app, farm
from stormlive.cli.pictures import pictures_of
from stormlive.offline import cluster, run
from stormlive.offline.blocks import BLOCK, blocks
from stormlive.offline.cluster import local_cluster
from stormlive.offline.picture import Picture
from stormlive.offline.run import Farm, chunk_frames, stretches_of
from stormlive.offline.unfinished import Unfinished
from stormlive.output.manifest import read_record
from stormlive.output.ome_tiff import read_image
from stormlive.ranges import Ranges
from stormlive.server.engine import Engine
from stormlive.wire.calibration import Calibration
from stormlive_models.checkpoint import ModelCard, save_model
from stormlive_models.networks.livenet import LiveNet
from stormlive_sim.errors import InputError
from stormlive_sim.recording import Recording, write_movie

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=30)
SHAPE = (19, 23)
STRETCH = 8 * BLOCK
DEVICE = "cpu:torch"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(2) as client:
        yield client


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that learnt nothing, and whose picture depends on frames and their neighbours all the same."""
    torch.manual_seed(1)
    network = LiveNet(upsampling=4, width=4, context=1)
    last = network.head[-1]
    assert isinstance(last, torch.nn.Conv2d)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight *= 3
        last.weight.normal_(std=0.3)
        last.weight[0] *= 2
        last.bias[0], last.bias[4:6] = -3.0, -2.0
    card = ModelCard(
        name="tiny",
        architecture="livenet",
        arguments={"pixel_size_nm": 100.0, "upsampling": 4, "width": 4, "context": 1},
        normalisation="",
        training={},
        trained={},
        metrics={},
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, network, card)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    """Work in an empty folder; commands use the cluster of all tests, with chunks as small as they get."""

    @contextmanager
    def same(_: int) -> Iterator[Client]:
        yield client

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(farm, "local_cluster", same)
    monkeypatch.setattr(run, "_CHUNK_BYTES", 1)


def frames(n: int, seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).poisson(20, (n, *shape)).astype(np.uint16) * 40 + 100


def reconstruct(model: Path, *arguments: str | Path) -> int:
    return app.run(["reconstruct", *map(str, arguments), "--model", str(model), "--device", DEVICE])


def picture(n: int, *, table: bool = False) -> Picture:
    if not Path("m.tif").exists():
        write_movie(Path("m.tif"), frames(n), pixel_size_nm=100)
    (picture,) = pictures_of([Path("m.tif")], Path("m.ome.tif"), Path("m.csv") if table else None, each=False)
    return picture


def single(movie: Path, model: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the canvas and the localizations of the single process."""
    found: list[np.ndarray] = []
    with Recording.open(movie) as recording:
        reconstruction = Engine(str(model), DEVICE).open(recording.shape[1:], CALIBRATION)
        for block in blocks(recording, reconstruction.context):
            rows: list[np.ndarray] = []
            reconstruction.add(block.frames, rows.append, block.own)
            for part in rows:
                part["frame"] += block.first
            found += rows
    return reconstruction.canvas(), np.concatenate(found)


def farmed(client: Client, model: Path, picture: Picture, progress: run.Progress) -> tuple[Farm, Unfinished]:
    engine = Engine(str(model), DEVICE)
    farm = Farm(client, engine, CALIBRATION, model=str(model), device=DEVICE, threads=1)
    ((_, unfinished),) = farm.run([picture], progress)
    return farm, unfinished


def canvas_of(unfinished: Unfinished) -> np.ndarray:
    return unfinished.total["grid"][: SHAPE[0] * 4, : SHAPE[1] * 4]


def assert_equal_but_for_the_order_of_sums(canvas: np.ndarray, expected: np.ndarray) -> None:
    assert expected.sum() > 100
    assert expected.std() > 0.01 * expected.max()
    assert np.abs(canvas - expected).max() < 1e-5 * expected.max()


def test_pictures_and_tables_are_those_of_the_single_process(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One movie of odd size, longer than a stretch, and one of two channels in another format."""
    write_movie(Path("long.tif"), frames(STRETCH + 3 * BLOCK + 5), pixel_size_nm=100)
    group = zarr.create_group("two.zarr")
    held = group.create_array("0", shape=(70, 2, 16, 21), chunks=(8, 1, 16, 21), dtype="uint16")
    held[:] = np.stack([frames(70, seed, (16, 21)) for seed in (1, 2)], 1)
    axes = [{"name": name} for name in "tcyx"]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    asked: Sequence[str] = ["long.tif", "two.zarr"]
    assert reconstruct(model, *asked, "-o", "alone", "--localizations", "alone.csv") == 0
    assert reconstruct(model, *asked, "-o", "shared", "--localizations", "shared.csv", "--workers", "2") == 0
    assert "frames in" in " ".join(capsys.readouterr().err.split())
    names = ["long", "two_c-0", "two_c-1"]
    files = sorted(f"{name}{suffix}" for name in names for suffix in (".ome.tif", ".png", ".run.json"))
    assert sorted(path.name for path in Path("shared").iterdir()) == files
    records = [read_record(Path(at) / "two_c-1.run.json") for at in ("alone", "shared")]
    assert [record.frames["replayed"] for record in records] == [[[0, 69]]] * 2
    finals = [record.judgement.final for record in records if record.judgement is not None]
    assert [(final.frames, final.gauge, final.sentence) for final in finals] == [
        (70, finals[0].gauge, finals[0].sentence)
    ] * 2
    assert reconstruct(model, *asked, "-o", "shared", "--workers", "2") == 1
    assert "long.ome.tif exists already" in " ".join(capsys.readouterr().err.split())
    for name in names:
        (one, size_nm), (other, other_nm) = (read_image(Path(at) / f"{name}.ome.tif") for at in ("alone", "shared"))
        assert size_nm == other_nm == 25
        assert_equal_but_for_the_order_of_sums(other, one)
        table = Path(f"alone_{name}.csv").read_bytes()
        assert len(table.splitlines()) > 100
        assert Path(f"shared_{name}.csv").read_bytes() == table


def test_a_lost_worker_costs_nothing_but_time(client: Client, model: Path) -> None:
    killed: list[int] = []

    def kill(done: int) -> None:
        # Not in Dask's own thread, which tells what workers have done so far and cannot wait for them.
        if done and not killed and threading.current_thread() is threading.main_thread():
            killed.append(next(iter(client.run(os.getpid).values())))
            psutil.Process(killed[0]).kill()

    one = picture(3 * STRETCH + 7)
    farm, unfinished = farmed(client, model, one, kill)
    assert killed
    assert farm.computed == len(one.movie)
    assert unfinished.total["counts"][0] == len(one.movie)
    assert_equal_but_for_the_order_of_sums(canvas_of(unfinished), single(Path("m.tif"), model)[0])


def test_what_was_finished_is_not_computed_again(client: Client, model: Path) -> None:
    def interrupt(done: int) -> None:
        # As Ctrl-C does: in the main thread, not in Dask's, which reports what slow workers have done so far.
        if done >= STRETCH and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    one = picture(2 * STRETCH + 7, table=True)
    with pytest.raises(KeyboardInterrupt):
        farmed(client, model, one, interrupt)
    with safe_open(one.folder / "sum.safetensors", framework="np") as file:
        kept = int(file.get_tensor("counts")[0])
    assert kept == STRETCH
    farm, unfinished = farmed(client, model, picture(0, table=True), lambda _: None)
    assert farm.computed == len(one.movie) - kept
    assert unfinished.total["counts"][0] == len(one.movie)
    canvas, rows = single(Path("m.tif"), model)
    assert_equal_but_for_the_order_of_sums(canvas_of(unfinished), canvas)
    assert len(rows) > 100
    assert (np.concatenate(list(unfinished.rows())) == rows).all()


def test_a_picture_that_is_written_is_not_made_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        write_movie(Path(f"{name}.tif"), frames(40), pixel_size_nm=100)
    written: list[str] = []
    write = farm.write_picture

    def fail_once(picture: Picture, *rest: object) -> float:
        if len(written) == 1:
            written.append("")
            raise InputError("the disk is full")
        written.append(picture.output.name)
        return write(picture, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(farm, "write_picture", fail_once)
    command = ["a.tif", "b.tif", "-o", "out", "--workers", "2", "--localizations", "t.csv"]
    assert reconstruct(model, *command) == 1
    Path("t_b.csv").unlink(missing_ok=True)
    Path("t_a.csv").unlink(missing_ok=not written[0].startswith("b"))
    assert reconstruct(model, *command) == 0
    assert sorted(written) == ["", "a.ome.tif", "b.ome.tif"]
    assert not list(Path("out").glob("*.unfinished"))


@pytest.mark.parametrize("change", ["movie", "baseline", "damage"])
def test_nothing_goes_on_with_another_sum(client: Client, model: Path, change: str) -> None:
    one = picture(40)
    farmed(client, model, one, lambda _: None)
    kept = next(one.folder.glob("*.safetensors"))
    if change == "movie":
        write_movie(Path("m.tif"), frames(40, 5), pixel_size_nm=100)
    elif change == "damage":
        kept.write_bytes(kept.read_bytes()[:50])
    engine = Engine(str(model), DEVICE)
    calibration = Calibration(pixel_size_nm=100, baseline_adu=90, photons_per_adu=0.5, exposure_ms=30)
    other = Farm(
        client,
        engine,
        calibration if change == "baseline" else CALIBRATION,
        model=str(model),
        device=DEVICE,
        threads=1,
    )
    ((_, unfinished),) = other.run([picture(0)], lambda _: None)
    assert other.computed == 40
    assert unfinished.total["counts"][0] == 40


def test_a_worker_that_sees_another_movie_is_told(client: Client, model: Path) -> None:
    one = picture(40)
    assert farmed(client, model, one, lambda _: None)[0].computed == 40
    one.folder.joinpath("sum.safetensors").unlink()
    renamed = Picture(movie=one.movie, paths=[Path("gone.tif")], route=one.route, output=one.output, table=None)
    with pytest.raises(InputError, match=r"worker tls://.*gone\.tif.*under the same path.*give the same command again"):
        farmed(client, model, renamed, lambda _: None)


def test_a_scheduler_that_is_not_there_is_one_line(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_S", 0.3)
    picture(3)
    assert reconstruct(model, "m.tif", "-o", "x.ome.tif", "--scheduler", "tcp://127.0.0.1:1") == 1
    told, line = capsys.readouterr().err.splitlines()
    assert told.startswith("not given")  # no calibration was given
    assert line.startswith("error: no Dask scheduler answers at tcp://127.0.0.1:1")
    assert reconstruct(model, "m.tif", "-o", "x.ome.tif", "--scheduler", "here", "--workers", "2") == 1
    assert "one of them" in capsys.readouterr().err


def test_the_single_process_needs_no_dask(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(3)
    monkeypatch.setattr(farm, "local_cluster", local_cluster)
    monkeypatch.setitem(sys.modules, "distributed", None)
    for name in [name for name in sys.modules if name.startswith("stormlive.offline.")]:
        monkeypatch.delitem(sys.modules, name)
    assert reconstruct(model, "m.tif", "-o", "x.ome.tif") == 0
    capsys.readouterr()
    assert reconstruct(model, "m.tif", "-o", "y.ome.tif", "--workers", "1") == 1
    assert "pip install 'stormlive[dask]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ModuleNotFoundError("No module named 'stormlive'"), "install the same stormlive"),
        (KilledWorker("compute", None, 3), "fewer workers"),
        (OSError("closed"), "connection to the Dask scheduler was lost"),
    ],
)
def test_what_goes_wrong_elsewhere_is_said_in_words(error: Exception, word: str) -> None:
    class Failed:
        def result(self) -> None:
            raise error

    with pytest.raises(InputError, match=word):
        run._result(Failed())


def test_chunks_are_whole_blocks_and_every_frame_is_in_one() -> None:
    todo = Ranges([(0, 99), (5000, 20_000)])
    stretches = list(stretches_of(todo, 3 * BLOCK))
    assert max(map(len, stretches)) == 8
    chunks = [chunk for stretch in stretches for chunk in stretch]
    assert Ranges((first, end - 1) for first, end in chunks) == todo
    assert sum(end - first for first, end in chunks) == todo.count()
    assert all((end - first) % (3 * BLOCK) == 0 or end in (100, 20_001) for first, end in chunks)


def test_a_chunk_has_at_least_the_bytes_of_its_canvas() -> None:
    tifffile.imwrite("m.tif", np.zeros((2, 64, 64), np.uint16))
    with Recording.open("m.tif") as movie:
        frames = chunk_frames(movie, 8)
    assert frames % BLOCK == 0
    assert frames * 64 * 64 * 2 >= 512 * 512 * 4
