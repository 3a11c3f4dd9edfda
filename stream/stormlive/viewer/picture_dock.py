"""The controls for colours and contrast."""

from collections.abc import Callable
from dataclasses import replace

from PySide6.QtCore import QSignalBlocker, Qt
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from stormlive.viewer.look import COLORMAPS, Look

_GAMMA_STEPS = 100


class LookEditor(QGroupBox):
    """Colours and contrast of one picture; typing a limit switches the automatic contrast off.

    Parameters
    ----------
    title : str
        The picture's.
    unit : str
        Of its limits.
    look : Look
        To begin with.
    changed : callable
        Gets each new look.
    """

    def __init__(self, title: str, unit: str, look: Look, changed: Callable[[Look], None]) -> None:
        super().__init__(title)
        self._changed = changed
        self.look = look
        self.colormap = QComboBox()
        self.colormap.addItems(COLORMAPS)
        self.automatic = QCheckBox("automatic, up to")
        self.percentile = _spin_box(50.0, 100.0, 0.1, 1, " %")
        self.percentile.setToolTip("Of the values, so many are not brighter than white.")
        self.low = _spin_box(-1e9, 1e9, 1.0, 2, "")
        self.high = _spin_box(-1e9, 1e9, 1.0, 2, "")
        for box in (self.low, self.high):
            box.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
            box.setToolTip(f"In {unit}; typing here switches the automatic contrast off.")
        self.gamma = QSlider(Qt.Orientation.Horizontal)
        self.gamma.setRange(_GAMMA_STEPS // 5, 2 * _GAMMA_STEPS)
        self._gamma_label = QLabel()
        self._gamma_label.setMinimumWidth(32)
        form = QFormLayout(self)
        form.setContentsMargins(9, 6, 9, 9)
        form.addRow("Colours", self.colormap)
        form.addRow("Contrast", _row(self.automatic, self.percentile))
        form.addRow("Black", self.low)
        form.addRow("White", self.high)
        form.addRow("", QLabel(unit))
        form.addRow("Gamma", _row(self.gamma, self._gamma_label))
        self.set_look(look)
        self.colormap.currentTextChanged.connect(lambda name: self._change(replace(self.look, colormap=name)))
        self.percentile.valueChanged.connect(lambda value: self._change(replace(self.look, percentile=value)))
        self.gamma.valueChanged.connect(lambda value: self._change(replace(self.look, gamma=value / _GAMMA_STEPS)))
        self.automatic.toggled.connect(self._automatic)
        for box in (self.low, self.high):
            box.valueChanged.connect(self._by_hand)

    def set_look(self, look: Look) -> None:
        """Show a look without telling anyone."""
        self.look = look
        widgets = (self.colormap, self.percentile, self.gamma, self.automatic)
        blockers = [QSignalBlocker(widget) for widget in widgets]
        self.colormap.setCurrentText(look.colormap)
        self.percentile.setValue(look.percentile)
        self.percentile.setEnabled(look.limits is None)
        self.gamma.setValue(round(look.gamma * _GAMMA_STEPS))
        self.automatic.setChecked(look.limits is None)
        self._gamma_label.setText(f"{look.gamma:.2f}")
        del blockers

    def show_limits(self, low: float, high: float) -> None:
        """Show the limits that the automatic contrast has found."""
        if self.look.limits is None:
            for box, value in ((self.low, low), (self.high, high)):
                if not box.hasFocus():
                    blocker = QSignalBlocker(box)
                    box.setValue(value)
                    del blocker

    def _change(self, look: Look) -> None:
        self.set_look(look)
        self._changed(look)

    def _automatic(self, on: bool) -> None:
        self._change(replace(self.look, limits=None if on else (self.low.value(), self.high.value())))

    def _by_hand(self) -> None:
        self._change(replace(self.look, limits=(self.low.value(), self.high.value())))


class PictureDock(QWidget):
    """Both pictures' controls."""

    def __init__(self, superres: LookEditor, widefield: LookEditor) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.addWidget(superres)
        column.addWidget(widefield)
        column.addStretch()


def _spin_box(low: float, high: float, step: float, decimals: int, suffix: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setDecimals(decimals)
    box.setSingleStep(step)
    box.setSuffix(suffix)
    box.setKeyboardTracking(False)
    box.setMinimumWidth(70)
    return box


def _row(*widgets: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return row
