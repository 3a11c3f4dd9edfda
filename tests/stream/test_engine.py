import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from stormlive.cli.app import run
from stormlive.cli.preflight import _other_models
from stormlive.offline import blocks as blocks_module
from stormlive.offline.blocks import blocks
from stormlive.server import accumulator
from stormlive.server.devices import described, select_devices
from stormlive.server.engine import Engine
from stormlive.server.memory import available_bytes
from stormlive.server.reconstruction import Reconstruction
from stormlive.wire.calibration import Calibration
from stormlive_models import zoo
from stormlive_models.checkpoint import load_model, read_card, save_model
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.zoo import DEFAULT, shipped
from stormlive_sim.errors import InputError
from stormlive_sim.movie import Scene, SceneSettings

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=30)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("livenet", "cpu")


@pytest.fixture(scope="module")
def movie() -> np.ndarray:
    scene = Scene(SceneSettings(shape=(40, 56), density_per_um2=2.0))
    return np.stack([image.numpy() for image, _ in scene.frames(24, 30.0)])


def reconstruct(engine: Engine, movie: np.ndarray, *cuts: int) -> Reconstruction:
    reconstruction = engine.open(movie.shape[1:], CALIBRATION)
    for part in np.split(movie, cuts):
        reconstruction.add(part)
    return reconstruction


def test_the_canvas_does_not_depend_on_how_frames_were_batched(engine: Engine, movie: np.ndarray) -> None:
    whole = reconstruct(engine, movie).canvas()
    pieces = reconstruct(engine, movie, 1, 2, 7, 20).canvas()
    assert whole.shape == (320, 448)
    assert whole.sum() > 50
    assert np.allclose(whole, pieces, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("pixel_nm", "region"), [(100.0, (6, 10, 30, 21)), (50.0, (6, 10, 34, 30))])
def test_of_a_region_the_picture_is_that_of_a_camera_without_the_rest(
    engine: Engine, movie: np.ndarray, pixel_nm: float, region: tuple[int, int, int, int]
) -> None:
    """Also where two pixels a side are summed for the network; and what is there before stays."""
    calibration = msgspec.structs.replace(CALIBRATION, pixel_size_nm=pixel_nm)
    x, y, width, height = region
    part = movie[:, y : y + height, x : x + width]
    small, large = (engine.open(frames.shape[1:], calibration) for frames in (part, movie))
    assert small.binning == (2 if pixel_nm == 50 else 1)
    tables: list[np.ndarray] = []
    small.add(part, lambda rows: tables.append(rows.copy()))
    large.add(movie[:4])
    before, u = large.canvas().copy(), large.upsampling
    own = len(tables)
    large.add(movie, lambda rows: tables.append(rows.copy()), region=region)
    grown = large.canvas() - before
    inside = grown[y * u : (y + height) * u, x * u : (x + width) * u]
    np.testing.assert_allclose(inside, small.canvas(), atol=1e-5)
    assert inside.sum() > 10
    assert np.abs(grown).sum() == pytest.approx(np.abs(inside).sum())
    assert np.allclose(large.view(1, 0, 0, 28 * u, 20 * u).sum(), large.canvas().sum(), rtol=1e-4)
    assert large.n_frames == len(movie) + 4
    assert large.widefield().shape == movie.shape[1:]
    alone, moved = np.concatenate(tables[:own]), np.concatenate(tables[own:])
    np.testing.assert_allclose(moved["x_nm"], alone["x_nm"] + x * pixel_nm, rtol=1e-5)
    np.testing.assert_allclose(moved["y_nm"], alone["y_nm"] + y * pixel_nm, rtol=1e-5)


