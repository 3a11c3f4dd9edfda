"""What the window remembers from one time to the next."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QByteArray, QSettings
from PySide6.QtWidgets import QMainWindow

from stormlive.viewer.look import COLORMAPS, Look
from stormlive.viewer.scene import Layout

_ACQUISITION = "acquisition"


class Memory:
    """The user's choices in a file of settings; what is not there, or damaged, is as in the beginning.

    Parameters
    ----------
    docks : str
        Tells windows apart that have other docks.
    """

    def __init__(self, docks: str = "") -> None:
        self._docks = f"state{docks}"
        self._known = QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "stormlive", "window")

    def restore_window(self, window: QMainWindow) -> None:
        """Bring back place, size and docks."""
        for key, restore in (("geometry", window.restoreGeometry), (self._docks, window.restoreState)):
            if isinstance(saved := self._known.value(key), QByteArray):
                restore(saved)

    def layout(self) -> Layout:
        """Return how the pictures lie."""
        return "over" if self._known.value("layout") == "over" else "beside"

    def look(self, picture: str, look: Look) -> Look:
        """Return the look of a picture as it was last chosen; limits by hand belong to a run and are forgotten."""
        try:
            colormap = str(self._known.value(f"{picture}/colormap", look.colormap))
            gamma = float(str(self._known.value(f"{picture}/gamma", look.gamma)))
            percentile = float(str(self._known.value(f"{picture}/percentile", look.percentile)))
        except ValueError:
            return look
        if colormap not in COLORMAPS or not (0.2 <= gamma <= 2.0 and 50.0 <= percentile <= 100.0):
            return look
        return replace(look, colormap=colormap, gamma=gamma, percentile=percentile)

    @property
    def folder(self) -> Path:
        """Where the user saved last."""
        return Path(str(self._known.value("folder", ".")))

    @folder.setter
    def folder(self, folder: Path) -> None:
        self._known.setValue("folder", str(folder))

    def texts(self) -> dict[str, str]:
        """Return what was filled in for the last run."""
        self._known.beginGroup(_ACQUISITION)
        texts = {key: str(self._known.value(key)) for key in self._known.allKeys()}
        self._known.endGroup()
        return texts

    def keep_texts(self, texts: Mapping[str, str]) -> None:
        """Write down what was filled in for a run."""
        for key, text in texts.items():
            self._known.setValue(f"{_ACQUISITION}/{key}", text)
        self._known.sync()

    def keep(self, window: QMainWindow, layout: Layout, looks: dict[str, Look]) -> None:
        """Write it all down."""
        self._known.setValue("geometry", window.saveGeometry())
        self._known.setValue(self._docks, window.saveState())
        self._known.setValue("layout", layout)
        for picture, look in looks.items():
            for field in ("colormap", "gamma", "percentile"):
                self._known.setValue(f"{picture}/{field}", getattr(look, field))
        self._known.sync()
