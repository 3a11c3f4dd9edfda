"""The time slider under the pictures of a run that has ended."""

from collections.abc import Callable

from PySide6.QtCore import QPoint, Qt, QTimer
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSlider, QToolButton, QWidget

from stormlive.viewer.theme import GREY, WHITE
from stormlive.viewer.view import Replay

_STEP_MS = 120
_ICON_PX = 32
_PLAY = (((8, 4), (28, 16), (8, 28)),)
_STOP = (((7, 5), (13, 5), (13, 27), (7, 27)), ((19, 5), (25, 5), (25, 27), (19, 27)))


def _icon(shapes: tuple[tuple[tuple[int, int], ...], ...]) -> QIcon:
    """Draw polygons: the style's own icons are black, on a dark ground."""
    picture = QPixmap(_ICON_PX, _ICON_PX)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(WHITE))
    for shape in shapes:
        painter.drawPolygon([QPoint(*corner) for corner in shape])
    painter.end()
    return QIcon(picture)


class ReplayBar(QWidget):
    """Plays how the canvas grew; where that was not kept, says why. While a run goes on it is not there.

    Parameters
    ----------
    wanted : callable
        Told which place of the replay is to be shown.
    """

    def __init__(self, wanted: Callable[[int], None]) -> None:
        super().__init__()
        self._wanted = wanted
        self._replay: Replay | None = None
        self._of: tuple[str, tuple[int, ...]] = ("", ())
        self.play = QToolButton()
        self.play.setCheckable(True)
        self.play.setAutoRaise(True)
        self.play.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.play.toggled.connect(self._play)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        # The arrow keys move the pictures.
        self.slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.slider.setToolTip("The super-resolved picture after so many frames (, and . step)")
        self.slider.valueChanged.connect(self._move)
        self.label = QLabel()
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self._timer = QTimer(self)
        self._timer.setInterval(_STEP_MS)
        self._timer.timeout.connect(self._advance)
        row = QHBoxLayout(self)
        row.setContentsMargins(10, 0, 10, 2)
        row.addWidget(self.play)
        row.addWidget(self.slider, 1)
        row.addWidget(self.label)
        self._show_state(False)
        self.hide()

    def show_replay(self, replay: Replay | None, why_not: str, canvas: str = "") -> None:
        """Show where the replay of a canvas is, or in words why there is none; neither: nothing."""
        self._replay = replay
        for widget in (self.play, self.slider):
            widget.setVisible(replay is not None)
        self.setVisible(replay is not None or bool(why_not))
        self.label.setStyleSheet("" if replay is not None else f"color: {GREY}")
        if replay is None:
            self.play.setChecked(False)
            self.label.setText(why_not)
            return
        if self._of != (canvas, replay.frames):
            self._of = canvas, replay.frames
            self.slider.blockSignals(True)
            self.slider.setRange(0, len(replay.frames) - 1)
            self.slider.setValue(replay.at)
            self.slider.blockSignals(False)
        self._show_frames(self.slider.value())

    def step(self, places: int) -> None:
        """Go on, or back, by so many places."""
        if self._replay is not None:
            self.slider.setValue(self.slider.value() + places)

    def toggle(self) -> None:
        """Play, from the beginning where it was at the end, or stop."""
        if self._replay is not None:
            self.play.toggle()

    def _play(self, on: bool) -> None:
        self._show_state(on)
        if not on:
            self._timer.stop()
            return
        if self.slider.value() == self.slider.maximum():
            self.slider.setValue(0)
        self._timer.start()

    def _advance(self) -> None:
        """Go on by one place once the last one is on the screen: a slow disk plays slowly, and skips nothing."""
        if self._replay is None or self._replay.at != self.slider.value():
            return
        if self.slider.value() == self.slider.maximum():
            self.play.setChecked(False)
        else:
            self.step(1)

    def _move(self, place: int) -> None:
        self._show_frames(place)
        self._wanted(place)

    def _show_frames(self, place: int) -> None:
        if self._replay is not None:
            frames = self._replay.frames
            self.label.setText(f"{frames[min(place, len(frames) - 1)]} of {frames[-1]} frames")

    def _show_state(self, playing: bool) -> None:
        self.play.setIcon(_icon(_STOP if playing else _PLAY))
        self.play.setToolTip("Stop (K)" if playing else "Play how the picture grew (K)")
