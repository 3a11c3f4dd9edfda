"""The server's judgement of the picture: a traffic light with its sentence, and how it came about over time."""

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from stormlive.viewer.history import History
from stormlive.viewer.numbers import rounded, short
from stormlive.viewer.plot import Curve, Plot
from stormlive.viewer.theme import GREY, LIGHTS
from stormlive.viewer.view import LiveView
from stormlive.wire.viewing import Judgement

_WORDS = {"green": "good", "amber": "take care", "red": "do not trust it", "unknown": "not known yet"}
_ABSENT = (
    "There is no judgement (yet): it needs some hundred frames, and a server that judges. "
    "Of several canvases it judges the first eight."
)
_BLUE, _ORANGE = "#6cb6ff", "#ffb86c"
_LIGHT_PX = 22
# A drift is known to a few nanometres.
_LEAST_DRIFT_NM = 10.0


class JudgementDock(QWidget):
    """Traffic light, figures and curves.

    Parameters
    ----------
    errors, corrected : callable
        Told when the map of errors, or the canvas corrected for drift, is wanted or not any more.
    """

    def __init__(self, *, errors: Callable[[bool], None], corrected: Callable[[bool], None]) -> None:
        super().__init__()
        self._history = History()
        self.light = QLabel()
        self.light.setFixedSize(_LIGHT_PX, _LIGHT_PX)
        self.verdict = QLabel()
        self.sentence = QLabel()
        self.sentence.setTextFormat(Qt.TextFormat.PlainText)
        self.sentence.setWordWrap(True)
        self.sentence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._figures = QGridLayout()
        self._figures.setVerticalSpacing(2)
        self._values: dict[str, QLabel] = {}
        for row, name in enumerate(("PSF width σ", "photons", "background", "agreement", "error", "1000 more frames")):
            caption = QLabel(name)
            caption.setStyleSheet(f"color: {GREY}")
            self._values[name] = QLabel("–")
            self._figures.addWidget(caption, row, 0)
            self._figures.addWidget(self._values[name], row, 1, Qt.AlignmentFlag.AlignRight)
        self.resolution = Plot("Resolution (FRC)", "frames")
        self.density = Plot("Density", "frames")
        self.drift = Plot("Drift", "frames", from_zero=False, least_span=_LEAST_DRIFT_NM)
        self.errors = QCheckBox("show errors over the picture")
        self.errors.setToolTip("Blue: where the picture, blurred, disagrees with the widefield.")
        self.corrected = QCheckBox("correct the picture for drift")
        self.errors.toggled.connect(errors)
        self.corrected.toggled.connect(corrected)
        top = QHBoxLayout()
        top.addWidget(self.light)
        top.addWidget(self.verdict, 1)
        column = QVBoxLayout(self)
        column.addLayout(top)
        column.addWidget(self.sentence)
        column.addLayout(self._figures)
        for plot in (self.resolution, self.density, self.drift):
            column.addWidget(plot)
        column.addWidget(self.errors)
        column.addWidget(self.corrected)
        column.addStretch()
        self.show_judgement(None)

    def show_view(self, view: LiveView) -> None:
        """Take up what is said of the canvas that is shown."""
        if view.report is not None:
            self._history.add(view.report.run, view.judgement)
        self.show_judgement(view.judgement)

    def forget(self) -> None:
        """Show nothing of what was judged so far."""
        self._history = History()
        self.show_judgement(None)

    def show_judgement(self, judgement: Judgement | None) -> None:
        """Show a judgement, or that there is none."""
        gauge = "unknown" if judgement is None else judgement.gauge
        colour = LIGHTS[gauge]
        self.light.setStyleSheet(f"background: {colour}; border-radius: {_LIGHT_PX // 2}px")
        self.verdict.setText(f"<b>{_WORDS[gauge]}</b>")
        known = judgement or Judgement()
        lines = [_ABSENT if judgement is None else known.sentence]
        if known.calibration not in lines:
            lines.append(known.calibration)
        if known.converged:
            lines.append("The picture has converged: more frames would hardly improve it.")
        self.sentence.setText("\n".join(line for line in lines if line))
        gain = known.gain_percent_per_1000
        for name, text in (
            ("PSF width σ", _with_unit(known.psf_sigma_nm, "nm")),
            ("photons", _with_unit(known.photons, "per emitter and frame")),
            ("background", _with_unit(known.background, "photons/px")),
            ("agreement", _with_unit(known.rsp, "(RSP)")),
            ("error", _with_unit(known.rse, "photons (RSE)")),
            ("1000 more frames", "–" if gain is None else f"{gain:.2g} % better"),
        ):
            self._values[name].setText(text)
        canvas = known.canvas
        self.resolution.show_curves(self._curve(canvas, "frc_nm", _BLUE), told=_with_unit(known.frc_nm, "nm"))
        self.density.show_curves(
            self._curve(canvas, "density_per_um2", _BLUE), told=_with_unit(known.density_per_um2, "/µm² a frame")
        )
        drift = known.drift_nm
        self.drift.show_curves(
            self._curve(canvas, "drift_nm", _BLUE, 0, "x"),
            self._curve(canvas, "drift_nm", _ORANGE, 1, "y"),
            told="" if drift is None else f"{rounded(drift[0], 100)}, {rounded(drift[1], 100)} nm",
        )

    def _curve(self, canvas: str, field: str, colour: str, index: int | None = None, name: str = "") -> Curve:
        x, y = self._history.curve(canvas, field, index)
        return Curve(name=name, colour=colour, x=x, y=y)


def _with_unit(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{short(value)} {unit}"
