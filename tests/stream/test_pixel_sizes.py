"""Which weights a camera gets, whether its pixels are summed for them, and where the emitters then lie."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import torch

from stormlive.cli.app import run
from stormlive.output.manifest import read_record
from stormlive.output.tables import Rows
from stormlive.server.canvases import Canvases
from stormlive.server.engine import Engine, Reconstruction
from stormlive.server.finish import RunWriter
from stormlive.server.ledger import Ledger
from stormlive.server.protocols import FinishedRun, no_table
from stormlive.server.run import Owner, Run
from stormlive.server.status import run_status
from stormlive.wire.calibration import Calibration
from stormlive.wire.flow import Credit
from stormlive.wire.messages import Start
from stormlive_models import zoo
from stormlive_models.checkpoint import ModelCard, save_model
from stormlive_models.networks.livenet import LiveNet
from stormlive_sim.errors import InputError
from stormlive_sim.psf import render_gaussians


def calibration(pixel_size_nm: float) -> Calibration:
    return Calibration(pixel_size_nm=pixel_size_nm, baseline_adu=0, photons_per_adu=1, exposure_ms=10)


def untrained(
    path: Path, pixel_size_nm: float, takes_nm: tuple[float, float] | None = None, upsampling: int = 8
) -> Path:
    arguments = {"pixel_size_nm": pixel_size_nm, "upsampling": upsampling, "width": 4}
    network = LiveNet(pixel_size_nm, upsampling, width=4)
    ranges = {"psf_sigma_nm": [95, 145], "photons": [250, 6000], "density_per_um2": [0.2, 12]}
    card = ModelCard(
        name=path.stem,
        architecture="livenet",
        arguments=arguments,
        normalisation="",
        training={"data": ranges},
        trained={},
        metrics={},
        pixel_sizes_nm=takes_nm,
    )
    save_model(path, network, card)
    return path


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    untrained(folder / "livenet.safetensors", 100, (85, 120))
    untrained(folder / "livenet-140nm.safetensors", 140, (120, 170))
    untrained(folder / "small.safetensors", 100)
    monkeypatch.setattr(zoo, "_WEIGHTS", folder)
    return folder


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(
    ("camera_nm", "name", "binning"),
    [
        (60, "livenet-140nm", 2),
        (65, "livenet-140nm", 2),
        (84.9, "livenet-140nm", 2),
        (85, "livenet", 1),
        (119, "livenet", 1),
        (121, "livenet-140nm", 1),
        (160, "livenet-140nm", 1),
        (170, "livenet-140nm", 1),
        (50, "livenet", 2),
    ],
)
def test_each_camera_gets_its_weights(camera_nm: float, name: str, binning: int) -> None:
    reconstruction = Engine("livenet", "cpu").open((33, 50), calibration(camera_nm))
    assert (reconstruction.model.card.name, reconstruction.binning) == (name, binning)
    assert reconstruction.upsampling == 8 // binning
    assert ("2x2" in reconstruction.model_name) == (binning == 2)
    reconstruction.add(np.full((2, 33, 50), 10, np.uint16))
    assert reconstruction.canvas().shape == (33 * 8 // binning, 50 * 8 // binning)
    assert reconstruction.widefield().shape == (33, 50)


@pytest.mark.usefixtures("weights")
def test_a_camera_that_no_weights_take_is_refused_with_what_is_possible() -> None:
    engine = Engine("livenet", "cpu")
    assert engine.camera_pixels_nm == ((42.5, 170),)
    for camera_nm in (42, 171):
        with pytest.raises(
            InputError, match=f"'livenet' takes camera pixels of 42.5 to 170 nm, this camera has {camera_nm}"
        ):
            engine.open((16, 16), calibration(camera_nm))


def test_without_the_other_weights_their_cameras_are_refused(weights: Path) -> None:
    (weights / "livenet-140nm.safetensors").unlink()
    engine = Engine("livenet", "cpu")
    assert engine.open((16, 16), calibration(100)).model_name == "livenet"
    with pytest.raises(InputError, match=r"pixels of 42\.5 to 60 or 85 to 120 nm, this camera has 65 nm"):
        engine.open((16, 16), calibration(65))


@pytest.mark.usefixtures("weights")
def test_the_name_of_one_file_stands_for_that_file() -> None:
    assert [model.card.name for model in Engine("livenet-140nm", "cpu").models] == ["livenet-140nm"]
    assert [model.card.name for model in Engine("small", "cpu").models] == ["small"]


def test_a_file_of_ones_own_takes_its_pixels_and_their_halves(tmp_path: Path) -> None:
    engine = Engine(str(untrained(tmp_path / "mine.safetensors", 130)), "cpu")
    assert engine.open((16, 16), calibration(130)).model_name == "mine"
    assert engine.open((16, 16), calibration(65)).model_name == "mine, 2x2 pixels summed"
    with pytest.raises(InputError, match=r"58\.5 to 71\.5 or 117 to 143 nm, this camera has 100 nm"):
        engine.open((16, 16), calibration(100))
    # Half of three sub-pixels is no canvas.
    odd = Engine(str(untrained(tmp_path / "odd.safetensors", 130, upsampling=3)), "cpu")
    with pytest.raises(InputError, match="pixels of 117 to 143 nm, this camera has 65 nm"):
        odd.open((16, 16), calibration(65))


def lone_emitters(
    pixel_nm: float, shape: tuple[int, int], n: int, photons: float = 5000.0
) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Return n frames of one bright emitter each, and the emitters' x_nm and y_nm."""
    generator = torch.Generator().manual_seed(3)
    height, width = shape
    inside = torch.rand(2, n, generator=generator)
    x_nm = 500 + inside[0] * (width * pixel_nm - 1000)
    y_nm = 500 + inside[1] * (height * pixel_nm - 1000)
    frames = torch.zeros(n, *shape)
    sigma = torch.tensor(115 / pixel_nm)
    light = torch.full((n,), photons)
    render_gaussians(frames, torch.arange(n), x_nm / pixel_nm, y_nm / pixel_nm, light, sigma, radius=15)
    return torch.poisson(frames + 2.5, generator).numpy().astype(np.uint16), x_nm, y_nm


