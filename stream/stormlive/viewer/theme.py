"""The dark theme: eyes that look at a dark picture for hours want no bright frame around it."""

from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication

BACKGROUND, RAISED, FIELD = "#16161c", "#22222b", "#0e0e12"
WHITE, GREY, DIM, ACCENT = "#ececf2", "#9a9aa6", "#6a6a76", "#3d8bfd"
LIGHTS = {"green": "#3ecf6a", "amber": "#ffb02e", "red": "#ff5247", "unknown": "#5b5b68"}

_STYLE = f"""
QToolBar {{ border: 0; spacing: 2px; padding: 3px; background: {BACKGROUND}; }}
QToolBar QToolButton {{ padding: 4px 8px; border-radius: 4px; }}
QToolBar QToolButton:checked {{ background: {ACCENT}; color: white; }}
QToolBar QToolButton:hover:!checked {{ background: #33333f; }}
QToolBar::separator {{ width: 1px; background: #3a3a46; margin: 4px 6px; }}
QGroupBox {{ border: 1px solid #33333f; border-radius: 6px; margin-top: 9px; padding-top: 6px; }}
QGroupBox::title {{ subcontrol-origin: margin; left: 9px; padding: 0 4px; color: {GREY}; }}
QToolTip {{ color: {WHITE}; background: {RAISED}; border: 1px solid #3a3a46; }}
QStatusBar::item {{ border: 0; }}
"""


def apply_dark(app: QApplication) -> None:
    """Make all windows of an application dark."""
    app.setStyle("Fusion")
    palette = QPalette()
    roles = QPalette.ColorRole
    for role, colour in (
        (roles.Window, BACKGROUND),
        (roles.WindowText, WHITE),
        (roles.Base, FIELD),
        (roles.AlternateBase, RAISED),
        (roles.Text, WHITE),
        (roles.PlaceholderText, GREY),
        (roles.Button, RAISED),
        (roles.ButtonText, WHITE),
        (roles.ToolTipBase, RAISED),
        (roles.ToolTipText, WHITE),
        (roles.Highlight, ACCENT),
        (roles.HighlightedText, "#ffffff"),
        (roles.Link, ACCENT),
    ):
        palette.setColor(role, QColor(colour))
    for role in (roles.WindowText, roles.Text, roles.ButtonText, roles.PlaceholderText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, QColor(DIM))
    app.setPalette(palette)
    app.setStyleSheet(_STYLE)
