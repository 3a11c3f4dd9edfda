"""pymmcore-plus with its real engine, in a process that may hang."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import fake_engine as fake
from scenarios import Scenarios
from served import Closed
from stormlive.server.loop import Server

pytest.importorskip("pymmcore_plus", reason="the extra pymmcore-plus is not installed")
Play = Callable[..., dict]


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    script = Path(__file__).with_name("mda_scenarios.py")
    scenarios = Scenarios(script, tmp_path_factory.mktemp("scenarios") / "log")
    yield scenarios.play
    scenarios.close()


@pytest.mark.parametrize("name", ["demo_camera", "python_camera"])
def test_every_frame_of_a_sequence_is_live_and_the_canvas_is_the_offline_one(
    name: str, tmp_path: Path, scenario: Play, server: Server, closed: Closed
) -> None:
    answer = scenario(name, tmp_path, server.address, "1000")
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


def test_the_axes_are_the_indices_of_useq(tmp_path: Path, scenario: Play, server: Server, closed: Closed) -> None:
    answer = scenario("axes", tmp_path, server.address)
    assert answer["axes"] == [{"t": 0, "p": 0, "c": 0, "z": 0}, {"t": 1, "p": 1, "c": 1, "z": 2}]
    assert answer["offered"] == 24
    assert [canvas.n_frames for canvas in closed.canvases[0]] == [2] * 12
    assert {canvas.name for canvas in closed.canvases[0]} >= {"c-0_p-0_z-0", "c-1_p-1_z-2"}
    assert answer["error"] == "None"


def test_a_camera_that_fails_ends_the_sequence_and_keeps_what_came_before(
    tmp_path: Path, scenario: Play, server: Server
) -> None:
    answer = scenario("broken_camera", tmp_path, server.address)
    assert "has 20 frames" in answer["failure"]
    assert answer["offered"] == answer["live"] == 20
