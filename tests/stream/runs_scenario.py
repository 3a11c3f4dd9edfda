"""A user who starts and stops runs from the real window, as a script: ``runs_scenario.py FOLDER``."""

import multiprocessing
import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QMessageBox

from fake_engine import FakeEngine, finish_in
from stormlive.cli import desk as desk_module
from stormlive.cli.desk import Desk
from stormlive.output.manifest import read_record
from stormlive.server.loop import Server
from stormlive.server.shelf import Shelf
from stormlive.viewer.acquisition_form import AcquisitionForm
from stormlive.viewer.acquisition_window import AcquisitionWindow
from stormlive.viewer.fields import Field
from stormlive.viewer.live_window import LiveWindow
from stormlive.viewer.memory import Memory
from stormlive.viewer.runs import RunState, RunsView
from stormlive_sim.recording import Recording
from window_scenario import button, drag, drive

User = Generator[Callable[[], bool], None, None]
N_FRAMES, SIDE = 3000, 32
PATIENCE_S = 80  # processes that import torch on a busy machine


def type_into(field: Field, text: str) -> None:
    field.line.setFocus()
    field.line.selectAll()
    QTest.keyClick(field.line, Qt.Key.Key_Delete)
    QTest.keyClicks(field.line, text)


def acquisition_process() -> multiprocessing.Process:
    (found,) = [child for child in multiprocessing.active_children() if child.name == "stormlive-acquisition"]
    return found


def frames_of(window: AcquisitionWindow, name: str) -> int:
    """Return how many frames of the run of that name are in the picture."""
    shown = window.scene.shown
    return 0 if shown is None or shown.report is None or shown.report.name != name else shown.report.live


def fills_in(live: LiveWindow, desk: Desk, folder: Path) -> User:
    """Fill in the form: what is wrong is named, and nothing is started."""
    window: AcquisitionWindow = live.window
    dock, form = window.acquisition, window.acquisition.form
    assert window.docks["Acquisition"].isVisible()
    yield lambda: window.sign.isVisible() and window.sign.text() == "Choose a camera and press Start (F5)."
    assert form.movie.isHidden()
    form.source.setCurrentText("Movie file")
    assert form.movie.isVisible()
    assert not form.sample.isVisible()
    button(live, "Start").click()
    assert dock.message.text().startswith("Movie: choose a recorded movie")
    type_into(form.movie, str(folder / "missing.tif"))
    QTest.keyClick(window, Qt.Key.Key_F5)
    assert "there is none at" in dock.message.text()
    QFileDialog.getOpenFileName = lambda *_: (str(folder / "movie.tif"), "")
    form.movie.button.click()
    type_into(form.exposure, "50")
    # The numbers of the simulated camera are not those of whatever recorded the movie.
    for field, wrong, right in (
        (form.pixel_size, "", "100"),
        (form.baseline, "1e6", "100"),
        (form.gain, "half", "0,5"),
        (form.region, "1, 2, 3", ""),
        (form.name, "a/b", "cell"),
    ):
        type_into(field, wrong)
        button(live, "Start").click()
        assert dock.message.text().startswith(f"{field.name}: "), dock.message.text()
        assert "expected" in dock.message.text() or field is form.name
        assert desk.state.phase == "idle"
        assert window.focusWidget() is field.line
        type_into(field, right)
        assert not dock.message.text().startswith(field.name), "what is being mended is not complained of"
    form.model.setCurrentText("small")
    type_into(form.folder, str(folder / "runs"))
    type_into(form.frames, str(N_FRAMES + 1))
    button(live, "Start").click()
    yield lambda: desk.state.failed and "choose “Frames” up to that" in dock.message.text()
    assert button(live, "Start").isEnabled()
    assert not (folder / "runs").exists()
    type_into(form.frames, "")


def runs_and_stops(live: LiveWindow, desk: Desk, folder: Path) -> User:
    """Start a run in real processes, see it grow, stop it, and find its files."""
    window: AcquisitionWindow = live.window
    dock = window.acquisition
    said, say = list[str](), window.sign.say
    window.sign.say = lambda text: (said.append(text), say(text))
    QTest.keyClick(window, Qt.Key.Key_F5)
    assert not button(live, "Start").isEnabled()
    assert not dock.form.isEnabled()
    yield lambda: frames_of(window, "cell") >= 5
    assert not window.sign.isVisible()
    assert any(text.startswith("looking for the camera and loading the model …") for text in said), said
    assert any("the server at 127.0.0.1:" in text.lower() for text in said), said
    seen = frames_of(window, "cell")
    yield lambda: frames_of(window, "cell") > seen
    QTest.keyClick(window, Qt.Key.Key_F5, Qt.KeyboardModifier.ShiftModifier)
    yield lambda: not dock.busy and "in the picture" in dock.message.text()
    assert not desk.state.failed, desk.state
    assert window.trouble.isVisible()
    record = read_record(folder / "runs" / "cell")
    assert record.exit_status == "stopped"
    with Recording.open(folder / "runs" / "cell" / "raw_1") as raw:
        assert 0 < len(raw) < N_FRAMES
        assert record.summary == f"{len(raw)} of {len(raw)} frames are in the picture."
    assert (folder / "runs" / "cell" / "superres.ome.tif").exists()
    yield lambda: frames_of(window, "cell") > 0  # its picture can still be looked at