def test_what_is_found_on_summed_pixels_lies_where_it_is() -> None:
    frames, x_nm, y_nm = lone_emitters(50, (53, 47), 300)
    reconstruction = Engine("livenet", "cpu").open((53, 47), calibration(50))
    assert reconstruction.binning == 2
    tables: list[Rows] = []
    reconstruction.add(frames, tables.append)
    # The table's frames count from the batch's own first one, as `add` got it.
    rows = np.concatenate(tables)
    assert len(rows) == pytest.approx(300, abs=6)
    dx, dy = rows["x_nm"] - x_nm.numpy()[rows["frame"]], rows["y_nm"] - y_nm.numpy()[rows["frame"]]
    found = np.hypot(dx, dy) < 50
    assert found.mean() > 0.98
    assert abs(dx[found].mean()) < 1
    assert abs(dy[found].mean()) < 1
    assert rows["photons"][found].mean() == pytest.approx(5000, rel=0.1)

    # The canvas has 12.5 nm here too, and the same origin.
    canvas = reconstruction.canvas()
    assert canvas.shape == (53 * 4, 47 * 4)
    assert canvas.sum() == pytest.approx(300, rel=0.05)
    x = ((np.arange(188) + 0.5) * 12.5 * canvas.sum(0)).sum() / canvas.sum()
    y = ((np.arange(212) + 0.5) * 12.5 * canvas.sum(1)).sum() / canvas.sum()
    # Closer than half a sub-pixel; not closer, because each emitter weighs a few percent more or less than one.
    assert x == pytest.approx(rows["x_nm"].mean(), abs=6)
    assert y == pytest.approx(rows["y_nm"].mean(), abs=6)


def test_summed_pixels_are_those_of_a_camera_with_larger_ones() -> None:
    engine = Engine("livenet", "cpu")
    frames, _, _ = lone_emitters(50, (40, 48), 8)
    small, large = engine.open((40, 48), calibration(50)), engine.open((20, 24), calibration(100))
    small.add(frames)
    large.add(frames.reshape(8, 20, 2, 24, 2).sum((2, 4)))
    assert np.array_equal(small.canvas(), large.canvas())
    assert np.array_equal(small.view(1, 3, 5, 20, 30), large.view(1, 3, 5, 20, 30))


