"""What the mouse does on the pictures: move, zoom, swipe, and draw a rectangle or a line."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vispy.app.canvas import MouseEvent

from stormlive.viewer.scene import LiveScene

Tool = Literal["move", "region", "profile"]
Marks = tuple[float, float, float, float]
_ZOOM = 1.25
_LEFT = 1


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """Where the mouse is in the field, and what the pictures have there per unit of area."""

    x_nm: float
    y_nm: float
    widefield: float | None
    superres: float | None


class Mouse:
    """Takes the mouse's events from the scene, whose own handling would draw it once more for each.

    Attributes
    ----------
    tool : str
        What dragging does.
    region, profile : tuple of float or None
        The rectangle and the line that were drawn, (x, y, x, y) in nm.
    """

    def __init__(
        self,
        scene: LiveScene,
        *,
        moved: Callable[[Cursor | None], None],
        marked: Callable[[], None],
        hover: Callable[[str], None],
    ) -> None:
        self.tool: Tool = "move"
        self.region: Marks | None = None
        self.profile: Marks | None = None
        self._scene = scene
        self._moved, self._marked, self._hover = moved, marked, hover
        self._dragging: str | None = None
        self._pane = scene.superres
        self._from = (0.0, 0.0)
        events = scene.canvas.events
        for name, handler in (
            ("mouse_press", self._press),
            ("mouse_move", self._move),
            ("mouse_release", self._release),
            ("mouse_wheel", self._wheel),
        ):
            getattr(events, name).connect(handler, position="first")

    def forget(self) -> None:
        """Remove rectangle and line."""
        self.region = self.profile = None
        self.redraw()

    def redraw(self) -> None:
        """Draw rectangle and line where they are now."""
        self._scene.mark(self.region, self.profile)
        self._marked()

    def _press(self, event: MouseEvent) -> None:
        event.blocked = True
        x, y = map(float, event.pos)
        if event.button != _LEFT:
            return
        pane = self._scene.pane_at(x, y)
        if self._scene.near_divider(x, y):
            self._dragging = "divider"
        elif pane is not None:
            # While it is dragged over the gap or the other picture, the one where it began counts.
            self._dragging, self._pane = self.tool, pane
            self._from = pane.to_nm(x, y)

    def _move(self, event: MouseEvent) -> None:
        event.blocked = True
        x, y = map(float, event.pos)
        pane = self._scene.pane_at(x, y)
        if self._dragging == "divider":
            self._scene.swipe_to(x)
        elif self._dragging is not None:
            x_nm, y_nm = self._pane.to_nm(x, y)
            if self._dragging == "move":
                self._scene.pan(self._from[0] - x_nm, self._from[1] - y_nm)
            elif self._dragging == "region":
                (left, right), (top, bottom) = sorted((self._from[0], x_nm)), sorted((self._from[1], y_nm))
                self.region = left, top, right, bottom
                self.redraw()
            else:
                self.profile = *self._from, x_nm, y_nm
                self.redraw()
        self._hover("divider" if self._scene.near_divider(x, y) else self.tool)
        if pane is None:
            self._moved(None)
            return
        x_nm, y_nm = pane.to_nm(x, y)
        self._moved(
            Cursor(
                x_nm=x_nm,
                y_nm=y_nm,
                widefield=self._scene.widefield.value_at(x_nm, y_nm),
                superres=self._scene.superres.value_at(x_nm, y_nm),
            )
        )

    def _release(self, event: MouseEvent) -> None:
        # vispy lets go of moves that follow the one before within 10 ms: the last of a quick drag may be among them.
        self._move(event)
        self._dragging = None

    def _wheel(self, event: MouseEvent) -> None:
        event.blocked = True
        pane = self._scene.pane_at(*map(float, event.pos))
        if pane is not None:
            self._scene.zoom(_ZOOM ** float(event.delta[1]), *pane.to_nm(*map(float, event.pos)))
