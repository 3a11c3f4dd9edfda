"""The status strip: the run in numbers, where the mouse is, and a plain sentence when something is wrong."""

import html

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QWidget

from stormlive.viewer.mouse import Cursor
from stormlive.viewer.numbers import short
from stormlive.viewer.theme import GREY, LIGHTS
from stormlive.wire.viewing import Status

# With what they usually hold: their places must not jump.
_CELLS = {
    "frames": "10000",
    "camera": "99.9/s",
    "engine": "99.9/s",
    "backlog": "1000",
    "latency p50/p99": "999 ms / 999 ms",
    "dropped": "0",
}


class Strip(QWidget):
    """One line under the pictures."""

    def __init__(self) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 0, 8, 2)
        row.setSpacing(14)
        self.light = QLabel("●")
        self.name = QLabel()
        row.addWidget(self.light)
        row.addWidget(self.name)
        self.cells: dict[str, QLabel] = {}
        for cell, usual in _CELLS.items():
            self.cells[cell] = QLabel()
            self.cells[cell].setMinimumWidth(self.fontMetrics().horizontalAdvance(f"{cell} {usual}"))
            row.addWidget(self.cells[cell])
        row.addStretch(1)
        self.place = QLabel()
        self.place.setAlignment(Qt.AlignmentFlag.AlignRight)
        row.addWidget(self.place)
        self.show_cursor(None)

    def say(self, text: str) -> None:
        """Show a line in place of numbers."""
        self.name.setText(html.escape(text))
        for label in (self.light, *self.cells.values()):
            label.hide()

    def show_status(self, status: Status) -> None:
        """Show a run's numbers."""
        judgement = status.judgement
        gauge = judgement.gauge if judgement else "unknown"
        self.light.setStyleSheet(f"color: {LIGHTS[gauge]}")
        self.light.setToolTip(f"<qt>{html.escape((judgement and judgement.sentence) or 'no judgement yet')}</qt>")
        self.name.setText(f"<b>{html.escape(status.name)}</b> <span style='color:{GREY}'>{status.state}</span>")
        p50, p99 = status.latency_p50_ms, status.latency_p99_ms
        numbers = {
            "frames": f"{status.live + status.replayed}" + (f" of {status.expected}" if status.expected else ""),
            "camera": f"{status.camera_per_s:.3g}/s" if status.camera_per_s else "–",
            "engine": f"{status.frames_per_s:.3g}/s" if status.frames_per_s else "–",
            "backlog": str(status.backlog),
            "latency p50/p99": "–" if p50 is None or p99 is None else f"{_ms(p50)} / {_ms(p99)}",
            "dropped": str(status.dropped),
        }
        for cell, label in self.cells.items():
            label.setText(f"<span style='color:{GREY}'>{cell}</span> {numbers[cell]}")
            label.show()
        self.light.show()

    def show_cursor(self, cursor: Cursor | None) -> None:
        """Show where the mouse is."""
        if cursor is None:
            self.place.clear()
            return
        values = [
            f"{short(value)} {unit}"
            for value, unit in ((cursor.superres, "/µm²"), (cursor.widefield, "photons"))
            if value is not None
        ]
        self.place.setText("   ".join([f"x {cursor.x_nm / 1e3:.3f}  y {cursor.y_nm / 1e3:.3f} µm", *values]))


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1e4 else f"{milliseconds / 1e3:.0f} s"