@pytest.mark.usefixtures("weights")
def test_record_and_status_say_which_weights_and_that_pixels_are_summed(tmp_path: Path) -> None:
    engine = Engine("livenet", "cpu")
    start = Start(run=uuid4(), name="r", dtype="uint16", shape=(17, 20), calibration=calibration(65))
    canvases = Canvases(start, engine, no_table)
    reconstruction = canvases.first.reconstruction
    reconstruction.add(np.full((3, 17, 20), 10, np.uint16))
    running = Run(start, Owner(peer=b"", credit=Credit(0)), 1)
    running.canvases = canvases
    status = run_status(running, engine, silent=False)
    assert (status.model, status.upsampling) == ("livenet-140nm, 2x2 pixels summed", 4)

    writer = RunWriter(engine, tmp_path / "run", folder_per_run=False)
    now = datetime.now(UTC)
    finished = FinishedRun(
        start=start,
        ledger=Ledger(),
        exit_status="ok",
        started_at=now,
        duration_s=1.0,
        notices=(),
        frames_per_s=1,
        latency_p50_ms=None,
        latency_p99_ms=None,
    )
    assert isinstance(reconstruction, Reconstruction)
    writer(finished, canvases.all)
    record = read_record(tmp_path / "run")
    assert (record.model.name, record.model.binning) == ("livenet-140nm", 2)
    assert record.model.weights_sha256 == engine.models[1].sha256
    assert (record.canvas.shape, record.canvas.upsampling) == ((68, 80), 4)
    assert record.canvas.pixel_size_nm == 65 / 4


@pytest.mark.usefixtures("weights")
def test_the_list_of_models_has_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    shown = capsys.readouterr().out
    for word in ("small", "cel0", "85–120", "60–85", "42.5–170"):
        assert word in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_cel0_takes_any_camera_and_says_why_it_writes_no_table(tmp_path: Path) -> None:
    engine = Engine("cel0", "cpu")
    for camera_nm in (1, 65, 10_000):
        assert engine.open((16, 16), calibration(camera_nm)).model_name == "cel0"
    with pytest.raises(InputError, match="'cel0' gives positions without their uncertainty"):
        RunWriter(engine, tmp_path, folder_per_run=False, localizations=Path("t.csv"))


def test_the_shipped_weights_take_the_cameras_of_microscopes() -> None:
    assert any(low <= 60 and high >= 160 for low, high in Engine("livenet", "cpu").camera_pixels_nm)


@pytest.mark.parametrize("pixel_nm", [65, 160])  # 100 in test_cel0.py
def test_cel0_knows_the_width_of_a_spot_on_every_camera(pixel_nm: float) -> None:
    frames, x_nm, y_nm = lone_emitters(pixel_nm, (24, 26), 3, photons=1000.0)
    reconstruction = Engine("cel0", "cpu").open((24, 26), calibration(pixel_nm))
    reconstruction.add(frames)
    found = reconstruction.model.network.localize(torch.from_numpy(frames).float())  # type: ignore[union-attr]
    assert reconstruction.canvas().sum() == 3
    assert found.frame.tolist() == list(range(3))
    assert (found.x_nm - x_nm).hypot(found.y_nm - y_nm).max() < 30
    assert found.photons.mean().item() == pytest.approx(1000, rel=0.1)


def test_no_localization_lies_beyond_an_odd_side_that_was_summed_in_pairs() -> None:
    # On the last pixel of both sides, whose pair is its own copy: the sum's light is symmetric to the camera's edge.
    frames = torch.full((20, 41, 41), 2.5)
    place = torch.linspace(40.9, 40.999, 20)
    middle, light, sigma = torch.full((20,), 20.3), torch.full((20,), 5000.0), torch.tensor(115 / 50)
    number = torch.arange(20)
    render_gaussians(frames, number, place, middle, light, sigma, radius=15)
    render_gaussians(frames, number, middle, place, light, sigma, radius=15)
    reconstruction = Engine("livenet", "cpu").open((41, 41), calibration(50))
    assert reconstruction.binning == 2
    tables: list[Rows] = []
    photons = torch.poisson(frames, torch.Generator().manual_seed(0)).numpy().astype(np.uint16)
    reconstruction.add(photons, tables.append)
    rows = np.concatenate(tables)
    assert len(rows) > 10
    assert rows["x_nm"].max() < 41 * 50
    assert rows["y_nm"].max() < 41 * 50
