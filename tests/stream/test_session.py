"""One session of server, acquisition and display: what is told and left, without any of the three."""

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from msgspec import UNSET
from rich.console import Console

from served import soon
from stormlive.acquire.acquisition import AcquisitionProgress, AcquisitionSettings
from stormlive.acquire.process import LOG_NAME
from stormlive.cli import desk, live, live_run, session, status, terminal
from stormlive.cli.live_run import Session
from stormlive.cli.session import run_session
from stormlive.viewer import window
from stormlive.wire.calibration import Calibration
from stormlive.wire.viewing import Judgement, Status
from stormlive_sim.errors import InputError

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=20)


class Acquisition:
    """Stands for the process; its folder has a log from the start."""

    report: Any
    log = ""

    def __init__(self, settings: AcquisitionSettings, **_: object) -> None:
        self._folder = settings.out
        self.progress = AcquisitionProgress()

    def start(self) -> None:
        self._folder.mkdir(exist_ok=True)
        (self._folder / LOG_NAME).write_text(self.log)

    def run(self, _on_progress: object) -> object:
        self.start()
        return self.report


@pytest.fixture
def acquisition(monkeypatch: pytest.MonkeyPatch) -> type[Acquisition]:
    class Stand(Acquisition):
        report = SimpleNamespace(
            failure=None,
            hook=SimpleNamespace(folder="run", failed=None, sentence="All is well."),
            result=SimpleNamespace(dataset=None, reported_pixel_size_nm=None, stopped=False),
        )

    @contextmanager
    def connected(*_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(address="tcp://127.0.0.1:1", status=lambda *_: None)

    def view(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(whole=None, steer=None, waits_for=None, leave=None, close=lambda: None)

    monkeypatch.setattr(live_run, "AcquisitionProcess", Stand)
    monkeypatch.setattr(live_run, "connected", connected)
    monkeypatch.setattr(session, "RemoteView", view)
    return Stand


def settings(out: Path) -> Session:
    camera = AcquisitionSettings(n_frames=1, exposure_ms=20, camera=lambda: None, out=out)
    return Session(acquisition=camera, calibration=CALIBRATION, model="m", device="cpu")


@pytest.mark.parametrize(("with_window", "shared"), [(True, False), (True, True), (False, False)])
def test_what_comes_after_the_files_does_not_wait_for_the_window(
    tmp_path: Path, acquisition: type[Acquisition], monkeypatch: pytest.MonkeyPatch, with_window: bool, shared: bool
) -> None:
    written = threading.Event()
    opened = []

    def run_window(*_: object, origin: tuple[int, int], **__: object) -> None:
        assert origin == (7, 3), "it shows its own run, also on a server that others use"
        assert written.wait(10)  # its user closes it when the picture is there
        opened.append(True)

    monkeypatch.setattr(window, "run_window", run_window)
    run = tmp_path / "run"
    asked = settings(run)
    asked = replace(
        asked,
        server="tcp://elsewhere:1" if shared else None,
        acquisition=replace(asked.acquisition, roi=(7, 3, 32, 32)),
    )
    outcome = run_session(asked, run, window=with_window, when_written=lambda _: written.set())
    assert written.is_set()
    assert bool(opened) is with_window
    assert outcome.hook is acquisition.report.hook


@pytest.mark.parametrize(("log", "was_there", "stays"), [("", False, False), ("!", False, True), ("", True, True)])
def test_an_acquisition_that_never_began_leaves_no_empty_folder(
    tmp_path: Path, acquisition: type[Acquisition], log: str, was_there: bool, stays: bool
) -> None:
    folder = tmp_path / "run"
    acquisition.report = SimpleNamespace(failure="the ROI is beside the camera", hook=None, result=None)
    acquisition.log = log
    if was_there:
        folder.mkdir()
    with pytest.raises(InputError, match="the ROI is"):
        run_session(settings(folder), folder, window=False)
    assert folder.exists() is stays


def test_nor_does_one_that_the_window_has_started(
    tmp_path: Path, acquisition: type[Acquisition], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is gone when the window says so: the next run gets its name."""
    acquisition.report = SimpleNamespace(failure="no camera", hook=None, result=None)
    folder = tmp_path / "run"
    monkeypatch.setattr(desk, "prepare", lambda *_, **__: settings(folder))
    runs = desk.Desk("cpu")
    runs.start(SimpleNamespace(out=folder))  # type: ignore[arg-type]
    soon(lambda: runs.state.failed)
    assert not folder.exists()
    assert (runs.state.phase, runs.state.told, runs.state.address, runs.state.folder) == (
        "idle",
        "no camera",
        None,
        None,
    )
    runs.close()


def test_a_run_that_has_finished_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(status, "note", told.append)
    monkeypatch.setattr(status, "_PLAIN_INTERVAL_S", 0.0)

    def finished(run: object, frames_per_s: float) -> Status:
        return Status(state="finished", model="m", device="d", run=run, name=str(run), frames_per_s=frames_per_s)

    first, second = uuid4(), uuid4()
    with status.StatusLine() as line:
        for one in (finished(first, 30.0), finished(first, 20.0), finished(first, 0.0), finished(second, 30.0)):
            line.show(one)
    assert len(told) == 2


def test_the_judgement_is_told_in_the_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(status, "_PLAIN_INTERVAL_S", 3600.0)
    for judgement, told in (
        (UNSET, []),
        (Judgement(gauge="green", sentence="Fine."), ["judgement: green. Fine."]),
        (Judgement(gauge="red", sentence="Bad."), ["judgement: red. Bad."]),
        (Judgement(gauge="green", sentence="Fine.", calibration="Odd."), ["judgement: green. Fine.", "Odd."]),
        (Judgement(gauge="amber", sentence="Odd.", calibration="Odd."), ["judgement: amber. Odd."]),
    ):
        line = status.StatusLine()
        line.show(Status(state="running", model="m", device="d", judgement=judgement))
        line.show(Status(state="finished", model="m", device="d"))
        capsys.readouterr()
        line.tell_judgement()
        assert capsys.readouterr().err.splitlines() == told


def test_the_judgement_is_told_whole_above_a_status_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    for module in (status, terminal):
        monkeypatch.setattr(module, "console", screen)
    with status.StatusLine() as line:
        judgement = Judgement(gauge="red", sentence="Bad.")
        line.show(Status(state="running", model="m", device="d", judgement=judgement))
        line.tell_judgement()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.file.getvalue())
    assert "judgement: red. Bad.\n" in shown


def test_where_the_localizations_lie(tmp_path: Path) -> None:
    table = tmp_path / "found.csv"
    assert live.told_tables(None) == ""
    assert live.told_tables(table) == ""
    (tmp_path / "found_channel-A.csv").touch()
    (tmp_path / "found_channel-B.csv").touch()
    assert live.told_tables(table).count(str(tmp_path)) == 2
    table.touch()
    assert live.told_tables(table) == f"; localizations: {table}"
