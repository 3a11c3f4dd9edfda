"""Real acquisitions through Pycro-Manager on Micro-Manager's core, each in a process that may hang."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from children import killed_at_last
from scenarios import Scenarios
from stormlive.acquire.process import LOG_NAME
from stormlive.cli.app import run as run_command
from stormlive.output.manifest import read_record
from stormlive.output.ome_tiff import read_image
from stormlive.server.engine import Engine
from stormlive.server.finish import RunWriter
from stormlive.server.loop import Server
from stormlive_sim.routes import name_of

SCRIPT = Path(__file__).with_name("acquisition_scenarios.py")
TIMEOUT_S = 60
Play = Callable[..., dict]


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    scenarios = Scenarios(SCRIPT, tmp_path_factory.mktemp("scenarios") / "log")
    yield scenarios.play
    scenarios.close()


def test_a_movie_through_the_real_core_is_saved_and_seen_bit_for_bit(tmp_path: Path, scenario: Play) -> None:
    for name, case in scenario("movie", tmp_path).items():
        assert case["saved equals"], name
        assert case["hook equals"], name
        assert case["in order"], name
        assert case["progress"], name
        assert case["dataset"], name
        assert case["counts"] == [80, 80], name
        assert case["pixel size"] == pytest.approx([0.216 if "binned" in name else 0.108]), name
        assert 20 < case["rate"] < 550, name  # 2 ms of exposure


def test_sequences_and_snaps_share_one_count_of_frames(tmp_path: Path, scenario: Play) -> None:
    assert scenario("sequence_and_snap", tmp_path) == {"n": 26, "equals": True}


def test_without_hook_without_saving_and_with_an_own_configuration(tmp_path: Path, scenario: Play) -> None:
    answer = scenario("plain", tmp_path)
    assert answer["unhooked"]
    assert answer["unsaved"] == [60, 0, None]
    assert answer["own"] == [60, 16, 32]
    assert all(rate > 1 for rate in answer["rates"])  # frames per second: the camera gives 500


def test_settings_that_cannot_be_are_refused_in_one_line(tmp_path: Path, scenario: Play) -> None:
    answer = scenario("bad_settings", tmp_path)
    words = {
        "roi": "picture of 64x48 pixels",
        "binning": "binning of 1, 2, 4, 8",
        "exposure": "20000 ms",
        "too many": "at most the 10 frames",
        "tiny": "4 × 4",
        "no config": "absent.cfg",
        "no adapter": "NoSuchAdapter",
        "no camera": "with a camera",
        "no mm dir": "absent",
        "colour": "grey pixels",
    }
    for name, word in words.items():
        assert answer[name]["kind"] == "InputError", name
        assert word in answer[name]["message"], name
        assert "\n" not in answer[name]["message"], name
    assert answer["afterwards"] == 5
    failure, unhooked, left = answer["beside"]
    assert "expected a region inside frames of 64x48 pixels, got 50,0,64,64" in failure
    assert unhooked
    assert left == [LOG_NAME], "nothing was acquired"


def test_an_error_of_the_simulated_camera_ends_the_acquisition_and_is_told(tmp_path: Path, scenario: Play) -> None:
    answer = scenario("simulator_error", tmp_path)
    for name, frames in (("sequence", 30), ("snap", 0)):
        case = answer[name]
        assert case["kind"] == "AcquisitionError", name
        assert f"after {frames} of" in case["message"], name
        assert "ValueError: no light in frame" in case["message"], name
        assert case["cause"].startswith("ValueError"), name
        assert case["saved"] == case["readable"] == frames, name
        assert not case["stuck"], name
        assert case["seconds"] < 20, name


def test_a_slow_hook_overflows_the_buffer_which_is_told(tmp_path: Path, scenario: Play) -> None:
    case = scenario("slow_hook", tmp_path)
    assert case["kind"] == "AcquisitionError"
    assert "sequence buffer overflowed" in case["message"]
    # On a busy machine it may overflow before the first frame was taken from it.
    told = f"{case['saved']} frames are saved in" if case["saved"] else "nothing is saved"
    assert told in case["message"]
    assert case["saved"] == case["readable"]
    assert not case["stuck"]


def test_a_hook_that_raises(tmp_path: Path, scenario: Play) -> None:
    case = scenario("raising_hook", tmp_path)
    assert case["kind"] == "AcquisitionError"
    assert "nothing there" in case["message"]
    assert case["saved"] == case["readable"] >= 20


def test_a_full_disk_ends_the_acquisition_instead_of_hanging_it(tmp_path: Path, scenario: Play) -> None:
    for case in scenario("full_disk", tmp_path).values():
        assert case["kind"] == "AcquisitionError"
        assert "No space left on device" in case["message"]
        assert case["saved"] == case["readable"] == 25
        assert not case["stuck"]


def test_an_early_stop_keeps_the_frames_so_far(tmp_path: Path, scenario: Play) -> None:
    answer = scenario("stop", tmp_path)
    assert answer["middle"][:2] == [True, True]
    assert 0 < answer["middle"][2] < 5000
    assert answer["at once"][:2] == [True, True]


def test_a_hang_is_noticed(tmp_path: Path, scenario: Play) -> None:
    case = scenario("stall", tmp_path)
    assert case["kind"] == "AcquisitionError"
    assert "no frame came for 1 s" in case["message"]
    assert case["stuck"]


def test_the_process_reports_its_end_whatever_it_is_and_keeps_its_chatter_to_itself(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "process", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert done.stderr == ""
    answer = json.loads(done.stdout)  # one line, nothing else
    assert answer["good"]["failure"] is None
    assert answer["good"]["saved"] == answer["good"]["readable"] == 60
    assert "chatter from Python" in answer["good"]["log"]
    assert "chatter from C" in answer["good"]["log"]
    assert "no light in frame 30" in answer["failing"]["failure"]
    assert answer["failing"]["saved"] == answer["failing"]["readable"] == 30
    assert "ended unexpectedly" in answer["crashing"]["failure"]
    assert "acquisition.log" in answer["crashing"]["failure"]
    assert "hung for 2 s while starting and was killed" in answer["hanging"]["failure"]


def test_the_process_feeds_a_server(tmp_path: Path, scenario: Play, server: Server) -> None:
    answer = scenario("process_with_hook", tmp_path, server.address)
    assert answer["failure"] is None
    assert answer["saved"] == answer["offered"] == 300
    assert answer["complete"]
    assert answer["folder"] == "folder"
    assert answer["phases"][0] == "starting"
    assert "acquiring" in answer["phases"]
    assert answer["counted"] > 0


def test_channels_and_z_have_canvases_of_their_own_as_their_raw_data_has_pictures(
    tmp_path: Path, scenario: Play
) -> None:
    engine = Engine("livenet", "cpu")
    writer = RunWriter(engine, tmp_path / "runs", folder_per_run=True)
    with Server(engine, bind="tcp://127.0.0.1:*", finish=writer, shelf=writer.shelf) as server:
        answer = scenario("channels_and_z", tmp_path, server.address)
    assert (answer["offered"], answer["complete"]) == (24, True)
    calibration = ("--pixel-size-nm", "100", "--baseline-adu", "100", "--photons-per-adu", "0.5", "--exposure-ms", "2")
    picture = tmp_path / "x.ome.tif"
    assert run_command(["reconstruct", answer["raw"], "-o", str(picture), "--device", "cpu", *calibration]) == 0
    live = Path(answer["folder"])
    canvases = read_record(live).canvases
    assert [(one.axes, one.frames) for one in canvases] == [
        ([("channel", channel), ("z", z)], 6) for channel in ("Cy5", "DAPI") for z in ("0", "1")
    ]
    for one in canvases:
        name = name_of(tuple(one.axes))
        offline, _ = read_image(tmp_path / f"x_{name}.ome.tif")
        assert 3 < offline.sum() < 12  # one emitter in each frame
        np.testing.assert_allclose(read_image(live / f"superres_{name}.ome.tif")[0], offline, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(sys.platform == "win32", reason="a console event cannot be sent to one group there")
def test_ctrl_c_ends_parent_and_child_in_order(tmp_path: Path) -> None:
    with killed_at_last(
        subprocess.Popen(
            [sys.executable, str(SCRIPT), "process_interrupted", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "running\n"
        os.killpg(run.pid, signal.SIGINT)  # as the terminal does: to all processes of the group
        output, errors = run.communicate(timeout=TIMEOUT_S)
    assert errors == ""
    answer = json.loads(output)
    assert answer["failure"] is None
    assert answer["stopped"]
    assert 0 < answer["saved"] == answer["readable"] < 30_000
