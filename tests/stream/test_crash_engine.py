"""The real engine, killed in a run: canvas and table of localizations are those of an undisturbed run."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from children import killed_at_last
from stormlive.acquire import connection, sender
from stormlive.acquire.hook import StreamHook
from stormlive.output.ome_tiff import read_image
from stormlive.server.engine import Engine
from stormlive.wire.calibration import Calibration

SHAPE = (16, 20)
CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=30)
SERVER = """
import sys
from pathlib import Path
from stormlive.server.engine import Engine
from stormlive.server.finish import RunWriter
from stormlive.server.loop import Server
engine = Engine("livenet", "cpu")
writer = RunWriter(engine, Path(sys.argv[2]), folder_per_run=True, localizations=Path(sys.argv[3]))
options = {"open_table": writer.open_table, "shelf": writer.shelf, "checkpoint_s": 0.05, "max_batch": 8}
with Server(engine, finish=writer, bind=sys.argv[1], **options) as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.5)
    monkeypatch.setattr(sender, "LONGEST_PAUSE_S", 0.3)


def soon(condition: Callable[[], bool], wait_s: float = 60.0) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@contextmanager
def served(bind: str, out: Path, table: str) -> Iterator[str]:
    """Run a server, and kill it at the end."""
    command = [sys.executable, "-c", SERVER, bind, str(out), table]
    with killed_at_last(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)) as process:
        yield process.stdout.readline().strip()


def blinking(n: int) -> np.ndarray:
    """Return frames (n, Y, X) with a bright spot here and there."""
    random = np.random.default_rng(3)
    frames = random.normal(110, 3, (n, *SHAPE))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for frame in frames:
        for _ in range(2):
            at_y, at_x = random.uniform(2, SHAPE[0] - 2), random.uniform(2, SHAPE[1] - 2)
            frame += 400 * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * 1.3**2))
    return frames.clip(0, 65_535).astype(np.uint16)


@pytest.mark.timeout(240)
def test_killed_the_real_engine_ends_with_the_offline_canvas_and_table(tmp_path: Path) -> None:
    frames, out = blinking(120), tmp_path / "runs"
    with served("tcp://127.0.0.1:*", out, "t.csv") as address:
        hook = StreamHook(address, calibration=CALIBRATION, name="cell", outbox_mb=100 * 640 / 2**20)
        for n, frame in enumerate(frames[:60]):
            hook(frame, {"Axes": {"time": n}})
        soon(lambda: hook.progress.live > 20 and bool(list(out.glob("cell/checkpoint/*.safetensors"))))
    for n, frame in enumerate(frames[60:], 60):
        soon(lambda: hook._outbox.has_room)
        hook(frame, {"Axes": {"time": n}})
    with served(address, out, "t.csv"):
        report = hook.close(60)
    assert report.complete, report.sentence
    folder = Path(report.folder)
    record = json.loads((folder / "run.json").read_text())
    assert sum("taken up again" in notice for notice in record["frames"]["notices"]) == 1
    taken: list[np.ndarray] = []
    offline = Engine("livenet", "cpu").open(SHAPE, CALIBRATION)
    offline.add(frames, taken.append)
    canvas = read_image(folder / "superres.ome.tif")[0]
    np.testing.assert_allclose(canvas, offline.canvas(), rtol=1e-4, atol=1e-5)
    rows = np.genfromtxt(folder / "t.csv", delimiter=",", skip_header=1)
    expected = np.concatenate(taken)
    assert len(rows) == len(expected) > 100
    found = rows[np.lexsort((rows[:, 3], rows[:, 2], rows[:, 1]))]
    wanted = expected[np.lexsort((expected["y_nm"], expected["x_nm"], expected["frame"]))]
    np.testing.assert_array_equal(found[:, 1], wanted["frame"] + 1)
    np.testing.assert_allclose(found[:, 2], wanted["x_nm"], atol=0.11)
    np.testing.assert_allclose(found[:, 3], wanted["y_nm"], atol=0.11)
