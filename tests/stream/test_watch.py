"""``stormlive watch`` on recordings that grow."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import fake_engine as fake
from children import killed_at_last
from served import Closed, soon
from stormlive.cli.app import run
from stormlive.server.loop import Server
from stormlive_sim import growing

WRITER = Path(__file__).parents[1] / "sim" / "growing_writer.py"
SHAPE = (20, 24)
CALIBRATION = ("--pixel-size-nm", "100", "--baseline-adu", "100", "--photons-per-adu", "0.5", "--exposure-ms", "10")


def frame(i: int) -> np.ndarray:
    """The writer's frame `i`."""
    return np.random.default_rng(i).integers(90, 500, SHAPE).astype(np.uint16)


def watch(path: Path, server: Server, *more: str) -> int:
    return run(["watch", str(path), "--headless", "--server", server.address, *CALIBRATION, *more])


@pytest.mark.parametrize(("kind", "idle"), [("tiff", "1.5"), ("ndtiff", "60")])
def test_a_thousand_frames_are_shown_while_they_are_written(
    kind: str, idle: str, tmp_path: Path, server: Server, closed: Closed, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("raw" if kind == "ndtiff" else "movie.tif")
    command = [sys.executable, str(WRITER), kind, str(path), "1000", "0.001"]
    with killed_at_last(subprocess.Popen(command, stdout=subprocess.PIPE)) as writer:
        assert writer.stdout.readline() == b"0\n"
        drain = threading.Thread(target=writer.stdout.read)
        drain.start()
        assert watch(path, server, "--idle", idle) == 0
        writer.kill()
        drain.join()
    ((finished, canvas),) = closed.runs
    assert finished.exit_status == "ok"
    np.testing.assert_array_equal(canvas.canvas, fake.direct_canvas(np.array([frame(i) for i in range(1000)])))
    said = capsys.readouterr().err
    assert ("the recording is complete" if kind == "ndtiff" else "nothing was written any more") in said
    assert "1000" in said


def test_a_file_that_shrinks_ends_the_run_with_what_came_before(
    tmp_path: Path, server: Server, closed: Closed, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as tiff:
        for i in range(20):
            tiff.write(frame(i), contiguous=False, metadata=None)
    whole = path.read_bytes()

    def cut() -> None:
        while sum(server.engine.batches) < 20 and not closed.runs:
            time.sleep(0.01)
        path.write_bytes(whole[:3000])

    shrink = threading.Thread(target=cut)
    shrink.start()
    assert watch(path, server, "--idle", "20") == 1
    shrink.join()
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "became shorter" in error
    ((finished, canvas),) = closed.runs
    assert finished.exit_status.startswith("aborted: ")
    np.testing.assert_array_equal(canvas.canvas, fake.direct_canvas(np.array([frame(i) for i in range(20)])))


def test_a_server_that_is_stopped_leaves_the_recording_to_be_reconstructed(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "movie.tif"

    def write(n: int) -> None:
        with tifffile.TiffWriter(path, append=True) as tiff:
            for i in range(n):
                tiff.write(frame(i), contiguous=False, metadata=None)

    def stop() -> None:
        soon(lambda: sum(server.engine.batches) == 20)
        server.stop()
        write(5)

    write(20)
    stopping = threading.Thread(target=stop)
    stopping.start()
    assert watch(path, server, "--idle", "20") == 1
    stopping.join()
    error = capsys.readouterr().err.strip().splitlines()[-1]
    said = r"the server ended the run: server stopped.*\(20 of 2\d frames are in the picture.*\); the recording"
    assert re.search(said, error), error
    assert f"stormlive reconstruct {path} -o" in error


def test_frames_that_end_in_zeros_are_in_the_picture_and_empty_ones_are_told(
    tmp_path: Path, server: Server, closed: Closed, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "movie.ome.tif"
    stack = tifffile.memmap(path, shape=(20, *SHAPE), dtype=np.uint16, ome=True, metadata={"axes": "TYX"})
    for i in range(15):
        stack[i, :-1] = frame(i)[:-1]
    stack.flush()
    assert watch(path, server, "--idle", "0.3") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "15 of 15 frames" in said
    assert "not in the picture: 5;" in said
    ((_, canvas),) = closed.runs
    np.testing.assert_array_equal(canvas.canvas, fake.direct_canvas(stack[:15]))


def test_ctrl_c_before_the_first_frame_is_no_error(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    following, wait = threading.Event(), growing.FollowedRecording.__iter__

    def followed(self: growing.FollowedRecording) -> Iterator[tuple[Any, np.ndarray]]:
        following.set()
        return wait(self)

    def interrupt() -> None:
        following.wait(30)
        time.sleep(0.5)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(growing.FollowedRecording, "__iter__", followed)
    user = threading.Thread(target=interrupt)
    user.start()
    assert watch(tmp_path / "none.tif", server) == 0
    user.join()
    assert "stopped before a frame had come" in capsys.readouterr().err


def test_what_is_asked_wrongly_is_told_in_one_line(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["watch", str(tmp_path / "raw"), "--headless"]) == 1
    assert "calibration" in capsys.readouterr().err
    assert watch(tmp_path / "none.tif", server, "--idle", "0.3") == 1
    assert "no frame appeared" in capsys.readouterr().err
    assert watch(tmp_path / "none.tif", server, "--out", str(tmp_path / "out")) == 1
    assert "stormlive serve" in capsys.readouterr().err
