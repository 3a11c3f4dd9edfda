"""The window that also starts and stops the runs it shows."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import QDockWidget, QMessageBox

from stormlive.acquire.acquisition import Region
from stormlive.viewer.acquisition_dock import AcquisitionDock
from stormlive.viewer.actions import Deed
from stormlive.viewer.main_window import MainWindow
from stormlive.viewer.measure import camera_region
from stormlive.viewer.runs import Runs, RunState
from stormlive_sim.errors import InputError

_WIDTH = 340


class AcquisitionWindow(MainWindow):
    """A `MainWindow` with a form for runs.

    Parameters
    ----------
    title, save_whole
        As a `MainWindow` has them.
    runs : Runs
        Whoever runs the acquisitions.
    """

    _DOCKS = "-acquisition"

    def __init__(self, title: str, save_whole: Callable[[Path], None] | None, runs: Runs) -> None:
        self._runs = runs
        self._leaving = self._close_when_over = False
        super().__init__(title, save_whole)
        self.acquisition.take_actions(self.actions_by_text["Start"], self.actions_by_text["Stop"])
        self.acquisition.begun.connect(self._begin)
        self.acquisition.changed.connect(self._follow)
        self.acquisition.complained.connect(self._show_form)
        self._question = QMessageBox(self)
        self._question.setWindowTitle("A run goes on")
        self._question.setText("A run goes on. Stop it, and close the window when its files are written?")
        self._stop_and_close = self._question.addButton("Stop and close", QMessageBox.ButtonRole.AcceptRole)
        self._question.addButton("Keep it running", QMessageBox.ButtonRole.RejectRole)
        self._question.finished.connect(self._answered)
        self.strip.say("no run")

    def _own_docks(self) -> list[QDockWidget]:
        self.acquisition = AcquisitionDock(self._runs, self._memory, self._box)
        self.acquisition.setMinimumWidth(_WIDTH)
        dock = QDockWidget("Acquisition")
        dock.setWidget(self.acquisition)
        return [dock]

    def _own_deeds(self) -> tuple[Deed, ...]:
        return (
            Deed("Run", "Start", ("F5",), self.acquisition.start, "as the tab Acquisition says", "Start"),
            Deed("Run", "Stop", ("Shift+F5",), self.acquisition.stop, "its files are written", "Stop"),
        )

    def wait_for(self, text: str) -> None:
        """Say how far the run is, too."""
        super().wait_for("\n\n".join(line for line in (self.acquisition.message.text(), text) if line))

    def _begin(self) -> None:
        """Show nothing of the run before."""
        self.actions_by_text["Pause the picture"].setChecked(False)
        self.mouse.forget()
        self.scene.clear()
        self.measure.origin = self.acquisition.origin
        self.judgement.forget()
        self.trouble.clear()

    def _follow(self, state: RunState) -> None:
        if self.scene.shown is None:
            self.strip.say("no run" if state.phase == "idle" else state.told)
        if state.phase != "idle":
            return
        if self._close_when_over:
            self.close()
        elif state.failed:
            self.trouble.failed(self.acquisition.message.text())
        else:
            self.trouble.done(self.acquisition.message.text())

    def _show_form(self) -> None:
        self.docks["Acquisition"].show()
        self.docks["Acquisition"].raise_()

    def _box(self) -> Region:
        shown, box = self.scene.shown, self.mouse.region
        if shown is None or box is None:
            raise InputError("ROI: there is no box yet; choose Region (G) and drag one over a picture")
        return camera_region(box, shown.field_nm, shown.widefield.pixel_size_nm)

    def leave(self) -> None:
        """Close without a question."""
        self._leaving = True
        super().leave()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        """Ask what becomes of a run that goes on."""
        if self.acquisition.busy and not self._leaving:
            event.ignore()
            if not self._close_when_over:
                self._question.open()  # which changes nothing if it is open already
            return
        self._question.hide()
        self._memory.keep_texts(self.acquisition.form.texts())
        super().closeEvent(event)

    def _answered(self) -> None:
        """Do what the user has chosen; the run may have ended before that."""
        if self._question.clickedButton() is not self._stop_and_close:
            return
        if self.acquisition.busy:
            self._close_when_over = True
            self.acquisition.stop()
        else:
            self.close()