def takes_the_box(live: LiveWindow, _desk: Desk, _folder: Path) -> User:
    """Draw a box, which becomes the camera's region."""
    window: AcquisitionWindow = live.window
    button(live, "Region").click()
    native = window.scene.canvas.native
    drag(live, native.rect().center() * 0.6, native.rect().center() * 0.9)
    yield lambda: window.mouse.region is not None
    window.acquisition.form.box.click()
    x, y, width, height = window.acquisition.form.region.value()
    assert 0 < x < x + width < SIDE
    assert 0 < y < y + height < SIDE
    assert f"--roi {x},{y},{width},{height}<" in window.measure.region.text()


def starts_again(live: LiveWindow, desk: Desk, folder: Path) -> User:
    """Start another run, whose acquisition dies."""
    window: AcquisitionWindow = live.window
    dock = window.acquisition
    type_into(dock.form.region, "2, 4, 24, 16")
    button(live, "Start").click()
    assert window.scene.shown is None, "nothing of the run before is shown"
    assert window.mouse.region is None
    assert window.measure.origin == (2, 4)
    yield lambda: frames_of(window, "cell-2") > 0
    assert window.scene.shown.field_nm == (1600, 2400)
    acquisition_process().kill()
    yield lambda: not dock.busy and "ended unexpectedly" in dock.message.text()
    assert "ended unexpectedly" in window.trouble.text()
    assert window.isVisible()
    assert (folder / "runs" / "cell-2" / "raw_1").is_dir()


def asked(window: AcquisitionWindow) -> list[QMessageBox]:
    return [box for box in window.findChildren(QMessageBox) if box.isVisible()]


def answer(window: AcquisitionWindow, text: str) -> None:
    (box,) = asked(window)
    next(choice for choice in box.buttons() if choice.text() == text).click()
    assert not asked(window)


def closes(live: LiveWindow, desk: Desk, _folder: Path) -> User:
    """Close the window during a run: it stays until the run has ended."""
    window: AcquisitionWindow = live.window
    start, stop = button(live, "Start"), button(live, "Stop")
    ended, running = desk.state, RunState(phase="acquiring")
    desk._state = running
    yield stop.isEnabled
    window.close()
    answer(window, "Keep it running")
    assert not desk._stop.is_set()
    window.close()
    window.close()
    assert len(asked(window)) == 1, "what was asked once is not asked twice"
    desk._state = ended
    yield start.isEnabled
    assert window.isVisible()
    QApplication.setQuitOnLastWindowClosed(False)
    answer(window, "Stop and close")
    QApplication.setQuitOnLastWindowClosed(True)
    assert not window.isVisible(), "the run has ended by itself: there is nothing to wait for"
    window.show()
    desk._state = running
    yield stop.isEnabled
    desk._state = ended
    yield start.isEnabled
    assert window.isVisible(), "the answer was about the run before"
    desk._state = running
    yield stop.isEnabled
    window.close()
    answer(window, "Stop and close")
    assert desk._stop.is_set()
    assert window.isVisible()
    window.close()
    assert not asked(window)
    desk._state = ended
    yield lambda: not window.isVisible()


def main() -> None:
    folder = Path(sys.argv[1])
    frames = np.random.default_rng(0).poisson(110, (N_FRAMES, SIDE, SIDE)).astype(np.uint16)
    tifffile.imwrite(folder / "movie.tif", frames)
    desk = Desk("cpu:torch")
    view = RunsView(desk)
    live = LiveWindow(view, "test", 50, view.whole, desk, waits_for=view.waits_for)
    live.window.resize(960, 640)

    def user(server: Server) -> User:
        yield from fills_in(live, desk, folder)
        yield from runs_and_stops(live, desk, folder)
        yield from takes_the_box(live, desk, folder)
        # A server that costs nothing: that the real one runs has been shown.
        prepare = desk_module.prepare
        desk_module.prepare = lambda *of, **options: replace(prepare(*of, **options), server=server.address)
        yield from starts_again(live, desk, folder)
        yield from closes(live, desk, folder)

    shelf = Shelf(folder / "fake", folder_per_run=True)
    address = "tcp://127.0.0.1:*"
    with Server(FakeEngine(), finish=finish_in(shelf), shelf=shelf, bind=address, heartbeat_s=0.2) as server:
        try:
            drive(live, user(server), lambda: True, PATIENCE_S)
        finally:
            view.close()
            desk.close()
    again = AcquisitionForm(desk.models)
    again.fill(Memory().texts())
    found = [choice.currentText() for choice in (again.source, again.model)]
    found += [field.text for field in (again.movie, again.exposure, again.gain, again.region, again.name)]
    assert found == ["Movie file", "small", str(folder / "movie.tif"), "50", "0,5", "2, 4, 24, 16", "cell"], found
    again.source.setCurrentText("Simulated camera")
    assert again.exposure.text == "30", "each kind of camera keeps its own numbers"
    print("done")


if __name__ == "__main__":
    main()
