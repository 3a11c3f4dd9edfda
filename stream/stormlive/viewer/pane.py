"""One picture with its title, a scale bar that follows the zoom, and the user's marks."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from vispy import scene
from vispy.color import Colormap
from vispy.scene.visuals import Image, Line, Rectangle, Text
from vispy.visuals.filters import Clipper
from vispy.visuals.transforms import STTransform

from stormlive.output.display import auto_contrast, colours, length_label, scale_bar_nm, sum_pool
from stormlive.viewer.look import Look
from stormlive.viewer.view import FINEST, Picture, Visible
from stormlive.wire.viewing import Contrast

MARGIN = 10
TITLE_HEIGHT = 30
TITLE_PX, TEXT_PX = 17, 13
# Asking the system for its resolution starts a process on Linux; all lengths here are in pixels anyway.
DPI = 96
REGION_COLOUR, PROFILE_COLOUR, COMPUTED_COLOUR = "#4dd2ff", "#7dff7d", "#ffb02e"
# Every OpenGL 4 card takes this much; wider pictures are summed down.
_MOST_TEXTURE_PX = 8192
_NOTHING = np.zeros((1, 1), np.float32)
_ERROR_BLUE = (0.25, 0.65, 1.0)
# Lighter than black: it is seen on a dark picture too.
_PLATE = (0.11, 0.11, 0.13, 0.8)


class Pane:
    """A picture in its rectangle of the canvas.

    Parameters
    ----------
    canvas : SceneCanvas
        Where it is drawn.
    title : str
        Above it.
    look : Look
        Its colours, until others are chosen.
    unit_nm2 : float or None
        The area that its values are told for; None: one of its own pixels, before any are summed.
    """

    def __init__(self, canvas: scene.SceneCanvas, title: str, look: Look, unit_nm2: float | None) -> None:
        self.camera = scene.cameras.PanZoomCamera(aspect=1, flip=(False, True, False))
        self.camera.interactive = False
        self._canvas = canvas
        self._box = scene.widgets.ViewBox(camera=self.camera, parent=canvas.scene, bgcolor="black", border_width=0)
        self._unit_nm2 = unit_nm2
        self._image = _image(self._box.scene, Colormap(colours(look.colormap)), look.gamma)
        self._overlay = _image(self._box.scene, _transparent(_ERROR_BLUE), 1.0)
        self._overlay.order, self._overlay.visible = 1, False
        self._region = _line(self._box.scene, REGION_COLOUR)
        self._computed = _line(self._box.scene, COMPUTED_COLOUR)
        self._profile = _line(self._box.scene, PROFILE_COLOUR)
        self._clipper: Clipper | None = None
        self._title = text(canvas, title, TITLE_PX, "white")
        self._plate = Rectangle(center=(0, 0), color=_PLATE, border_width=0, parent=canvas.scene)
        self._bar = Rectangle(center=(0, 0), color="white", border_width=0, parent=canvas.scene)
        self._label = text(canvas, "", TEXT_PX, "white", anchor="center")
        self._plate.order, self._bar.order, self._label.order = 11, 12, 13
        self._with_bar = True
        self._look = look
        self.picture: Picture | None = None
        self.limits = (0.0, 1.0)
        self._drawn: tuple[Picture | None, int] = (None, 0)
        self._bar_told: tuple[object, ...] = ()
        self._pooled: tuple[NDArray[np.float32], float] = (_NOTHING, 1.0)
        self._box.scene.transform.changed.connect(self._scale_bar)

    @property
    def look(self) -> Look:
        """Colours and contrast; setting them draws the picture anew."""
        return self._look

    @look.setter
    def look(self, look: Look) -> None:
        if look.colormap != self._look.colormap:
            self._image.cmap = Colormap(colours(look.colormap))
        self._image.gamma = look.gamma
        self._look = look
        self._set_contrast()

    def place(self, x: int, y: int, width: int, height: int, *, title_right: bool = False) -> None:
        """Put the picture there, in pixels of the canvas."""
        self._box.pos = (x, y)
        self._box.size = (width, height)
        self._title.anchors = ("right" if title_right else "left", "center")
        self._title.pos = (x + width if title_right else x, y - TITLE_HEIGHT // 2)
        self._scale_bar()

    def on_top(self, clip_px: float | None) -> None:
        """Draw it over the other pane, up to `clip_px` from the left; None: beside it."""
        on_top = clip_px is not None
        self._box.bgcolor = (0, 0, 0, 0) if on_top else "black"
        self._with_bar = not on_top
        self._scale_bar()
        if self._clipper is not None:
            self._image.detach(self._clipper)
            self._clipper = None
        if clip_px is not None:
            to_box = self._box.get_transform("framebuffer", "visual")
            self._clipper = Clipper(bounds=(0, 0, max(1.0, clip_px), self._box.size[1]), transform=to_box)
            self._image.attach(self._clipper)

    def rename(self, title: str) -> None:
        """Change the title."""
        if self._title.text != title:
            self._title.text = title

    def show(self, picture: Picture, nm_per_screen_px: float) -> None:
        """Draw a picture, summed down to pixels that the screen resolves."""
        self.picture = picture
        pixels, size_nm = picture.pixels, picture.pixel_size_nm
        # Finer ones would be lost between the pixels of the screen.
        least = max(nm_per_screen_px / size_nm / FINEST - 1e-6, max(pixels.shape) / _MOST_TEXTURE_PX, 1.0)
        factor = math.ceil(least)
        self._image.interpolation = "linear" if nm_per_screen_px > size_nm * factor else "nearest"
        if picture is not self._drawn[0] or factor != self._drawn[1]:
            self._drawn = picture, factor
            self._draw(sum_pool(pixels, factor), size_nm * factor)

    def clear(self) -> None:
        """Show nothing."""
        self.picture, self._drawn = None, (None, 0)
        self._image.set_data(_NOTHING)
        self._overlay.visible = False
        self._scale_bar()

    def _draw(self, pooled: NDArray[np.float32], scale: float) -> None:
        assert self.picture is not None
        picture = self.picture
        self._image.set_data(pooled)
        _lay(self._image, picture, scale)
        self._pooled = pooled, scale
        self._set_contrast()
        self._scale_bar()

    def _set_contrast(self) -> None:
        pooled, scale = self._pooled
        units = self._units(scale)
        low, high = self._look.contrast(pooled, units, self._known_contrast())
        self._image.clim = low, high
        self.limits = low / units, high / units

    def _known_contrast(self) -> Contrast | None:
        """Return the automatic contrast of the whole picture, in the pixels that are drawn."""
        picture, factor = self._drawn
        if picture is None or picture.contrast is None or factor == 1:
            return None if picture is None else picture.contrast
        # Until pixels of this size come: those of the whole become brighter by as much as those in sight.
        brighter = auto_contrast(self._pooled[0])[1] / auto_contrast(picture.pixels)[1]
        return tuple((brighter * low, brighter * high) for low, high in picture.contrast)

    def _units(self, pixel_size_nm: float) -> float:
        """Return how many units of area a pixel has."""
        own_nm = pixel_size_nm if self.picture is None else self.picture.pixel_size_nm
        return float(pixel_size_nm**2 / (self._unit_nm2 or own_nm**2))

    def overlay(self, picture: Picture | None) -> None:
        """Draw the absolute values of a picture over this one, transparent where it is 0; None: nothing."""
        self._overlay.visible = picture is not None
        if picture is None:
            return
        size = np.abs(np.nan_to_num(picture.pixels))
        self._overlay.set_data(size)
        self._overlay.clim = 0.0, auto_contrast(size)[1]
        _lay(self._overlay, picture, picture.pixel_size_nm)

    def mark(
        self,
        region: tuple[float, float, float, float] | None,
        profile: tuple[float, float, float, float] | None,
    ) -> None:
        """Draw a rectangle and a line, each (x, y, x, y) in nm, or neither."""
        _set_line(self._region, _corners(region))
        _set_line(self._profile, [] if profile is None else [profile[:2], profile[2:]])

    def outline(self, computed: tuple[float, float, float, float] | None) -> None:
        """Draw the rectangle (x, y, x, y) in nm outside of which nothing is computed, or none."""
        _set_line(self._computed, _corners(computed))

    def value_at(self, x_nm: float, y_nm: float) -> float | None:
        """Return the value there per unit of area; None where nothing is shown."""
        picture = self.picture
        if picture is None:
            return None
        column = math.floor((x_nm - picture.x_nm) / picture.pixel_size_nm)
        row = math.floor((y_nm - picture.y_nm) / picture.pixel_size_nm)
        rows, columns = picture.pixels.shape
        if not (0 <= row < rows and 0 <= column < columns):
            return None
        return float(picture.pixels[row, column]) / self._units(picture.pixel_size_nm)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels of the canvas."""
        width, height = self._box.size
        return float(width), float(height)

    def contains(self, x: float, y: float) -> bool:
        """Tell whether a point of the canvas, in its pixels, lies in the picture."""
        (left, top), (width, height) = self._box.pos, self._box.size
        return bool(left <= x < left + width and top <= y < top + height)

    def to_nm(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the canvas, in its pixels, lies in the field."""
        left, top = self._box.pos
        x_nm, y_nm = self.camera.transform.imap([x - left, y - top])[:2]
        return float(x_nm), float(y_nm)

    def visible(self) -> Visible:
        """Return the part of the field that is in sight."""
        width, height = self._box.size
        (left, top), (right, bottom) = self.camera.transform.imap([[0, 0], [width, height]])[:, :2]
        x, y = sorted((left, right)), sorted((top, bottom))
        return Visible(
            x_nm=float(x[0]),
            y_nm=float(y[0]),
            width_nm=float(x[1] - x[0]),
            height_nm=float(y[1] - y[0]),
            nm_per_screen_px=float(x[1] - x[0]) / float(width * self._canvas.pixel_scale),
        )

    def _scale_bar(self, event: object = None) -> None:
        (x, y), (width, height) = self._box.pos, self._box.size
        nm_per_px = self.visible().width_nm / width
        for visual in (self._plate, self._bar, self._label):
            visual.visible = self._with_bar and self.picture is not None
        if not (0 < nm_per_px < math.inf):
            return
        length_nm = scale_bar_nm(width * nm_per_px / 4)
        length_px = length_nm / nm_per_px
        right, bottom = x + width - MARGIN, y + height - MARGIN
        told = length_nm, round(length_px, 1), right, bottom
        if told == self._bar_told:
            return
        self._bar_told = told
        plate_width = max(length_px, 6 * TEXT_PX) + 2 * MARGIN
        centre = right - plate_width / 2
        self._plate.center, self._plate.width, self._plate.height = (centre, bottom - 20), plate_width, 40
        self._bar.center, self._bar.width, self._bar.height = (centre, bottom - 9), length_px, 4
        self._label.text, self._label.pos = length_label(length_nm), (centre, bottom - 24)


def text(canvas: scene.SceneCanvas, words: str, size_px: int, colour: str, anchor: str = "left") -> Text:
    """Return a line of text on the canvas; the caller sets its `pos`."""
    return Text(
        words,
        color=colour,
        font_size=size_px * 72 / DPI,
        anchor_x=anchor,
        anchor_y="center",
        parent=canvas.scene,
    )


def _image(parent: scene.Node, colormap: Colormap, gamma: float) -> Image:
    # The format is named so that the card works out contrast and colours; by default vispy does, here.
    image = Image(
        _NOTHING,
        texture_format="r32f",
        clim=(0.0, 1.0),
        cmap=colormap,
        gamma=gamma,
        interpolation="nearest",
        parent=parent,
    )
    # All lie in one plane, and are drawn in their order.
    image.set_gl_state("translucent", depth_test=False)
    image.transform = STTransform()
    return image


def _lay(image: Image, picture: Picture, pixel_size_nm: float) -> None:
    """Put an image where its picture lies, with texture pixels of that size."""
    # Another transform instead of other numbers would have vispy compile its shaders again.
    image.transform.scale = pixel_size_nm, pixel_size_nm
    image.transform.translate = picture.x_nm, picture.y_nm


def _transparent(colour: tuple[float, float, float]) -> Colormap:
    """Return a colormap from nothing to one colour."""
    return Colormap([(*colour, 0.0), (*colour, 0.85)])


def _line(parent: scene.Node, colour: str) -> Line:
    line = Line(pos=np.zeros((2, 2), np.float32), color=colour, width=2, method="gl", parent=parent)
    line.set_gl_state("translucent", depth_test=False)
    line.order, line.visible = 5, False
    return line


def _corners(rectangle: tuple[float, float, float, float] | None) -> list[tuple[float, float]]:
    if rectangle is None:
        return []
    left, top, right, bottom = rectangle
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def _set_line(line: Line, points: Sequence[tuple[float, float]]) -> None:
    line.visible = bool(points)
    if points:
        line.set_data(pos=np.array(points, np.float32))
