"""Start and stop of runs: the form, what is done now, and how the last run ended."""

import re
from collections.abc import Callable

from PySide6.QtCore import Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QAction, QDesktopServices
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QScrollArea, QToolButton, QVBoxLayout, QWidget

from stormlive.acquire.acquisition import Region
from stormlive.viewer.acquisition_form import AcquisitionForm
from stormlive.viewer.memory import Memory
from stormlive.viewer.runs import Runs, RunState
from stormlive.viewer.theme import ACCENT, DIM
from stormlive_sim.errors import InputError

_LOOK_MS = 200
_LINES = 3
_HINT = "Choose a camera and press Start (F5)."
# What the command line calls what has a field here.
_FIELDS = {
    "--frames": "Frames",
    "--exposure-ms": "Exposure",
    "--size": "Sensor",
    "--roi": "ROI",
    "--model": "Model",
    "--pixel-size-nm": "Pixel size",
    "--baseline-adu": "Baseline",
    "--photons-per-adu": "Photons/ADU",
}
_STOP_RED = "#b3372f"
_BUTTON = """
QToolButton {{ padding: 6px; border-radius: 4px; background: {0}; color: white; font-weight: bold; }}
QToolButton:disabled {{ background: #2a2a34; color: {1}; }}
"""


class AcquisitionDock(QWidget):
    """Lets its user start and stop runs.

    Parameters
    ----------
    runs : Runs
        Whoever runs them.
    memory : Memory
        Knows what was filled in last.
    box : callable
        Returns the rectangle that is drawn in the picture, in its camera pixels; InputError where there is none.

    Attributes
    ----------
    origin : (int, int)
        Where (x, y) on the sensor the pictures of the run that was started last begin.
    """

    begun = Signal()
    """A run was started: what is shown is not it."""
    changed = Signal(RunState)
    """It has come further, or has ended."""
    complained = Signal()
    """Something is wrong that the user should read here."""

    def __init__(self, runs: Runs, memory: Memory, box: Callable[[], Region]) -> None:
        super().__init__()
        self._runs, self._memory, self._box = runs, memory, box
        self._state = runs.state
        self.origin = (0, 0)
        self.form = AcquisitionForm(runs.models)
        self.form.fill(memory.texts())
        self.form.box.clicked.connect(self._take_box)
        self.form.edited.connect(lambda: self._tell(_HINT))
        self.message = QLabel(_HINT)
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        self.message.setWordWrap(True)
        self.message.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.message.setMinimumHeight(_LINES * self.fontMetrics().lineSpacing())
        self.folder = QPushButton("Open folder")
        self.folder.setEnabled(False)
        self.folder.clicked.connect(self._open_folder)
        area = QScrollArea()
        area.setWidget(self.form)
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._buttons = QHBoxLayout()
        below = QVBoxLayout()
        below.setContentsMargins(8, 0, 8, 6)
        below.addLayout(self._buttons)
        below.addWidget(self.message)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(area, 1)
        column.addLayout(below)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._look)
        self._timer.start(_LOOK_MS)

    def take_actions(self, start: QAction, stop: QAction) -> None:
        """Put buttons for two actions under the form, and keep them as far enabled as they can be done."""
        self._start, self._stop = start, stop
        for action, colour in ((start, ACCENT), (stop, _STOP_RED)):
            button = QToolButton()
            button.setDefaultAction(action)
            button.setSizePolicy(self.folder.sizePolicy())
            button.setStyleSheet(_BUTTON.format(colour, DIM))
            self._buttons.addWidget(button, 1)
        self._buttons.addWidget(self.folder)
        self._enable()

    @property
    def busy(self) -> bool:
        """Whether a run goes on."""
        return self._runs.state.phase != "idle"

    def start(self) -> None:
        """Start what the form asks for; what is wrong with it is said."""
        if self.busy:
            return
        try:
            request = self.form.request()
            self._runs.start(request)
        except InputError as error:
            self._complain(str(error))
            return
        self.origin = (0, 0) if request.roi is None else request.roi[:2]
        self._memory.keep_texts(self.form.texts())
        self.begun.emit()
        self._look()

    def stop(self) -> None:
        """End the run early."""
        self._runs.stop()
        if self.busy:
            self._tell("stopping …")

    def _look(self) -> None:
        state = self._runs.state
        if state == self._state:
            return
        self._state = state
        self._enable()
        if state.phase == "idle" and state.failed:
            self._complain(state.told)
        else:
            self._tell(state.told)
        self.changed.emit(state)

    def _enable(self) -> None:
        idle = self._state.phase == "idle"
        self.form.setEnabled(idle)
        self._start.setEnabled(idle)
        self._stop.setEnabled(not idle)
        self.folder.setEnabled(self._state.folder is not None)

    def _tell(self, text: str) -> None:
        self.message.setStyleSheet("")
        self.message.setText(in_words_of_the_form(text))

    def _complain(self, text: str) -> None:
        self.message.setStyleSheet("color: #ffc2bd")
        self.message.setText(in_words_of_the_form(text))
        self.complained.emit()

    def _take_box(self) -> None:
        try:
            x, y, width, height = self._box()
        except InputError as error:
            self._complain(str(error))
            return
        self.form.region.text = f"{x + self.origin[0]}, {y + self.origin[1]}, {width}, {height}"

    def _open_folder(self) -> None:
        if self._state.folder is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._state.folder)))


def in_words_of_the_form(text: str) -> str:
    """Return what was said for the command line, with the names of the fields for those of options."""
    return re.sub(r"--[a-z-]+", lambda option: f"“{_FIELDS[option[0]]}”" if option[0] in _FIELDS else option[0], text)
