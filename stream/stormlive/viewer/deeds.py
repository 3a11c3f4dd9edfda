"""All that can be done in the window, in the order of its menus."""

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt

from stormlive.viewer.actions import Deed
from stormlive.viewer.scene import LiveScene

if TYPE_CHECKING:
    from stormlive.viewer.main_window import MainWindow

_STEP = 0.15
_ZOOM = 1.5


def deeds_of(window: "MainWindow", *own: Deed) -> tuple[Deed, ...]:
    """Return what its user can do with a window and the pictures in it; `own` is what only this kind of window can."""
    scene, save, over, last = window.scene, window.save, "One over the other", "Last frame"

    def lay_out(layout: str) -> None:
        scene.layout = "over" if layout == "over" else "beside"

    def automatic_contrast() -> None:
        for editor in window.editors.values():
            editor.automatic.setChecked(True)

    def full_screen() -> None:
        window.setWindowState(window.windowState() ^ Qt.WindowState.WindowFullScreen)

    return (
        Deed("File", "Save view…", ("Ctrl+S",), save.view, "PNG with scale bars", "Save view"),
        Deed("File", "Save what is visible…", ("Ctrl+Shift+S",), save.visible, "OME-TIFF, as it is shown"),
        Deed("File", "Save whole canvas…", ("Ctrl+Alt+S",), save.whole, "OME-TIFF, at its finest"),
        Deed("File", "Close", ("Ctrl+W", "Ctrl+Q"), window.close, "" if own else "the run goes on"),
        *own,
        Deed("View", "Side by side", ("B",), partial(lay_out, "beside"), "", "Beside", "layout"),
        Deed("View", over, ("O",), partial(lay_out, "over"), "drag the divider", "Over", "layout"),
        Deed("View", last, ("L",), lambda on: window.want(last=on), "instead of the mean", last, "toggle"),
        Deed("View", "Pause the picture", ("Space",), window.pause, "the run goes on", "Pause", "toggle"),
        Deed("View", "Whole field", ("R", "Home"), scene.show_whole_field, "undoes pan and zoom", "Whole field"),
        Deed("View", "Zoom in", ("+", "="), partial(_zoom, scene, _ZOOM)),
        Deed("View", "Zoom out", ("-",), partial(_zoom, scene, 1 / _ZOOM)),
        Deed("View", "Left", ("Left",), partial(_step, scene, -_STEP, 0)),
        Deed("View", "Right", ("Right",), partial(_step, scene, _STEP, 0)),
        Deed("View", "Up", ("Up",), partial(_step, scene, 0, -_STEP)),
        Deed("View", "Down", ("Down",), partial(_step, scene, 0, _STEP)),
        Deed("View", "Next canvas", ("C",), scene.next_canvas, "of a run with several channels, positions or z"),
        Deed("View", "Play how it grew", ("K",), window.replay.toggle, "a run that has ended"),
        Deed("View", "Earlier", (",",), partial(window.replay.step, -1), "in the replay"),
        Deed("View", "Later", (".",), partial(window.replay.step, 1), "in the replay"),
        Deed("View", "Automatic contrast", ("A",), automatic_contrast, "for both pictures"),
        Deed("View", "Full screen", ("F11",), full_screen),
        Deed("Tools", "Move", ("M",), partial(window.use, "move"), "drag the picture", "Move", "tool"),
        Deed("Tools", "Region", ("G",), partial(window.use, "region"), "drag a box", "Region", "tool"),
        Deed("Tools", "Profile", ("P",), partial(window.use, "profile"), "drag a line", "Profile", "tool"),
        Deed("Tools", "Remove marks", ("Esc",), window.mouse.forget),
        Deed("Tools", "Compute only the region", ("Ctrl+G",), window.steering.only_region, "of a run that goes on"),
        Deed("Tools", "Compute the whole frame", ("Ctrl+Shift+G",), window.steering.everything),
        Deed("Tools", "Show errors", ("E",), window.judgement.errors.toggle, "where picture and widefield disagree"),
        Deed("Tools", "Correct for drift", ("D",), window.judgement.corrected.toggle),
        Deed("Help", "Keys and mouse", ("F1",), window.show_help, "", "Help"),
    )


def _zoom(scene: LiveScene, factor: float) -> None:
    part = scene.superres.visible()
    scene.zoom(factor, part.x_nm + part.width_nm / 2, part.y_nm + part.height_nm / 2)


def _step(scene: LiveScene, right: float, down: float) -> None:
    part = scene.superres.visible()
    scene.pan(right * part.width_nm, down * part.height_nm)
