"""The window around the pictures: toolbar, docks, status strip, what the user has chosen."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import (
    QComboBox,
    QDockWidget,
    QFileDialog,
    QLabel,
    QMainWindow,
    QScrollArea,
    QTabWidget,
    QToolBar,
    QVBoxLayout,
    QWidget,
)

from stormlive.viewer.actions import Deed, make_actions, show_sheet
from stormlive.viewer.judgement_dock import JudgementDock
from stormlive.viewer.look import Look
from stormlive.viewer.measure_dock import MeasureDock
from stormlive.viewer.memory import Memory
from stormlive.viewer.mouse import Mouse, Tool
from stormlive.viewer.pane import Pane
from stormlive.viewer.picture_dock import LookEditor, PictureDock
from stormlive.viewer.saving import save_view, save_visible
from stormlive.viewer.scene import Layout, LiveScene
from stormlive.viewer.strip import Strip
from stormlive.viewer.trouble import trouble
from stormlive.viewer.view import LiveView
from stormlive_sim.errors import InputError

_SIZE, _LEAST_SIZE = (1280, 700), (960, 540)
_DOCK_WIDTH = 300
_NEWEST = "the newest"
_STEP = 0.15
_ZOOM = 1.5
_TROUBLE_STYLE = "background: #4a3410; color: #ffd796; padding: 5px 10px"
_LOST_STYLE = "background: #4a1613; color: #ffc2bd; padding: 5px 10px"
_CURSORS = {
    "move": Qt.CursorShape.OpenHandCursor,
    "region": Qt.CursorShape.CrossCursor,
    "profile": Qt.CursorShape.CrossCursor,
    "divider": Qt.CursorShape.SplitHCursor,
}


class MainWindow(QMainWindow):
    """Shows views and lets its user look at them; it knows of no network.

    Parameters
    ----------
    title : str
        Of the window.
    save_whole : callable or None
        Called with a path when the user wants the whole canvas saved there; None where nobody can.
    """

    def __init__(self, title: str, save_whole: Callable[[Path], None] | None = None) -> None:
        super().__init__()
        self.setWindowTitle(title)
        self.scene = LiveScene(title)
        self._save_whole = save_whole
        self.paused = False
        self._waiting: LiveView | None = None
        self.trouble = QLabel()
        self.trouble.setTextFormat(Qt.TextFormat.PlainText)
        self.trouble.setWordWrap(True)
        self.trouble.hide()
        self.strip = Strip()
        centre = QWidget()
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.scene.canvas.native, 1)
        column.addWidget(self.trouble)
        self.setCentralWidget(centre)
        self.statusBar().addPermanentWidget(self.strip, 1)
        self.statusBar().setSizeGripEnabled(False)
        self.editors: dict[str, LookEditor] = {
            "superres": self._editor("Super-resolved", "expected emitters per µm²", self.scene.superres),
            "widefield": self._editor("Widefield", "photons per camera pixel", self.scene.widefield),
        }
        self.measure = MeasureDock()
        self.judgement = JudgementDock(
            errors=lambda on: self._want(errors=on), corrected=lambda on: self._want(corrected=on)
        )
        docks = [
            self._dock("Picture", PictureDock(self.editors["superres"], self.editors["widefield"])),
            self._dock("Measure", self.measure),
            self._dock("Judgement", self.judgement),
        ]
        for dock in docks[1:]:
            self.tabifyDockWidget(docks[0], dock)
        self.docks = {dock.windowTitle(): dock for dock in docks}
        docks[0].raise_()
        self.setTabPosition(Qt.DockWidgetArea.RightDockWidgetArea, QTabWidget.TabPosition.North)
        self.mouse = Mouse(self.scene, moved=self.strip.show_cursor, marked=self._marked, hover=self._hover)
        toolbar = QToolBar("Toolbar")
        toolbar.setObjectName("toolbar")
        toolbar.setMovable(False)
        toolbar.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        self.addToolBar(toolbar)
        actions = make_actions(self, toolbar, self._deeds())
        self.actions_by_text, self._sheet = actions.by_text, actions.sheet
        actions.menus["View"].addSeparator()
        for dock in docks:
            actions.menus["View"].addAction(dock.toggleViewAction())
        self.canvases = QComboBox()
        self.canvases.setToolTip("Which channel, position or z")
        self.canvases.activated.connect(self._choose_canvas)
        self._canvases_action = toolbar.addWidget(self.canvases)
        self._canvases_action.setVisible(False)
        self._memory = Memory()
        self._restore()
        self.strip.say("waiting for the first frames")

    def _deeds(self) -> tuple[Deed, ...]:
        scene, over, last = self.scene, "One over the other", "Last frame"
        return (
            Deed("File", "Save view…", ("Ctrl+S",), self.ask_save_view, "PNG with scale bars", "Save view"),
            Deed("File", "Save what is visible…", ("Ctrl+Shift+S",), self.ask_save_visible, "OME-TIFF, as it is shown"),
            Deed("File", "Save whole canvas…", ("Ctrl+Alt+S",), self.ask_save_whole, "OME-TIFF, at its finest"),
            Deed("File", "Close", ("Ctrl+W", "Ctrl+Q"), self.close, "the run goes on"),
            Deed("View", "Side by side", ("B",), partial(self._lay_out, "beside"), "", "Beside", "layout"),
            Deed("View", over, ("O",), partial(self._lay_out, "over"), "drag the divider", "Over", "layout"),
            Deed("View", last, ("L",), lambda on: self._want(last=on), "instead of the mean", last, "toggle"),
            Deed("View", "Pause the picture", ("Space",), self._pause, "the run goes on", "Pause", "toggle"),
            Deed("View", "Whole field", ("R", "Home"), scene.show_whole_field, "undoes pan and zoom", "Whole field"),
            Deed("View", "Zoom in", ("+", "="), lambda: self._zoom(_ZOOM)),
            Deed("View", "Zoom out", ("-",), lambda: self._zoom(1 / _ZOOM)),
            Deed("View", "Left", ("Left",), lambda: self._step(-_STEP, 0)),
            Deed("View", "Right", ("Right",), lambda: self._step(_STEP, 0)),
            Deed("View", "Up", ("Up",), lambda: self._step(0, -_STEP)),
            Deed("View", "Down", ("Down",), lambda: self._step(0, _STEP)),
            Deed("View", "Next canvas", ("C",), scene.next_canvas, "of a run with several channels, positions or z"),
            Deed("View", "Automatic contrast", ("A",), self._automatic_contrast, "for both pictures"),
            Deed("View", "Full screen", ("F11",), self._full_screen),
            Deed("Tools", "Move", ("M",), partial(self._use, "move"), "drag the picture", "Move", "tool"),
            Deed("Tools", "Region", ("G",), partial(self._use, "region"), "drag a box", "Region", "tool"),
            Deed("Tools", "Profile", ("P",), partial(self._use, "profile"), "drag a line", "Profile", "tool"),
            Deed("Tools", "Remove marks", ("Esc",), self.mouse.forget),
            Deed("Tools", "Show errors", ("E",), self.judgement.errors.toggle, "where picture and widefield disagree"),
            Deed("Tools", "Correct for drift", ("D",), self.judgement.corrected.toggle),
            Deed("Help", "Keys and mouse", ("F1",), self.show_help, "", "Help"),
        )

    # What comes in

    def show_view(self, view: LiveView) -> None:
        """Show a view: its numbers always, its pictures unless paused."""
        if view.report is None:
            self._lost(view.status)
            if view.judgement is not None:
                self.judgement.show_judgement(view.judgement)
        else:
            self.strip.show_status(view.report)
            self.judgement.show_status(view.report)
            self._tell(trouble(view.report), _TROUBLE_STYLE)
        if self.paused:
            self._waiting = view
            return
        self._waiting = None
        self.scene.show(view)
        for name, pane in (("superres", self.scene.superres), ("widefield", self.scene.widefield)):
            self.editors[name].show_limits(*pane.limits)
        self.measure.show_view(view)
        names = [_NEWEST, *view.canvases] if view.canvases else []
        if [self.canvases.itemText(i) for i in range(self.canvases.count())] != names:
            self.canvases.clear()
            self.canvases.addItems(names)
        self._canvases_action.setVisible(bool(names))
        self.canvases.setCurrentText(self.scene.wanted.canvas or _NEWEST)

    def _lost(self, text: str) -> None:
        if self.scene.shown is None or self.scene.shown.report is None:
            self.strip.say(text)
        else:
            self._tell(text, _LOST_STYLE)

    def stopped(self, reason: str) -> None:
        """Say that no more views will come, and why."""
        self._tell(f"stopped: {reason}", _LOST_STYLE)

    def _tell(self, text: str | None, style: str) -> None:
        self.trouble.setVisible(bool(text))
        if text:
            self.trouble.setStyleSheet(style)
            self.trouble.setText(text)

    def tell_done(self, text: str) -> None:
        """Say for a moment what was done."""
        self.statusBar().showMessage(text, 6000)

    # What the user does

    def _want(self, *, last: bool | None = None, errors: bool | None = None, corrected: bool | None = None) -> None:
        wanted = self.scene.wanted
        self.scene.wanted = replace(
            wanted,
            last=wanted.last if last is None else last,
            errors=wanted.errors if errors is None else errors,
            corrected=wanted.corrected if corrected is None else corrected,
        )

    def _choose_canvas(self, index: int) -> None:
        self.scene.wanted = replace(self.scene.wanted, canvas=self.canvases.itemText(index) if index else None)

    def _lay_out(self, layout: Layout) -> None:
        self.scene.layout = layout

    def _use(self, tool: Tool) -> None:
        self.mouse.tool = tool
        if tool != "move":
            self.docks["Measure"].show()
            self.docks["Measure"].raise_()

    def _pause(self, on: bool) -> None:
        self.paused = on
        if not on and self._waiting is not None:
            self.show_view(self._waiting)

    def _zoom(self, factor: float) -> None:
        part = self.scene.superres.visible()
        self.scene.zoom(factor, part.x_nm + part.width_nm / 2, part.y_nm + part.height_nm / 2)

    def _step(self, right: float, down: float) -> None:
        part = self.scene.superres.visible()
        self.scene.pan(right * part.width_nm, down * part.height_nm)

    def _automatic_contrast(self) -> None:
        for editor in self.editors.values():
            editor.automatic.setChecked(True)

    def _full_screen(self) -> None:
        self.setWindowState(self.windowState() ^ Qt.WindowState.WindowFullScreen)

    def _marked(self) -> None:
        self.measure.mark(self.mouse.region, self.mouse.profile)

    def _hover(self, over: str) -> None:
        self.scene.canvas.native.setCursor(_CURSORS[over])

    def show_help(self) -> None:
        """Open the sheet with all keys."""
        show_sheet(self, self._sheet)

    # Files

    def ask_save_view(self) -> None:
        """Ask for a file and save what is seen."""
        if (path := self._ask("Save view", "view.png", "PNG (*.png)")) is not None:
            self._saved(path, save_view)

    def ask_save_visible(self) -> None:
        """Ask for a file and save the visible part of the canvas."""
        if (path := self._ask("Save what is visible", "visible.ome.tif", "OME-TIFF (*.ome.tif)")) is not None:
            self._saved(path, save_visible)

    def ask_save_whole(self) -> None:
        """Ask for a file and have the whole canvas saved there."""
        if self._save_whole is None or self.scene.shown is None:
            self.tell_done("there is no canvas yet")
            return
        if (path := self._ask("Save whole canvas", "canvas.ome.tif", "OME-TIFF (*.ome.tif)")) is not None:
            self.tell_done(f"saving {path} …")
            self._save_whole(path)

    def _ask(self, title: str, name: str, kind: str) -> Path | None:
        chosen, _ = QFileDialog.getSaveFileName(self, title, str(self._memory.folder / name), kind)
        if not chosen:
            return None
        path, suffix = Path(chosen), name[name.index(".") :]
        self._memory.folder = path.parent
        return path if path.suffix else path.with_name(path.name + suffix)

    def _saved(self, path: Path, save: Callable[[LiveScene, Path], None]) -> None:
        try:
            save(self.scene, path)
        except (OSError, InputError) as error:
            self._tell(f"not saved: {error}", _LOST_STYLE)
        else:
            self.tell_done(f"saved {path}")

    # What is remembered

    def _editor(self, title: str, unit: str, pane: Pane) -> LookEditor:
        def changed(look: Look) -> None:
            pane.look = look
            self.scene.canvas.update()

        return LookEditor(title, unit, pane.look, changed)

    def _dock(self, title: str, content: QWidget) -> QDockWidget:
        area = QScrollArea()
        area.setWidget(content)
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setMinimumWidth(_DOCK_WIDTH)
        dock = QDockWidget(title)
        dock.setObjectName(title)
        dock.setWidget(area)
        self.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
        return dock

    def _restore(self) -> None:
        self.setMinimumSize(*_LEAST_SIZE)
        self.resize(*_SIZE)
        self._memory.restore_window(self)
        over = self._memory.layout() == "over"
        self.actions_by_text["One over the other" if over else "Side by side"].setChecked(True)
        self.actions_by_text["Move"].setChecked(True)
        for name, editor in self.editors.items():
            look = self._memory.look(name, editor.look)
            editor.set_look(look)
            getattr(self.scene, name).look = look

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        """Remember what was chosen."""
        self._memory.keep(self, self.scene.layout, {name: editor.look for name, editor in self.editors.items()})
        super().closeEvent(event)
