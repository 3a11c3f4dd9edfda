"""However frames are dealt out, delayed or cut, the canvas and the table are the same."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

from stormlive.output.tables import Rows
from stormlive.server import accumulator, landing
from stormlive.server.engine import Engine
from stormlive.server.landing import Landing
from stormlive.server.reconstruction import Reconstruction
from stormlive.wire.calibration import Calibration
from stormlive_models.networks.livenet import LiveNet
from stormlive_sim.errors import InputError
from stormlive_sim.movie import Scene, SceneSettings

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=30)
SHAPE = (33, 45)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("small", "cpu:torch")


@pytest.fixture(scope="module")
def movie() -> np.ndarray:
    scene = Scene(SceneSettings(shape=SHAPE, density_per_um2=2.0))
    return np.stack([image.numpy() for image, _ in scene.frames(11, 30.0)]).astype(np.uint16)


@pytest.fixture
def network(engine: Engine) -> Iterator[LiveNet]:
    """Give the engine's network, and leave it as it was."""
    network = engine.models[0].network
    assert isinstance(network, LiveNet)
    portion = (network.portion.side_px, network.portion.frames)
    yield network
    network.runtime = None
    network.portion.side_px, network.portion.frames = portion


def reconstruct(opened: Reconstruction, movie: np.ndarray, *cuts: int) -> np.ndarray:
    """Add a movie in batches and return the table."""
    tables: list[Rows] = []
    first = 0
    for part in np.split(movie, cuts):
        found: list[Rows] = []
        opened.add(part, found.append)
        for rows in found:
            rows["frame"] += first
        tables += found
        first += len(part)
    return np.concatenate(tables)


def assert_alike(one: Reconstruction, other: Reconstruction) -> None:
    for name, array in one.snapshot().items():
        np.testing.assert_allclose(other.snapshot()[name], array, rtol=1e-5, atol=1e-4, err_msg=name)


def assert_same_table(one: np.ndarray, other: np.ndarray) -> None:
    assert one["frame"].tolist() == other["frame"].tolist()
    for name in ("x_nm", "y_nm", "photons"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-3, atol=0.05)


