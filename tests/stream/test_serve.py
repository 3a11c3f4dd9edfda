"""``stormlive serve``: what it is told and what it tells."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import fake_engine as fake
from served import FRAME_BYTES, make_hook, movie, soon
from server_process import ServerProcess
from stormlive.cli import serve as serve_module
from stormlive.cli.app import run
from stormlive.server import process
from stormlive.server.checkpoint import CHECKPOINT_DIR
from stormlive.server.loop import Server
from stormlive.server.process import ServerSettings
from stormlive.server.shelf import Shelf, refuse_used_folder
from stormlive_sim.errors import InputError


def server_on(out: Path, **options: object) -> Server:
    shelf = Shelf(out, folder_per_run=True)
    limits = {"heartbeat_s": 0.1, "grace_s": 0.4, "checkpoint_s": 0.02}
    return Server(
        fake.FakeEngine(), finish=fake.finish_in(shelf), shelf=shelf, bind="tcp://127.0.0.1:*", **{**limits, **options}
    )


def leave_run(out: Path, frames: np.ndarray) -> None:
    """Leave a run as a server does that is killed with all of these frames in a checkpoint."""
    with ServerProcess(out=out, checkpoint_s=0.02) as killed:
        hook = make_hook(killed.address, name="cell")
        for frame in frames:
            hook(frame)
        soon(lambda: hook.progress.live == len(frames) and not hook._sender._stock._kept)
        killed.kill()
        hook.close(timeout_s=0)


def serve_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: Server, *more: str) -> str:
    """Run the command with that server until its first status; return what it told."""
    asked: list[ServerSettings] = []

    def build(settings: ServerSettings, _when_written: object) -> Server:
        asked.append(settings)
        return server

    def interrupt(self: object, status: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "build_server", build)
    monkeypatch.setattr(serve_module.StatusLine, "show", interrupt)
    assert run(["serve", *more]) == 0
    serve_once.settings = asked[0]
    return " ".join(capsys.readouterr().err.split())


def test_runs_that_were_interrupted_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = movie(40)
    leave_run(tmp_path, frames)
    server = server_on(tmp_path)
    told = serve_once(monkeypatch, capsys, server)
    assert f"run cell in {tmp_path / 'cell'} was interrupted: taken up with 40 frames" in told
    assert "its sender has 0.7 s to come back" in told
    np.testing.assert_array_equal(np.load(tmp_path / "cell" / "canvas.npy"), fake.direct_canvas(frames))
    with server_on(tmp_path) as again:
        assert again.recovered == []


def test_without_checkpoints_nothing_is_kept_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = movie(30)
    with server_on(tmp_path, checkpoint_s=0) as server:
        hook = make_hook(server.address, name="cell")
        for frame in frames:
            hook(frame)
        soon(lambda: hook.progress.live == 30)
        assert not list(tmp_path.rglob(CHECKPOINT_DIR))
        assert not hook._sender._stock._kept  # it need not keep what no server will ask for
        report = hook.close()
    assert report.complete
    np.testing.assert_array_equal(np.load(Path(report.folder) / "canvas.npy"), fake.direct_canvas(frames))
    told = serve_once(monkeypatch, capsys, server_on(tmp_path), "--checkpoint-every", "0")
    assert "no checkpoints: if this server is killed" in told
    assert serve_once.settings.checkpoint_s == 0
    assert "no checkpoints" not in serve_once(monkeypatch, capsys, server_on(tmp_path))


def test_a_run_that_was_interrupted_is_kept_even_by_a_server_that_keeps_no_new_ones(tmp_path: Path) -> None:
    frames = movie(40)
    leave_run(tmp_path, frames)
    with server_on(tmp_path, checkpoint_s=0) as server:
        assert len(server.recovered) == 1
        soon(lambda: (tmp_path / "cell" / "run.json").exists())
    assert not (tmp_path / "cell" / CHECKPOINT_DIR).exists()


def test_the_largest_frame_is_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_once(monkeypatch, capsys, server_on(tmp_path), "--max-frame-mb", "0.5")
    assert serve_once.settings.max_frame_mb == 0.5
    for max_frame_mb, credit_mb in ((0.5, 64), (100, 100)):
        monkeypatch.undo()
        monkeypatch.setattr("stormlive.server.engine.Engine", lambda model, device: fake.FakeEngine())
        settings = ServerSettings(
            bind="tcp://127.0.0.1:0", model="fake", device="cpu", out=tmp_path, max_frame_mb=max_frame_mb
        )
        limits = process.build_server(settings)._limits
        assert (limits.max_frame_bytes, limits.credit_bytes) == (max_frame_mb * 2**20, credit_mb * 2**20)
    with Server(
        fake.FakeEngine(), finish=lambda run, canvases: None, bind="tcp://127.0.0.1:*", max_frame_bytes=FRAME_BYTES
    ) as server:
        with make_hook(server.address) as hook:
            hook(movie(1)[0])
        assert hook.report.complete
        with make_hook(server.address) as hook:
            hook(movie(1, shape=(13, 16))[0])
        assert "the server takes 384" in hook.report.failed


def test_a_folder_with_an_interrupted_run_takes_no_second_one(tmp_path: Path) -> None:
    leave_run(tmp_path, movie(10))
    with pytest.raises(InputError, match="was interrupted") as told:
        refuse_used_folder(tmp_path / "cell")
    assert f"stormlive serve --out {tmp_path}" in str(told.value)
    assert run(["acquire", "--headless", "--frames", "1", "--out", str(tmp_path / "cell")]) == 1
    assert run(["watch", "x.tif", *CALIBRATION, "--out", str(tmp_path / "cell")]) == 1
    assert not (tmp_path / "cell" / "run.json").exists()
    refuse_used_folder(tmp_path / "other")


def test_a_folder_that_cannot_be_written_is_told_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("of somebody")
    for out in (tmp_path / "file", tmp_path / "file" / "runs"):
        assert run(["serve", "--bind", "127.0.0.1:0", "--model", "none such", "--out", str(out)]) == 1
        told = " ".join(capsys.readouterr().err.split())
        assert "file is not a folder, so runs cannot go to" in told
    assert (tmp_path / "file").read_text() == "of somebody"


@pytest.mark.skipif(sys.platform != "linux", reason="nobody, not even root, makes files in /proc")
def test_a_disk_that_takes_no_files_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--bind", "127.0.0.1:0", "--model", "none such", "--out", "/proc/runs"]) == 1
    assert "cannot write /proc/run.json" in " ".join(capsys.readouterr().err.split())


CALIBRATION = [
    f"--{name}={value}"
    for name, value in (
        ("pixel-size-nm", 100),
        ("baseline-adu", 100),
        ("photons-per-adu", 0.5),
        ("exposure-ms", 10),
    )
]


def test_data_folders_reach_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_once(monkeypatch, capsys, server_on(tmp_path), "--data", str(tmp_path), "--data", os.curdir)
    assert serve_once.settings.data == (tmp_path, Path(os.curdir))
    serve_once(monkeypatch, capsys, server_on(tmp_path))
    assert serve_once.settings.data is None
