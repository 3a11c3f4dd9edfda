"""What can be done in the window: each with its menu, its key and its words on the help sheet."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QMainWindow, QMenu, QTextBrowser, QToolBar, QVBoxLayout


class Deed(NamedTuple):
    """Something to do.

    Attributes
    ----------
    menu, text : str
        Where it stands, and how it is called.
    keys : tuple of str
        Any of them does it.
    done : callable
        Called without arguments, a ``toggle`` with whether it is on.
    help : str
        A few words more.
    on_toolbar : str
        A short name for the toolbar; empty: not there.
    group : str
        Of those of one group exactly one is on; ``toggle``: on or off by itself; empty: no state.
    """

    menu: str
    text: str
    keys: tuple[str, ...]
    done: Callable[..., object]
    help: str = ""
    on_toolbar: str = ""
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Actions:
    """The actions by their text, the menus, and the help sheet."""

    by_text: dict[str, QAction]
    menus: dict[str, QMenu]
    sheet: str


def make_actions(window: QMainWindow, toolbar: QToolBar, deeds: tuple[Deed, ...]) -> Actions:
    """Put all deeds into the window's menus and its toolbar."""
    actions: dict[str, QAction] = {}
    groups: dict[str, QActionGroup] = {}
    menus = {name: window.menuBar().addMenu(name) for name in dict.fromkeys(deed.menu for deed in deeds)}
    rows: dict[str, list[str]] = {name: [f"<tr><td colspan='2'><b>{name}</b></td></tr>"] for name in menus}
    menu, group = "", ""
    for deed in deeds:
        action = actions[deed.text] = QAction(deed.text, window)
        action.setShortcuts([QKeySequence(key) for key in deed.keys])
        action.setToolTip(f"{deed.text} ({deed.keys[0]})" + (f": {deed.help}" if deed.help else ""))
        action.setCheckable(bool(deed.group))
        if deed.group == "toggle":
            action.toggled.connect(deed.done)
        elif deed.group:
            action.toggled.connect(lambda on, done=deed.done: on and done())
            groups.setdefault(deed.group, QActionGroup(window)).addAction(action)
        else:
            action.triggered.connect(lambda _checked, done=deed.done: done())
        menus[deed.menu].addAction(action)
        if deed.on_toolbar:
            if group and (deed.menu, deed.group or "-") != (menu, group):
                toolbar.addSeparator()
            action.setIconText(deed.on_toolbar)
            toolbar.addAction(action)
        keys = " or ".join(QKeySequence(key).toString(QKeySequence.SequenceFormat.NativeText) for key in deed.keys)
        words = deed.text + (f": {deed.help}" if deed.help else "")
        rows[deed.menu].append(
            f"<tr><td style='padding-right:14px; white-space:nowrap'><code>{keys}</code></td>"
            f"<td style='white-space:nowrap'>{words}</td></tr>"
        )
        menu, group = deed.menu, deed.group or "-"
    return Actions(by_text=actions, menus=menus, sheet=_in_two_columns(list(rows.values())))


def _in_two_columns(menus: list[list[str]]) -> str:
    """Return a table of all rows, its columns about equally long."""
    columns: tuple[list[str], list[str]] = [], []
    half = sum(map(len, menus)) / 2
    for rows in menus:
        column = columns[len(columns[0]) + len(rows) / 2 > half]
        column += [*rows, "<tr><td>&nbsp;</td></tr>"]
    left, right = (f"<table>{''.join(rows)}</table>" for rows in columns)
    return f"<table><tr><td style='padding-right:28px'>{left}</td><td>{right}</td></tr></table>"


def show_sheet(window: QMainWindow, sheet: str) -> None:
    """Open the help sheet."""
    dialog = QDialog(window)
    dialog.setWindowTitle("Keys and mouse")
    column = QVBoxLayout(dialog)
    text = QTextBrowser()
    text.setHtml(f"<p>Wheel: zoom at the mouse. Drag: what the chosen tool does.</p>{sheet}")
    text.document().setTextWidth(-1)
    needed, most = text.document().size().toSize(), window.screen().availableSize()
    text.setMinimumSize(min(needed.width() + 8, most.width() - 60), min(needed.height() + 24, most.height() - 120))
    column.addWidget(text)
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
    buttons.rejected.connect(dialog.reject)
    column.addWidget(buttons)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()
