"""What a window without a picture waits for, in plain words, on the pictures' place."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from stormlive.viewer.theme import RAISED, WHITE

_WIDTH_PX = 460
_PLATE = f"background: {RAISED}; color: {WHITE}; border-radius: 8px; padding: 16px; font-size: 15px"


class WaitingSign(QLabel):
    """A plate in the middle of a widget, through which the mouse goes."""

    def __init__(self, over: QWidget) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        self.setFixedWidth(_WIDTH_PX)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setStyleSheet(_PLATE)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        QVBoxLayout(over).addWidget(self, 0, Qt.AlignmentFlag.AlignCenter)
        self.hide()

    def say(self, text: str) -> None:
        """Say what is waited for; nothing where it is empty."""
        if text != self.text():
            self.setText(text)
        self.setVisible(bool(text))