def test_a_huge_batch_goes_through_in_pieces_of_bounded_memory(
    engine: Engine, movie: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = reconstruct(engine, movie).canvas()
    monkeypatch.setitem(accumulator._BATCH_PIXELS, "cpu", 3 * movie[0].size)
    assert np.allclose(whole, reconstruct(engine, movie).canvas(), rtol=1e-4, atol=1e-4)


def test_widefield_and_last_are_photons(engine: Engine, movie: np.ndarray) -> None:
    reconstruction = reconstruct(engine, movie)
    photons = (movie.astype(np.float64) - 100) * 0.5
    assert np.allclose(reconstruction.widefield(), photons.mean(0), rtol=1e-5)
    assert np.allclose(reconstruction.last(), photons[-1])
    assert reconstruction.n_frames == len(movie)


@pytest.mark.parametrize("level", [0, 1, 3, 5])
def test_every_level_of_the_view_holds_the_whole_mass(engine: Engine, movie: np.ndarray, level: int) -> None:
    reconstruction = reconstruct(engine, movie)
    canvas = reconstruction.canvas()
    rows, columns = (-(-side // 2**level) for side in canvas.shape)
    view = reconstruction.view(level, 0, 0, columns, rows)
    assert view.shape == (rows, columns)
    assert view.sum() == pytest.approx(canvas.sum(), rel=1e-4)
    part = reconstruction.view(level, 1, 2, columns - 1, rows - 2)
    assert np.allclose(part, view[2:, 1:])


def test_a_nan_pixel_spoils_neither_the_frame_nor_the_canvas(engine: Engine, movie: np.ndarray) -> None:
    frames = movie.astype(np.float32)
    clean = reconstruct(engine, frames).canvas()
    frames[3, 5, 5], frames[4, 30, 40] = np.nan, np.inf
    reconstruction = reconstruct(engine, frames)
    assert reconstruction.repaired_pixels == 2
    assert np.isfinite(reconstruction.canvas()).all()
    assert np.isfinite(reconstruction.widefield()).all()
    assert np.abs(reconstruction.canvas() - clean).sum() < 0.05 * clean.sum()


def test_a_frame_without_light_adds_nothing(engine: Engine) -> None:
    generator = np.random.default_rng(0)
    reconstruction = engine.open((64, 64), CALIBRATION)
    reconstruction.add(np.full((4, 64, 64), 100, np.uint16))
    for background in (1, 10, 60):
        noise = generator.poisson(background, (16, 64, 64)) / 0.5 + 100
        reconstruction.add(noise.round().astype(np.uint16))
    assert reconstruction.canvas().sum() / 52 < 0.05


def test_a_canvas_that_memory_does_not_hold_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    there = available_bytes(engine.torch_device)
    assert there is None or there > 2**20
    monkeypatch.setattr("stormlive.server.reconstruction.available_bytes", lambda _: 2 * 4 * 128**2 - 1)
    with pytest.raises(InputError, match="smaller camera ROI"):
        engine.open((16, 16), CALIBRATION)
    engine.open((16, 8), CALIBRATION)
    # A checkpoint needs copies of all canvases of a run at once.
    with pytest.raises(InputError, match="there is less free"):
        engine.open((16, 8), CALIBRATION, beside=3)
    engine.open((16, 8), CALIBRATION, beside=1)


def test_a_snapshot_goes_on_as_if_nothing_had_happened(engine: Engine, movie: np.ndarray) -> None:
    whole, first, second = (engine.open(movie.shape[1:], CALIBRATION) for _ in range(3))
    whole.add(movie[:5])
    whole.add(movie[5:])
    first.add(movie[:5])
    kept = first.snapshot()
    first.add(movie[:3])  # a copy, not a view
    second.restore(kept)
    second.add(movie[5:])
    np.testing.assert_array_equal(second.canvas(), whole.canvas())
    np.testing.assert_array_equal(second.widefield(), whole.widefield())
    assert (second.n_frames, second.fingerprint) == (len(movie), whole.fingerprint)
    with pytest.raises(InputError, match="grid"):
        engine.open((8, 8), CALIBRATION).restore(kept)


def test_a_camera_of_another_pixel_size_is_refused(engine: Engine) -> None:
    engine.open((16, 16), Calibration(pixel_size_nm=106, baseline_adu=0, photons_per_adu=1, exposure_ms=1))
    with pytest.raises(InputError, match=r"takes camera pixels of .* nm, this camera has 300 nm"):
        engine.open((16, 16), Calibration(pixel_size_nm=300, baseline_adu=0, photons_per_adu=1, exposure_ms=1))


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="--device"):
        select_devices(name)


@pytest.mark.gpu
def test_gpu_and_cpu_agree(engine: Engine, movie: np.ndarray) -> None:
    assert torch.cuda.is_available()
    on_gpu = reconstruct(Engine("livenet", "cuda:0"), movie).canvas()
    on_cpu = reconstruct(engine, movie).canvas()
    # By bfloat16, on either.
    assert np.abs(on_gpu - on_cpu).sum() < 0.1 * on_cpu.sum()


def test_cuda_is_every_gpu_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(device) for device in select_devices("cuda")] == ["cuda:0", "cuda:1"]
    assert [str(device) for device in select_devices("auto")] == ["cuda:0"]
    assert [str(device) for device in select_devices("cuda:1")] == ["cuda:1"]
    with pytest.raises(InputError, match="2 CUDA GPUs"):
        select_devices("cuda:2")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    assert described(select_devices("cuda"), "torch-bf16") == "cuda:0 (NVIDIA H200, torch-bf16) and 1 more"


def test_coarse_views_follow_the_canvas_and_hold_all_of_it(engine: Engine, movie: np.ndarray) -> None:
    reconstruction = engine.open(movie.shape[1:], CALIBRATION)
    for part in np.split(movie, 3):
        reconstruction.add(part)
        for level in (3, 5, 16):  # the last is one pixel, and must take no more memory than the canvas
            rows, columns = (-(-side // 2**level) for side in reconstruction.canvas().shape)
            view = reconstruction.view(level, 0, 0, columns, rows)
            assert view.sum(dtype=np.float64) == pytest.approx(reconstruction.canvas().sum(dtype=np.float64), rel=1e-4)
    other = engine.open(movie.shape[1:], CALIBRATION)
    other.view(4, 0, 0, 1, 1)
    arrays = reconstruction.snapshot()
    arrays["counts"][0] = 0  # as many frames as the view was made of
    other.restore(arrays)
    assert (other.view(4, 0, 0, 3, 3) == reconstruction.view(4, 0, 0, 3, 3)).all()


@pytest.fixture(scope="module")
def with_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return livenet's weights in a network that takes as much from each neighbour as from the frame."""
    card = read_card(shipped()[DEFAULT])
    network, alone = LiveNet(context=1), load_model(shipped()[DEFAULT], torch.device("cpu"))[0]
    first = alone.state_dict()["enter.0.weight"] / 3
    network.load_state_dict({**alone.state_dict(), "enter.0.weight": torch.cat([first] * 3, 1)})
    path = tmp_path_factory.mktemp("context") / "context.safetensors"
    save_model(path, network, msgspec.structs.replace(card, name="seer", arguments={**card.arguments, "context": 1}))
    return path


def test_every_frame_is_seen_between_its_neighbours(
    with_context: Path, movie: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(str(with_context), "cpu:torch")
    whole, found = engine.open(movie.shape[1:], CALIBRATION), list[np.ndarray]()
    whole.add(movie, found.append)
    monkeypatch.setattr(blocks_module, "BLOCK", 7)
    cut, rows = engine.open(movie.shape[1:], CALIBRATION), list[np.ndarray]()
    for block in blocks(movie, cut.context):
        cut.add(block.frames, lambda part, first=block.first: rows.append(_shifted(part, first)), block.own)  # type: ignore[misc]
    assert cut.n_frames == whole.n_frames == len(movie)
    assert whole.canvas().sum() > 20
    assert np.abs(cut.canvas() - whole.canvas()).max() < 1e-4 * whole.canvas().max()
    assert np.allclose(cut.widefield(), whole.widefield())
    assert np.array_equal(cut.last(), whole.last())
    assert np.array_equal(np.concatenate(rows)["frame"], np.concatenate(found)["frame"])
    # Without the neighbours at the seams the picture is another one.
    assert np.abs(reconstruct(engine, movie, 7, 14, 21).canvas() - whole.canvas()).max() > 0.1 * whole.canvas().max()


def _shifted(rows: np.ndarray, first: int) -> np.ndarray:
    rows["frame"] += first
    return rows


def test_a_broken_pixel_of_a_neighbour_is_counted_once(with_context: Path, movie: np.ndarray) -> None:
    broken = movie[:6].astype(np.float32)
    broken[2, 3, 4] = np.nan
    reconstruction = Engine(str(with_context), "cpu:torch").open(movie.shape[1:], CALIBRATION)
    reconstruction.add(broken)
    assert reconstruction.repaired_pixels == 1


def test_weights_with_context_need_only_lie_beside_the_others(
    with_context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(shipped()["small"], tmp_path / "small.safetensors")
    shutil.copy(shipped()[DEFAULT], tmp_path / f"{DEFAULT}.safetensors")
    shutil.copy(with_context, tmp_path / f"{DEFAULT}-context.safetensors")
    monkeypatch.setattr(zoo, "_WEIGHTS", tmp_path)
    assert zoo.family(DEFAULT) == [DEFAULT]
    assert zoo.families() == [DEFAULT, "livenet-context", "small"]
    assert _other_models(DEFAULT, 100.0) == ["small"]  # of those that are faster
    assert run(["models"]) == 0
    said = capsys.readouterr().out
    assert "livenet-context" in said
    assert "(neighbours)" in said
