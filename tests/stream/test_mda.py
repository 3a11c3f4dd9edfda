"""pymmcore-plus with its real engine, each acquisition in a process that may hang."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stormlive.server.loop import Server
from stormlive.server.protocols import FinishedRun

pytest.importorskip("pymmcore_plus", reason="the extra pymmcore-plus is not installed")

SCRIPT = Path(__file__).with_name("mda_scenarios.py")
ROOT = Path(__file__).parents[2]
PARTS = [str(ROOT / part) for part in ("stream", "models", "sim")]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([*PARTS, os.environ.get("PYTHONPATH", "")])}

_spec = importlib.util.spec_from_file_location("stormlive_fake_engine", Path(__file__).with_name("fake_engine.py"))
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)


class Closed:
    """Takes the place of the writer of files and keeps the canvases."""

    def __init__(self) -> None:
        self.runs: list[tuple[FinishedRun, Any]] = []

    def __call__(self, run: FinishedRun, canvas: object) -> str:
        self.runs.append((run, canvas))
        return "folder"


@pytest.fixture
def closed() -> Closed:
    return Closed()


@pytest.fixture
def server(closed: Closed) -> Iterator[Server]:
    with Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*") as running:
        yield running
    running.raise_if_failed()


def scenario(name: str, folder: Path, server: Server, *arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), name, str(folder), server.address, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["demo_camera", "python_camera"])
def test_every_frame_of_a_sequence_is_live_and_the_canvas_is_the_offline_one(
    name: str, tmp_path: Path, server: Server, closed: Closed
) -> None:
    answer = scenario(name, tmp_path, server, "1000")
    assert answer["error"] == "None"
    assert answer["in order"]
    assert answer["axes"] == [{"t": 0}, {"t": 999}]
    assert answer["offered"] == answer["live"] == 1000, answer["sentence"]
    ((_, canvas),) = closed.runs
    frames = np.load(tmp_path / "frames.npy")
    assert len(frames) == 1000
    np.testing.assert_array_equal(canvas.canvas, fake.direct_canvas(frames))
    if name == "python_camera":
        assert answer["movie"]
        assert answer["snaps"]
        assert answer["exposure"] == [1.0, 5.0]
        assert answer["frames"] == 1003


def test_the_axes_are_the_indices_of_useq(tmp_path: Path, server: Server) -> None:
    answer = scenario("axes", tmp_path, server)
    assert answer["axes"] == [{"t": 0, "p": 0, "c": 0, "z": 0}, {"t": 1, "p": 1, "c": 1, "z": 2}]
    assert answer["offered"] == 24
    assert answer["error"] == "None"


def test_a_camera_that_fails_ends_the_sequence_and_keeps_what_came_before(tmp_path: Path, server: Server) -> None:
    answer = scenario("broken_camera", tmp_path, server)
    assert "has 20 frames" in answer["failure"]
    assert answer["offered"] == answer["live"] == 20
