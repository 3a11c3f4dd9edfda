"""The sentence under the pictures when something is wrong, or was done."""

from PySide6.QtCore import QEvent, QObject, Qt, QTimer
from PySide6.QtWidgets import QLabel, QWidget

_COLOURS = {
    "done": "background: #123524; color: #b9f0cd",
    "trouble": "background: #4a3410; color: #ffd796",
    "lost": "background: #4a1613; color: #ffc2bd",
}
_ACROSS, _ALONG = 10, 5
_DONE_MS, _FAILED_MS = 6000, 15_000


class TroubleBar(QLabel):
    """Lies on the lower edge of its parent, which keeps the place of one line free: nothing moves when it comes.

    A sentence of several lines covers what lies above. What was done or failed stands for a while before what is wrong
    with the run, which stands as long as it is so.

    Attributes
    ----------
    line_px : int
        Height of the place to keep free.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        self.setContentsMargins(_ACROSS, _ALONG, _ACROSS, _ALONG)
        self._on = parent
        self.line_px = self.fontMetrics().height() + 2 * _ALONG
        self._standing = ("", "trouble")
        self._passing = QTimer(self)
        self._passing.setSingleShot(True)
        self._passing.timeout.connect(lambda: self._show(*self._standing))
        self.hide()
        parent.installEventFilter(self)

    def trouble(self, text: str | None) -> None:
        """Say what is wrong with the run; None: nothing is."""
        self._stand(text or "", "trouble")

    def lost(self, text: str) -> None:
        """Say that the run or the connection to it is lost."""
        self._stand(text, "lost")

    def done(self, text: str) -> None:
        """Say for a moment what was done."""
        self._pass(text, "done", _DONE_MS)

    def failed(self, text: str) -> None:
        """Say for a moment what could not be done."""
        self._pass(text, "lost", _FAILED_MS)

    def clear(self) -> None:
        """Say nothing."""
        self._passing.stop()
        self._stand("", "trouble")

    def _stand(self, text: str, kind: str) -> None:
        self._standing = text, kind
        if not self._passing.isActive():
            self._show(text, kind)

    def _pass(self, text: str, kind: str, for_ms: int) -> None:
        self._passing.start(for_ms)
        self._show(text, kind)

    def _show(self, text: str, kind: str) -> None:
        if text:
            self.setStyleSheet(_COLOURS[kind])
            self.setText(text)
            self._lie_down()
            self.raise_()
        self.setVisible(bool(text))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Stay on the parent's lower edge."""
        if event.type() == QEvent.Type.Resize:
            self._lie_down()
        return super().eventFilter(watched, event)

    def _lie_down(self) -> None:
        size = self._on.size()
        height = max(self.line_px, self.heightForWidth(size.width()))
        self.setGeometry(0, size.height() - height, size.width(), height)
