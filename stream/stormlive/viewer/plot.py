"""A small plot of curves, drawn with QPainter."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from stormlive.viewer.numbers import rounded, short
from stormlive.viewer.theme import FIELD, GREY, WHITE

_MOST_POINTS = 1500


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points (N,) and how to draw them."""

    name: str
    colour: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


class Plot(QWidget):
    """Curves over a common x axis, with the ends of both axes in numbers.

    Parameters
    ----------
    title : str
        Above the curves, at the left; `tell` sets what stands at the right.
    x_unit : str
        Behind the numbers of the x axis.
    from_zero : bool
        Whether the y axis begins at 0.
    least_span : float
        How much the y axis spans at least: what is less than that is not to look like much.
    """

    def __init__(
        self, title: str, x_unit: str, *, height: int = 104, from_zero: bool = True, least_span: float = 0.0
    ) -> None:
        super().__init__()
        self._title, self._x_unit, self._from_zero, self._least_span = title, x_unit, from_zero, least_span
        self._curves: tuple[Curve, ...] = ()
        self._told = ""
        self.setMinimumHeight(height)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)

    def show_curves(self, *curves: Curve, told: str = "") -> None:
        """Draw these curves, and `told` above them."""
        self._curves, self._told = curves, told
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        line = painter.fontMetrics().height()
        drawn = [curve for curve in self._curves if curve.x.size]
        y_low, y_high = _range([curve.y for curve in drawn], from_zero=self._from_zero, least=self._least_span)
        ends = [rounded(y, y_high - y_low) for y in (y_high, y_low)]
        # Plots above each other begin at the same place, unless a number is very long.
        left = max(painter.fontMetrics().horizontalAdvance(told) for told in ("00000", *ends)) + 6
        area = QRectF(left, line + 9, self.width() - left - 6, self.height() - 2 * line - 13)
        x = 0.0
        for name, colour in ((self._title, WHITE), *((curve.name, curve.colour) for curve in self._curves)):
            painter.setPen(QColor(colour))
            painter.drawText(QRectF(x, 0, self.width(), line), Qt.AlignmentFlag.AlignLeft, name)
            x += painter.fontMetrics().horizontalAdvance(f"{name}  ") if name else 0
        painter.setPen(QColor(WHITE))
        painter.drawText(QRectF(0, 0, self.width() - 6, line), Qt.AlignmentFlag.AlignRight, self._told)
        painter.fillRect(area, QColor(FIELD))
        painter.setPen(QColor(GREY))
        if not drawn:
            painter.drawText(area, Qt.AlignmentFlag.AlignCenter, "nothing yet")
            return
        x_low, x_high = _range([curve.x for curve in drawn], from_zero=False)
        right, vertical = Qt.AlignmentFlag.AlignRight, Qt.AlignmentFlag.AlignVCenter
        for told, y in zip(ends, (area.top(), area.bottom()), strict=True):
            painter.drawText(QRectF(0, y - line / 2, left - 5, line), right | vertical, told)
        below = QRectF(area.left(), area.bottom() + 2, area.width(), line)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, short(x_low))
        painter.drawText(below, right, f"{short(x_high)} {self._x_unit}")
        painter.setClipRect(area.adjusted(-3, -3, 3, 3))
        for curve in drawn:
            step = 1 + curve.x.size // _MOST_POINTS
            across = area.left() + (curve.x[::step] - x_low) / (x_high - x_low) * area.width()
            up = area.bottom() - (curve.y[::step] - y_low) / (y_high - y_low) * area.height()
            painter.setPen(QPen(QColor(curve.colour), 1.5))
            points = [QPointF(a, b) for a, b in zip(across.tolist(), up.tolist(), strict=True)]
            if len(points) == 1:
                painter.drawEllipse(points[0], 1.5, 1.5)
            painter.drawPolyline(QPolygonF(points))


def _range(values: list[NDArray[np.float64]], *, from_zero: bool, least: float = 0.0) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    if from_zero:
        low = min(low, 0.0)
    lacking = max(0.0, (least or float(high == low)) - (high - low))
    return low - lacking / 2, high + lacking / 2
