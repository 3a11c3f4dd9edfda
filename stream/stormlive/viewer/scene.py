"""The drawing: widefield and super-resolved, side by side or one over the other, one pan and zoom for both."""

import math
from dataclasses import replace
from typing import Literal

from msgspec import UNSET
from vispy import scene
from vispy.scene.visuals import Rectangle

from stormlive.viewer.look import SUPERRES, WIDEFIELD
from stormlive.viewer.pane import DPI, MARGIN, TITLE_HEIGHT, Pane
from stormlive.viewer.view import EVERYTHING, LiveView, Visible

_BACKGROUND = "#0e0e12"
_NM2_PER_UM2 = 1e6
_DIVIDER_PX = 2
_GRIP_PX = (8, 48)
# How near the mouse must be to the divider to take hold of it.
_NEAR_PX = 8
_DEEPEST_NM_PER_PX = 0.05

Layout = Literal["beside", "over"]


class LiveScene:
    """A vispy canvas that shows a `LiveView`; it works in a window and without a screen.

    Attributes
    ----------
    widefield, superres : Pane
        The two pictures.
    wanted : Visible
        What is wanted besides the part that is in sight: which canvas, the last frame, the map of errors.
    """

    def __init__(self, title: str, size: tuple[int, int] = (1240, 700)) -> None:
        self.canvas = scene.SceneCanvas(title=title, size=size, bgcolor=_BACKGROUND, keys=None, dpi=DPI, show=False)
        # In this order: the second is drawn over the first where they overlap.
        self.superres = Pane(self.canvas, "Super-resolved", SUPERRES, _NM2_PER_UM2)
        self.widefield = Pane(self.canvas, "Widefield", WIDEFIELD, None)
        self.widefield.camera.link(self.superres.camera)
        self._divider = Rectangle(center=(0, 0), color=(1, 1, 1, 0.8), border_width=0, parent=self.canvas.scene)
        self._grip = Rectangle(center=(0, 0), color="white", border_width=0, parent=self.canvas.scene)
        self._divider.order = self._grip.order = 10
        self._layout: Layout = "beside"
        self._swipe = 0.5
        self._field_nm: tuple[float, float] | None = None
        self.shown: LiveView | None = None
        self.wanted = EVERYTHING
        self._pooled_for = math.nan
        self.canvas.events.resize.connect(self._lay_out)
        self._lay_out()

    def show(self, view: LiveView) -> None:
        """Draw `view`; a new field size brings the whole field into sight."""
        self.shown = view
        if view.field_nm != self._field_nm:
            self._field_nm = view.field_nm
            self.show_whole_field()
        self._pooled_for = self.visible().nm_per_screen_px
        self.widefield.show(view.widefield, self._pooled_for)
        self.superres.show(view.superres, self._pooled_for)
        self.superres.overlay(view.errors)
        for pane in (self.widefield, self.superres):
            pane.outline(_computed_nm(view))
        self.widefield.rename(f"Widefield, {'last frame' if view.last else 'mean of all frames'}")
        self.superres.rename(self._name_of(view))
        self.canvas.update()

    def clear(self) -> None:
        """Show nothing, until the next view of whatever is the newest."""
        self.shown = self._field_nm = None
        self.wanted = replace(self.wanted, canvas=None)
        for pane in (self.widefield, self.superres):
            pane.clear()
        self.canvas.update()

    def _name_of(self, view: LiveView) -> str:
        newest = " (the newest)" if self.wanted.canvas is None else ""
        name = f"Super-resolved: {view.canvas}{newest}" if view.canvas else "Super-resolved"
        if view.replay is not None and view.replay.at < len(view.replay.frames) - 1:
            name += f", the first {view.replay.frames[view.replay.at]} frames"
        name += ", corrected for drift" if view.corrected else ""
        return name + (", errors in blue" if view.errors is not None else "")

    def refresh(self) -> None:
        """Draw the last view again if the zoom has changed since: how far it is summed down depends on it."""
        if self.shown is not None and self.visible().nm_per_screen_px != self._pooled_for:
            self.show(self.shown)

    def show_whole_field(self) -> None:
        """Undo every pan and zoom."""
        if self._field_nm is not None:
            height_nm, width_nm = self._field_nm
            self.look_at(0.0, 0.0, width_nm, height_nm)

    def look_at(self, x_nm: float, y_nm: float, width_nm: float, height_nm: float) -> None:
        """Bring a part of the field into sight."""
        self.superres.camera.rect = (x_nm, y_nm, width_nm, height_nm)
        self.canvas.update()

    def pan(self, right_nm: float, down_nm: float) -> None:
        """Look at what lies further right and down; the middle of the view stays in the field."""
        part = self.superres.visible()
        height_nm, width_nm = self._field_nm or (math.inf, math.inf)
        x = _between(part.x_nm + right_nm, -part.width_nm / 2, width_nm - part.width_nm / 2)
        y = _between(part.y_nm + down_nm, -part.height_nm / 2, height_nm - part.height_nm / 2)
        self.look_at(x, y, part.width_nm, part.height_nm)

    def zoom(self, factor: float, x_nm: float, y_nm: float) -> None:
        """Make things `factor` times larger, within reason; the point stays where it is on the screen."""
        part = self.superres.visible()
        if self._field_nm is not None:
            out = max(self._field_nm) / (0.25 * max(1.0, min(part.width_nm, part.height_nm)))
            factor = max(factor, 1.0 / max(1.0, out))
        factor = min(factor, part.nm_per_screen_px / _DEEPEST_NM_PER_PX)
        left, top = x_nm - (x_nm - part.x_nm) / factor, y_nm - (y_nm - part.y_nm) / factor
        self.look_at(left, top, part.width_nm / factor, part.height_nm / factor)

    def next_canvas(self) -> None:
        """Ask for the next of the run's canvases; after the last one, for whichever is the newest."""
        choices = [None, *(self.shown.canvases if self.shown is not None else ())]
        at = choices.index(self.wanted.canvas) if self.wanted.canvas in choices else 0
        self.want_canvas(choices[(at + 1) % len(choices)])

    def want_canvas(self, name: str | None) -> None:
        """Ask for the canvas of a name; None: for whichever is the newest."""
        # Where one was in the replay of another means nothing here.
        self.wanted = replace(self.wanted, canvas=name, at=None)

    def visible(self) -> Visible:
        """Return the part of the field that is in sight, and what is wanted there."""
        if self._field_nm is None:
            return self.wanted
        part, wanted = self.superres.visible(), self.wanted
        kept = ("canvas", "last", "errors", "corrected", "at")
        return replace(part, **{name: getattr(wanted, name) for name in kept})

    @property
    def layout(self) -> Layout:
        """``beside``: the pictures side by side; ``over``: widefield left of a divider, super-resolved right of it."""
        return self._layout

    @layout.setter
    def layout(self, layout: Layout) -> None:
        part, before = self.superres.visible(), self.superres.size
        self._layout = layout
        self._lay_out()
        if self._field_nm is None:
            return
        height_nm, width_nm = self._field_nm
        if part.width_nm >= width_nm * 0.999 and part.height_nm >= height_nm * 0.999:
            self.show_whole_field()
            return
        # The same middle at the same scale.
        wider, higher = (new / old for new, old in zip(self.superres.size, before, strict=True))
        width_nm, height_nm = part.width_nm * wider, part.height_nm * higher
        left, top = part.x_nm + (part.width_nm - width_nm) / 2, part.y_nm + (part.height_nm - height_nm) / 2
        self.look_at(left, top, width_nm, height_nm)

    def swipe_to(self, x: float) -> None:
        """Move the divider to x, in pixels of the canvas."""
        self._swipe = _between((x - MARGIN) / max(1, self.canvas.size[0] - 2 * MARGIN), 0.0, 1.0)
        self._lay_out()
        self.canvas.update()

    def near_divider(self, x: float, y: float) -> bool:
        """Tell whether a point of the canvas, in its pixels, is where one takes hold of the divider."""
        return self._layout == "over" and y > TITLE_HEIGHT and abs(x - self._divider_x()) <= _NEAR_PX

    def pane_at(self, x: float, y: float) -> Pane | None:
        """Return the picture at a point of the canvas, in its pixels."""
        if not self.superres.contains(x, y):
            return self.widefield if self.widefield.contains(x, y) else None
        return self.widefield if self._layout == "over" and x < self._divider_x() else self.superres

    def mark(
        self,
        region: tuple[float, float, float, float] | None,
        profile: tuple[float, float, float, float] | None,
    ) -> None:
        """Draw a rectangle and a line, each (x, y, x, y) in nm, in both pictures."""
        for pane in (self.widefield, self.superres):
            pane.mark(region, profile)
        self.canvas.update()

    def _divider_x(self) -> float:
        return float(MARGIN + self._swipe * (self.canvas.size[0] - 2 * MARGIN))

    def _lay_out(self, event: object = None) -> None:
        width, height = self.canvas.size
        pane_height = max(1, height - TITLE_HEIGHT - MARGIN)
        over = self._layout == "over"
        if over:
            pane_width = max(1, width - 2 * MARGIN)
            self.widefield.place(MARGIN, TITLE_HEIGHT, pane_width, pane_height)
            self.superres.place(MARGIN, TITLE_HEIGHT, pane_width, pane_height, title_right=True)
        else:
            pane_width = max(1, (width - 3 * MARGIN) // 2)
            self.widefield.place(MARGIN, TITLE_HEIGHT, pane_width, pane_height)
            self.superres.place(2 * MARGIN + pane_width, TITLE_HEIGHT, pane_width, pane_height)
        self.widefield.on_top(self._divider_x() - MARGIN if over else None)
        middle = self._divider_x(), TITLE_HEIGHT + pane_height / 2
        self._divider.visible = self._grip.visible = over
        self._divider.center, self._divider.width, self._divider.height = middle, _DIVIDER_PX, pane_height
        self._grip.center, (self._grip.width, self._grip.height) = middle, _GRIP_PX


def _computed_nm(view: LiveView) -> tuple[float, float, float, float] | None:
    """Return the rectangle (x, y, x, y) outside of which nothing is computed, where there is one."""
    report = view.report
    if report is None or report.region is UNSET or not report.pixel_size_nm:
        return None
    x, y, width, height = (side * report.pixel_size_nm for side in report.region)
    return x, y, x + width, y + height


def _between(value: float, low: float, high: float) -> float:
    return max(low, min(value, high))
