"""The choice among the canvases of a run with several channels, positions or z."""

from PySide6.QtGui import QAction
from PySide6.QtWidgets import QComboBox, QToolBar

from stormlive.viewer.scene import LiveScene

_NEWEST = "the newest"


class CanvasChoice(QComboBox):
    """Stands at the end of a toolbar while there is something to choose."""

    def __init__(self, toolbar: QToolBar, scene: LiveScene) -> None:
        super().__init__()
        self._scene = scene
        self.setToolTip("Which channel, position or z")
        self.activated.connect(lambda index: scene.want_canvas(self.itemText(index) if index else None))
        self._action: QAction = toolbar.addWidget(self)
        self._action.setVisible(False)

    def show_names(self, names: tuple[str, ...]) -> None:
        """Offer the canvases of these names."""
        offered = [_NEWEST, *names] if names else []
        if [self.itemText(i) for i in range(self.count())] != offered:
            self.clear()
            self.addItems(offered)
        self._action.setVisible(bool(offered))
        self.setCurrentText(self._scene.wanted.canvas or _NEWEST)
