"""The drawing: widefield on the left, super-resolved on the right, one pan and zoom for both."""

import math

import numpy as np
from vispy import scene
from vispy.app.canvas import KeyEvent
from vispy.color import Colormap
from vispy.scene.visuals import Image, Rectangle, Text
from vispy.visuals.transforms import STTransform

from stormlive.output.display import (
    GAMMA,
    SUPERRES_COLORMAP,
    WIDEFIELD_COLORMAP,
    auto_contrast,
    colours,
    length_label,
    scale_bar_nm,
    sum_pool,
)
from stormlive.viewer.view import EVERYTHING, LiveView, Picture, Visible

_BACKGROUND = "#0e0e12"
_GREY = "#96969e"
_MARGIN = 10
_TITLE_HEIGHT = 30
_STATUS_HEIGHT = 26
_TITLE_PX, _TEXT_PX = 17, 13
# Asking the system for its resolution starts a process on Linux; all lengths here are in pixels anyway.
_DPI = 96
_HINT = "drag: move   wheel: zoom   R: whole field"
# Every OpenGL 4 card takes this much; wider pictures are summed down.
_MOST_TEXTURE_PX = 8192


class LiveScene:
    """A vispy canvas that shows a `LiveView`; it works in a window and without a screen."""

    def __init__(self, title: str, size: tuple[int, int] = (1240, 700)) -> None:
        self.canvas = scene.SceneCanvas(title=title, size=size, bgcolor=_BACKGROUND, keys=None, dpi=_DPI, show=False)
        self._panes = (
            _Pane(self.canvas, "Widefield", WIDEFIELD_COLORMAP),
            _Pane(self.canvas, "Super-resolved", SUPERRES_COLORMAP),
        )
        self._panes[0].camera.link(self._panes[1].camera)
        self._status = _text(self.canvas, "", _TEXT_PX, "white")
        self._hint = _text(self.canvas, _HINT, _TEXT_PX, _GREY, anchor="right")
        self._field_nm: tuple[float, float] | None = None
        self._shown: LiveView | None = None
        self._pooled_for = math.nan
        self.canvas.events.resize.connect(self._lay_out)
        self.canvas.events.key_press.connect(self._key_pressed)
        self._lay_out()

    def show(self, view: LiveView) -> None:
        """Draw `view`; a new field size brings the whole field into sight."""
        self._shown = view
        if view.field_nm != self._field_nm:
            self._field_nm = view.field_nm
            self.show_whole_field()
        self._pooled_for = self.visible().nm_per_screen_px
        for pane, picture in zip(self._panes, (view.widefield, view.superres), strict=True):
            pane.show(picture, self._pooled_for)
        self.say(view.status)

    def refresh(self) -> None:
        """Draw the last view again if the zoom has changed since: how far it is summed down depends on it."""
        if self._shown is not None and self.visible().nm_per_screen_px != self._pooled_for:
            self.show(self._shown)

    def say(self, status: str) -> None:
        """Set the status line."""
        self._status.text = status
        self.canvas.update()

    def show_whole_field(self) -> None:
        """Undo every pan and zoom."""
        if self._field_nm is not None:
            height_nm, width_nm = self._field_nm
            self._panes[0].camera.rect = (0.0, 0.0, width_nm, height_nm)

    def look_at(self, x_nm: float, y_nm: float, width_nm: float, height_nm: float) -> None:
        """Bring a part of the field into sight."""
        self._panes[0].camera.rect = (x_nm, y_nm, width_nm, height_nm)

    def visible(self) -> Visible:
        """Return the part of the field that is in sight."""
        return EVERYTHING if self._field_nm is None else self._panes[1].visible()

    def _lay_out(self, event: object = None) -> None:
        width, height = self.canvas.size
        pane_width = max(1, (width - 3 * _MARGIN) // 2)
        pane_height = max(1, height - _TITLE_HEIGHT - _STATUS_HEIGHT - _MARGIN)
        for index, pane in enumerate(self._panes):
            pane.place(_MARGIN + index * (pane_width + _MARGIN), _TITLE_HEIGHT, pane_width, pane_height)
        baseline = height - _STATUS_HEIGHT // 2
        self._status.pos = (_MARGIN, baseline)
        self._hint.pos = (width - _MARGIN, baseline)
        # Where a long status line would run into it, the hint makes room.
        self._hint.visible = width > 1000

    def _key_pressed(self, event: KeyEvent) -> None:
        if event.key is not None and event.key.name == "R":
            self.show_whole_field()


class _Pane:
    """One picture with its title and a scale bar that follows the zoom."""

    def __init__(self, canvas: scene.SceneCanvas, title: str, colormap: str) -> None:
        self.camera = scene.cameras.PanZoomCamera(aspect=1, flip=(False, True, False))
        self._box = scene.widgets.ViewBox(camera=self.camera, parent=canvas.scene, bgcolor="black", border_width=0)
        # The format is named so that the card works out contrast and colours; by default vispy does, here.
        self._image = Image(
            np.zeros((1, 1), np.float32),
            texture_format="r32f",
            clim=(0.0, 1.0),
            cmap=Colormap(colours(colormap)),
            gamma=GAMMA,
            interpolation="nearest",
            parent=self._box.scene,
        )
        self._title = _text(canvas, title, _TITLE_PX, "white")
        self._plate = Rectangle(center=(0, 0), color=(0, 0, 0, 0.6), border_width=0, parent=canvas.scene)
        self._bar = Rectangle(center=(0, 0), color="white", border_width=0, parent=canvas.scene)
        self._label = _text(canvas, "", _TEXT_PX, "white", anchor="center")
        self._plate.order, self._bar.order, self._label.order = 1, 2, 3
        self._box.scene.transform.changed.connect(self._scale_bar)

    def place(self, x: int, y: int, width: int, height: int) -> None:
        self._box.pos = (x, y)
        self._box.size = (width, height)
        self._title.pos = (x, y - _TITLE_HEIGHT // 2)
        self._scale_bar()

    def show(self, picture: Picture, nm_per_screen_px: float) -> None:
        pixels, size_nm = picture.pixels, picture.pixel_size_nm
        # A pixel of the screen shows one value of the texture: without the sum, the others would be lost.
        factor = max(math.ceil(nm_per_screen_px / size_nm - 1e-6), math.ceil(max(pixels.shape) / _MOST_TEXTURE_PX), 1)
        pooled = sum_pool(pixels, factor)
        self._image.set_data(pooled)
        self._image.clim = auto_contrast(pooled)
        scale = size_nm * factor
        self._image.transform = STTransform(scale=(scale, scale), translate=(picture.x_nm, picture.y_nm))

    def visible(self) -> Visible:
        width, height = self._box.size
        (left, top), (right, bottom) = self.camera.transform.imap([[0, 0], [width, height]])[:, :2]
        x, y = sorted((left, right)), sorted((top, bottom))
        return Visible(
            x_nm=float(x[0]),
            y_nm=float(y[0]),
            width_nm=float(x[1] - x[0]),
            height_nm=float(y[1] - y[0]),
            nm_per_screen_px=float(x[1] - x[0]) / float(width),
        )

    def _scale_bar(self, event: object = None) -> None:
        (x, y), (width, height) = self._box.pos, self._box.size
        nm_per_px = self.visible().nm_per_screen_px
        if not (0 < nm_per_px < math.inf):
            return
        length_nm = scale_bar_nm(width * nm_per_px / 4)
        length_px = length_nm / nm_per_px
        right, bottom = x + width - _MARGIN, y + height - _MARGIN
        plate_width = max(length_px, 6 * _TEXT_PX) + 2 * _MARGIN
        centre = right - plate_width / 2
        self._plate.center, self._plate.width, self._plate.height = (centre, bottom - 20), plate_width, 40
        self._bar.center, self._bar.width, self._bar.height = (centre, bottom - 9), length_px, 4
        self._label.text, self._label.pos = length_label(length_nm), (centre, bottom - 24)


def _text(canvas: scene.SceneCanvas, text: str, size_px: int, colour: str, anchor: str = "left") -> Text:
    return Text(
        text,
        color=colour,
        font_size=size_px * 72 / _DPI,
        anchor_x=anchor,
        anchor_y="center",
        parent=canvas.scene,
    )