def test_what_is_drawn_later_is_drawn_all_the_same(
    engine: Engine, movie: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, delayed = (engine.open(SHAPE, CALIBRATION) for _ in range(2))
    monkeypatch.setitem(accumulator._BATCH_PIXELS, "cpu", 4 * movie[0].size)
    table = reconstruct(plain, movie, 3)
    monkeypatch.setitem(accumulator._AHEAD, "cpu", 1)
    assert_same_table(reconstruct(delayed, movie, 3), table)
    assert (plain.canvas() == delayed.canvas()).all()
    assert len(table) > 100


def test_several_devices_add_up_to_one(movie: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Engine("small", "cpu:torch").open(SHAPE, CALIBRATION)
    monkeypatch.setattr("stormlive.server.engine.select_devices", lambda _: (CPU, CPU))
    engine = Engine("small", "cpu:torch")
    two = engine.open(SHAPE, CALIBRATION)
    cuts = (1, 2, 3, 7)
    assert_same_table(reconstruct(one, movie, *cuts), reconstruct(two, movie, *cuts))
    assert_alike(one, two)
    shares = [part.grid.values.sum() / two.canvas().sum() for part in two._parts]
    assert min(shares) > 0.3
    for level in (0, 2, 4):
        np.testing.assert_allclose(two.view(level, 1, 2, 10, 9), one.view(level, 1, 2, 10, 9), rtol=1e-4, atol=1e-4)
    again = engine.open(SHAPE, CALIBRATION)
    again.add(movie[:1])
    again.restore(two.snapshot())
    assert_alike(one, again)
    broken = movie[:4].astype(np.float32)
    broken[:, 3, 3] = np.nan
    again.add(broken)
    assert again.repaired_pixels == 4
    assert again.n_frames == len(movie) + 4


def test_fewer_frames_at_once_where_their_scaling_needs_too_much(
    engine: Engine, network: LiveNet, movie: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, short = (engine.open(SHAPE, CALIBRATION) for _ in range(2))
    table = reconstruct(plain, movie)
    scaled, refused = network.scaled, list[int]()

    def little(photons: torch.Tensor) -> torch.Tensor:
        if len(photons) > 2:
            refused.append(len(photons))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return scaled(photons)

    monkeypatch.setattr(network, "scaled", little)
    assert_same_table(reconstruct(short, movie), table)
    # Refused frames are neither lost nor counted twice.
    assert_alike(plain, short)
    assert refused == [8, 4]
    assert network.portion.frames == 2


def test_warming_up_meets_every_number_of_frames_and_adds_nothing(engine: Engine, network: LiveNet) -> None:
    opened, met = engine.open(SHAPE, CALIBRATION), list[int]()

    def noted(x: torch.Tensor) -> torch.Tensor:
        if len(x) == 16:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        met.append(len(x))
        return network.maps(x)

    network.runtime = noted
    opened._parts[0].warm_up()
    assert met == [8, 8, 8, 4, 2, 1]  # the first two are the sixteen
    assert not any(array.any() for array in opened.snapshot().values())


def test_what_fits_is_remembered_for_the_next_canvas(engine: Engine, network: LiveNet, movie: np.ndarray) -> None:
    plain = engine.open(SHAPE, CALIBRATION)
    table, refused = reconstruct(plain, movie[:2]), list[int]()

    def little(x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1:
            refused.append(len(x))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return network.maps(x)

    network.runtime = little
    for _ in range(2):
        again = engine.open(SHAPE, CALIBRATION)
        assert_same_table(reconstruct(again, movie[:2]), table)
        assert_alike(plain, again)
    assert refused == [2]


def test_only_a_network_with_positions_fills_a_table(movie: np.ndarray) -> None:
    opened = Engine("cel0", "cpu").open(SHAPE, CALIBRATION)
    with pytest.raises(InputError, match="without their uncertainty"):
        opened.add(movie[:1], lambda _: None)
    assert opened.n_frames == 0


class LoggedLane:
    """Notes what a lane of a GPU would be told."""

    log: list[tuple[object, ...]]
    marks = 0

    def __init__(self, device: torch.device) -> None:
        pass

    @contextmanager
    def work(self) -> Iterator[None]:
        with nullcontext():
            yield

    def mark(self) -> int:
        LoggedLane.marks += 1
        return LoggedLane.marks

    def after(self, mark: int | None) -> None:
        self.log.append(("after", mark))


def test_no_frame_lands_where_another_is_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    log = LoggedLane.log = []
    buffers = list[torch.Tensor]()

    def apart(nbytes: int, _: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        buffers.extend(torch.zeros(nbytes, dtype=torch.uint8) for _ in range(2))
        return buffers[-2], buffers[-1]

    monkeypatch.setattr(landing, "Lane", LoggedLane)
    monkeypatch.setattr(landing, "_buffers", apart)
    monkeypatch.setattr(landing, "wait", lambda mark: log.append(("wait", mark)))
    ring, reader = Landing(CPU), LoggedLane(CPU)
    frames = np.arange(5 * 2 * 3 * 4, dtype=">u2").reshape(5, 2, 3, 4)
    landed, marks = [], []
    for batch in frames:
        log.clear()
        with ring.landed(batch, reader) as there:
            landed.append(there.clone())
        told = list(log)
        # The copy's mark, which the reader waits for, and the reader's own behind it.
        copied, read = LoggedLane.marks - 1, LoggedLane.marks
        assert told[-1] == ("after", copied)
        if len(marks) >= 3:
            before_copied, before_read = marks[-3]
            assert told[:2] == [("wait", before_copied), ("after", before_read)]
        marks.append((copied, read))
    assert len(buffers) == 6
    assert (np.stack([tensor.numpy() for tensor in landed]) == frames).all()
    with ring.landed(np.ones((3, 3, 4), np.float32), reader) as larger:
        assert larger.dtype == torch.float32
        assert larger.shape == (3, 3, 4)
        assert (larger == 1).all()
