"""The window around the pictures: toolbar, docks, status strip, what the user has chosen."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import (
    QDockWidget,
    QMainWindow,
    QScrollArea,
    QTabWidget,
    QToolBar,
    QVBoxLayout,
    QWidget,
)

from stormlive.viewer.actions import Deed, make_actions, show_sheet
from stormlive.viewer.canvas_choice import CanvasChoice
from stormlive.viewer.deeds import deeds_of
from stormlive.viewer.judgement_dock import JudgementDock
from stormlive.viewer.look import Look
from stormlive.viewer.measure_dock import MeasureDock
from stormlive.viewer.memory import Memory
from stormlive.viewer.mouse import Mouse, Tool
from stormlive.viewer.pane import Pane
from stormlive.viewer.picture_dock import LookEditor, PictureDock
from stormlive.viewer.replay_bar import ReplayBar
from stormlive.viewer.save_dialogs import SaveDialogs
from stormlive.viewer.scene import LiveScene
from stormlive.viewer.steering import SteeringKeys
from stormlive.viewer.strip import Strip
from stormlive.viewer.trouble import trouble, waits_for
from stormlive.viewer.trouble_bar import TroubleBar
from stormlive.viewer.view import LiveView
from stormlive.viewer.waiting import WaitingSign

_SIZE, _LEAST_SIZE = (1280, 700), (960, 540)
_DOCK_WIDTH = 300
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

    _DOCKS = ""

    def __init__(self, title: str, save_whole: Callable[[Path], None] | None = None) -> None:
        super().__init__()
        self.setWindowTitle(title)
        self.scene = LiveScene(title)
        self.paused = False
        self._waiting: LiveView | None = None
        self.strip = Strip()
        centre = QWidget()
        self.trouble = TroubleBar(centre)
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, self.trouble.line_px)
        column.setSpacing(0)
        column.addWidget(self.scene.canvas.native, 1)
        self.sign = WaitingSign(self.scene.canvas.native)
        self.replay = ReplayBar(lambda place: self.want(at=place))
        column.addWidget(self.replay)
        self.setCentralWidget(centre)
        self.statusBar().addPermanentWidget(self.strip, 1)
        self.statusBar().setSizeGripEnabled(False)
        self.editors: dict[str, LookEditor] = {
            "superres": self._editor("Super-resolved", "expected emitters per µm²", self.scene.superres),
            "widefield": self._editor("Widefield", "photons per camera pixel", self.scene.widefield),
        }
        self.measure = MeasureDock()
        self.judgement = JudgementDock(
            errors=lambda on: self.want(errors=on), corrected=lambda on: self.want(corrected=on)
        )
        self._memory = Memory(self._DOCKS)
        docks = [
            *self._own_docks(),
            _dock("Picture", PictureDock(self.editors["superres"], self.editors["widefield"])),
            _dock("Measure", self.measure),
            _dock("Judgement", self.judgement),
        ]
        for dock in docks:
            dock.setObjectName(dock.windowTitle())
            self.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
        for dock in docks[1:]:
            self.tabifyDockWidget(docks[0], dock)
        self.docks = {dock.windowTitle(): dock for dock in docks}
        docks[0].raise_()
        self.setTabPosition(Qt.DockWidgetArea.RightDockWidgetArea, QTabWidget.TabPosition.North)
        self.mouse = Mouse(self.scene, moved=self.strip.show_cursor, marked=self._marked, hover=self._hover)
        self.steering = SteeringKeys(self.scene, self.mouse, self.trouble.failed)
        self.save = SaveDialogs(
            self, self.scene, self._memory, save_whole, done=self.trouble.done, failed=self.trouble.failed
        )
        toolbar = QToolBar("Toolbar")
        toolbar.setObjectName("toolbar")
        toolbar.setMovable(False)
        toolbar.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        self.addToolBar(toolbar)
        actions = make_actions(self, toolbar, deeds_of(self, *self._own_deeds()))
        self.actions_by_text, self._sheet = actions.by_text, actions.sheet
        actions.menus["View"].addSeparator()
        for dock in docks:
            actions.menus["View"].addAction(dock.toggleViewAction())
        self.canvases = CanvasChoice(toolbar, self.scene)
        self._restore()
        self.strip.say("no picture yet")

    def _own_docks(self) -> list[QDockWidget]:
        """Return docks that another kind of window has before the others."""
        return []

    def _own_deeds(self) -> tuple[Deed, ...]:
        """Return what can be done in another kind of window."""
        return ()

    # What comes in

    def show_view(self, view: LiveView) -> None:
        """Show a view: its numbers always, its pictures unless paused."""
        if view.report is None:
            self._lost(view.status)
        else:
            self.strip.show_status(view.report)
            self.trouble.trouble(trouble(view.report))
        self.judgement.show_view(view)
        if self.paused:
            self._waiting = view
            return
        self._waiting = None
        self.sign.say("" if view.report is None else waits_for(view.report))
        self.scene.show(view)
        for name, pane in (("superres", self.scene.superres), ("widefield", self.scene.widefield)):
            self.editors[name].show_limits(*pane.limits)
        self.measure.show_view(view)
        self.replay.show_replay(view.replay, view.no_replay, view.canvas)
        self.canvases.show_names(view.canvases)

    def _lost(self, text: str) -> None:
        if self.scene.shown is None or self.scene.shown.report is None:
            self.strip.say(text)
        else:
            self.trouble.lost(text)

    def wait_for(self, text: str) -> None:
        """Say what has to come before there is a picture, as long as there is none."""
        if self.scene.shown is None:
            self.sign.say(text)

    def stopped(self, reason: str) -> None:
        """Say that no more views will come, and why."""
        self.trouble.lost(f"stopped: {reason}")
        self.wait_for(reason)

    # What the user does

    def want(
        self,
        *,
        last: bool | None = None,
        errors: bool | None = None,
        corrected: bool | None = None,
        at: int | None = None,
    ) -> None:
        """Ask for other pictures; what is None stays as it is."""
        wanted = self.scene.wanted
        self.scene.wanted = replace(
            wanted,
            last=wanted.last if last is None else last,
            errors=wanted.errors if errors is None else errors,
            corrected=wanted.corrected if corrected is None else corrected,
            at=wanted.at if at is None else at,
        )

    def use(self, tool: Tool) -> None:
        """Let the mouse do something else."""
        self.mouse.tool = tool
        if tool != "move":
            self.docks["Measure"].show()
            self.docks["Measure"].raise_()

    def pause(self, on: bool) -> None:
        """Keep the picture as it is, or let it follow the run again."""
        self.paused = on
        if not on and self._waiting is not None:
            self.show_view(self._waiting)

    def _marked(self) -> None:
        self.measure.mark(self.mouse.region, self.mouse.profile)

    def _hover(self, over: str) -> None:
        self.scene.canvas.native.setCursor(_CURSORS[over])

    def show_help(self) -> None:
        """Open the sheet with all keys."""
        show_sheet(self, self._sheet)

    # What is remembered

    def _editor(self, title: str, unit: str, pane: Pane) -> LookEditor:
        def changed(look: Look) -> None:
            pane.look = look
            self.scene.canvas.update()

        return LookEditor(title, unit, pane.look, changed)

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

    def leave(self) -> None:
        """Close, whatever goes on."""
        self.close()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        """Remember what was chosen."""
        self._memory.keep(self, self.scene.layout, {name: editor.look for name, editor in self.editors.items()})
        super().closeEvent(event)


def _dock(title: str, content: QWidget) -> QDockWidget:
    area = QScrollArea()
    area.setWidget(content)
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setMinimumWidth(_DOCK_WIDTH)
    dock = QDockWidget(title)
    dock.setWidget(area)
    return dock
