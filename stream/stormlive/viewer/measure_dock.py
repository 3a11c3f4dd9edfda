"""What the user's rectangle and line hold."""

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDoubleSpinBox, QGroupBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from stormlive.viewer.measure import Profile, camera_region, fwhm_nm, profile_of, region_of
from stormlive.viewer.mouse import Marks
from stormlive.viewer.numbers import short
from stormlive.viewer.pane import PROFILE_COLOUR
from stormlive.viewer.plot import Curve, Plot
from stormlive.viewer.theme import GREY
from stormlive.viewer.view import LiveView

_REGION_HINT = "Choose <b>Region</b> (G) and drag a rectangle over a picture."
_PROFILE_HINT = "Choose <b>Profile</b> (P) and drag a line across a structure."


class MeasureDock(QWidget):
    """Statistics of a rectangle, profile along a line.

    Attributes
    ----------
    origin : (int, int) or None
        Where (x, y) on the camera's sensor the pictures begin; None where nobody knows.
    """

    def __init__(self) -> None:
        super().__init__()
        self._marks: tuple[Marks | None, Marks | None] = (None, None)
        self._view: LiveView | None = None
        self.origin: tuple[int, int] | None = None
        self.region = _label(_REGION_HINT)
        self.profile = _label(_PROFILE_HINT)
        self.plot = Plot("", "nm", height=170)
        self.band = QDoubleSpinBox()
        self.band.setRange(0.0, 10_000.0)
        self.band.setSuffix(" nm")
        self.band.setDecimals(0)
        self.band.setSingleStep(20.0)
        self.band.valueChanged.connect(self._measure)
        column = QVBoxLayout(self)
        box = QGroupBox("Region")
        QVBoxLayout(box).addWidget(self.region)
        column.addWidget(box)
        box = QGroupBox("Profile")
        inside = QVBoxLayout(box)
        inside.addWidget(self.plot)
        inside.addWidget(self.profile)
        row = QHBoxLayout()
        row.addWidget(QLabel("mean over a width of"))
        row.addWidget(self.band)
        inside.addLayout(row)
        column.addWidget(box)
        column.addStretch()

    def show_view(self, view: LiveView) -> None:
        """Measure in these pictures from now on."""
        self._view = view
        self._measure()

    def mark(self, region: Marks | None, profile: Marks | None) -> None:
        """Measure there from now on."""
        self._marks = region, profile
        self._measure()

    def _measure(self) -> None:
        region, profile = self._marks
        view = self._view
        self.region.setText(_REGION_HINT if region is None or view is None else _told_region(view, region, self.origin))
        if profile is None or view is None:
            self.profile.setText(_PROFILE_HINT)
            self.plot.show_curves()
            return
        fine = profile_of(view.superres, profile, self.band.value())
        coarse = profile_of(view.widefield, profile, self.band.value())
        width_nm = fwhm_nm(fine)
        told = "no single peak" if width_nm is None else f"FWHM {width_nm:.0f} nm"
        self.plot.show_curves(
            _curve("widefield", GREY, coarse), _curve("super-resolved", PROFILE_COLOUR, fine), told=told
        )
        wide = fwhm_nm(coarse)
        self.profile.setText(
            f"super-resolved: <b>{told}</b><br>widefield: "
            + ("no single peak" if wide is None else f"FWHM {wide:.0f} nm")
            + f"<br>each curve over its own maximum; {view.superres.pixel_size_nm:g} nm pixels"
        )


def _told_region(view: LiveView, rectangle: Marks, origin: tuple[int, int] | None) -> str:
    found, wide = region_of(view.superres, rectangle), region_of(view.widefield, rectangle)
    if found is None:
        return "It holds no pixel of the picture."
    x, y, width, height = camera_region(rectangle, view.field_nm, view.widefield.pixel_size_nm)
    lines = [
        f"<b>{found.width_nm / 1e3:.3g} × {found.height_nm / 1e3:.3g} µm</b> ({found.area_um2:.3g} µm²)",
        f"sum <b>{short(found.total)}</b> expected emitters",
        f"mean density <b>{short(found.total / found.area_um2)} /µm²</b>",
        f"in {found.pixel_size_nm:g} nm pixels",
    ]
    if wide is not None:
        n = wide.width_nm * wide.height_nm / wide.pixel_size_nm**2
        lines.append(f"widefield: mean {short(wide.total / n)} photons/px")
    if origin is None:
        lines.append(
            f"<b>{width} × {height}</b> camera pixels at <b>{x}, {y}</b> of this picture: for <code>--roi</code>, add "
            "where it begins on the sensor (the first two numbers of the ROI in use)"
        )
    else:
        roi = x + origin[0], y + origin[1], width, height
        lines.append(f"as the camera's region: <code>--roi {','.join(map(str, roi))}</code>")
    if view.report is not None:
        lines.append("<b>Ctrl+G</b> computes only this from now on, <b>Ctrl+Shift+G</b> everything")
    return "<br>".join(lines)


def _curve(name: str, colour: str, profile: Profile) -> Curve:
    top = float(np.abs(profile.values).max())
    return Curve(name=name, colour=colour, x=profile.at_nm, y=profile.values / top if top else profile.values)


def _label(text: str) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
