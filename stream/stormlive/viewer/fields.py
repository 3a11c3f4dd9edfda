"""Fields that a person fills in: whatever is wrong with one is said in a sentence that names it."""

from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QLineEdit, QPushButton, QWidget

from stormlive.acquire.acquisition import Region
from stormlive.acquire.request import parse_region
from stormlive.viewer.theme import DIM, GREY
from stormlive_sim.errors import InputError

_SHAPE = "border-radius: 3px; padding: 2px 3px"
_LINE = f"""
QLineEdit {{ border: 1px solid #33333f; {_SHAPE} }}
QLineEdit:disabled {{ color: {DIM}; placeholder-text-color: {DIM} }}
"""
_WRONG = f"QLineEdit {{ border: 1px solid #ff5247; background: #2a1416; {_SHAPE} }}"
_UNIT_PX = 64


class Field(QWidget):
    """A line to type in, with its unit or a button behind it.

    Parameters
    ----------
    name : str
        As it stands before the field, and in what is said about it.
    behind : QWidget or None
        Shown right of the line.
    """

    def __init__(self, name: str, behind: QWidget | None = None) -> None:
        super().__init__()
        self.name = name
        self.line = QLineEdit()
        self.line.setStyleSheet(_LINE)
        self.line.textChanged.connect(lambda: self.line.setStyleSheet(_LINE))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.line, 1)
        if behind is not None:
            row.addWidget(behind)
        self.setFocusProxy(self.line)

    @property
    def text(self) -> str:
        """What was typed, without blanks around it."""
        return self.line.text().strip()

    @text.setter
    def text(self, text: str) -> None:
        self.line.setText(text)
        self.line.setCursorPosition(0)

    def refused(self, why: str) -> InputError:
        """Mark the field and return an error that says why."""
        self.line.setStyleSheet(_WRONG)
        self.line.setFocus()
        return InputError(f"{self.name}: {why}")


class NumberField(Field):
    """A number with its unit; a comma counts as a decimal point.

    Parameters
    ----------
    low, high : float
        Its limits.
    whole : bool
        Whether it must be a whole number.
    empty : str
        What it means to give none; without a meaning a number must be given.
    """

    def __init__(
        self, name: str, unit: str, low: float, high: float, *, whole: bool = False, empty: str = "", hint: str = ""
    ) -> None:
        label = QLabel(unit)
        label.setStyleSheet(f"QLabel {{ color: {GREY} }} QLabel:disabled {{ color: {DIM} }}")
        label.setMinimumWidth(_UNIT_PX)
        super().__init__(name, label)
        self._unit, self._low, self._high, self._whole, self._empty = unit, low, high, whole, empty
        self.line.setPlaceholderText(empty)
        self.setToolTip(f"{hint} {self._expected()}".strip())

    def value(self) -> float | None:
        """Return the number; None where there is none and that means something.

        Raises
        ------
        InputError
            When it is none, or beyond its limits.
        """
        text = self.text
        if not text and self._empty:
            return None
        try:
            number = float(text.replace(",", "."))
        except ValueError:
            raise self.refused(f"{self._expected()}, got {text!r}" if text else self._expected()) from None
        if not self._low <= number <= self._high or (self._whole and number != int(number)):
            raise self.refused(f"{self._expected()}, got {text}")
        return number

    def _expected(self) -> str:
        kind = "whole number" if self._whole else "number"
        return f"expected a {kind} from {_plain(self._low)} to {_plain(self._high)} ({self._unit})"


class RegionField(Field):
    """A part of the camera, in its pixels."""

    def __init__(self, name: str, behind: QWidget) -> None:
        super().__init__(name, behind)
        self.line.setPlaceholderText("the whole camera")
        self.setToolTip("Left, top, width and height in camera pixels, such as 128, 0, 256, 256.")

    def value(self) -> Region | None:
        """Return (x, y, width, height); None for the whole camera.

        Raises
        ------
        InputError
            When the text is none.
        """
        try:
            return parse_region(self.text) if self.text else None
        except InputError as error:
            raise self.refused(str(error)) from None


class PathField(Field):
    """A file or a folder, typed or chosen.

    Parameters
    ----------
    kinds : str
        Of files, as `QFileDialog` has them; empty for a folder.
    expected : str
        What it is to be, in words.
    optional : str
        What it means to give none; without a meaning one must be given.
    new : bool
        Whether a folder need not be there yet.
    """

    def __init__(self, name: str, *, kinds: str, expected: str, optional: str = "", new: bool = False) -> None:
        self.button = QPushButton("…")
        self.button.setFixedWidth(34)
        self.button.clicked.connect(self._choose)
        super().__init__(name, self.button)
        self._kinds, self._expected, self._optional, self._new = kinds, expected, optional, new
        self.line.setPlaceholderText(optional)
        self.setToolTip(expected)

    def value(self) -> Path | None:
        """Return the path; None where there is none and that means something.

        Raises
        ------
        InputError
            When there is nothing at that path.
        """
        if not self.text:
            if self._optional:
                return None
            raise self.refused(f"choose {self._expected}")
        path = Path(self.text).expanduser()
        there = path.exists() if self._kinds else path.is_dir()
        if not there and (path.exists() or not self._new):
            raise self.refused(f"expected {self._expected}, but there is none at {path}; choose it with …")
        return path

    def _choose(self) -> None:
        title = f"Choose {self._expected}"
        if self._kinds:
            chosen, _ = QFileDialog.getOpenFileName(self, title, self.text, self._kinds)
        else:
            chosen = QFileDialog.getExistingDirectory(self, title, self.text)
        if chosen:
            self.text = chosen


def _plain(limit: float) -> str:
    return f"{limit:.0f}" if limit == int(limit) else f"{limit:g}"
