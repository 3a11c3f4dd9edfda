"""Asks where something is to be saved, saves it, and says so."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QWidget

from stormlive.viewer.memory import Memory
from stormlive.viewer.saving import save_view, save_visible
from stormlive.viewer.scene import LiveScene
from stormlive_sim.errors import InputError


class SaveDialogs:
    """What the menu ``File`` saves.

    Parameters
    ----------
    parent : QWidget
        The window that the dialogs belong to.
    scene : LiveScene
        What is seen.
    memory : Memory
        Knows the folder that was chosen last.
    save_whole : callable or None
        Called with a path when the whole canvas is to be saved there; None where nobody can.
    done, failed : callable
        Told in words what became of it.
    """

    def __init__(
        self,
        parent: QWidget,
        scene: LiveScene,
        memory: Memory,
        save_whole: Callable[[Path], None] | None,
        *,
        done: Callable[[str], None],
        failed: Callable[[str], None],
    ) -> None:
        self._parent, self._scene, self._memory, self._save_whole = parent, scene, memory, save_whole
        self._done, self._failed = done, failed

    def view(self) -> None:
        """Ask for a file and save what is seen."""
        if (path := self._ask("Save view", "view.png", "PNG (*.png)")) is not None:
            self._save(path, save_view)

    def visible(self) -> None:
        """Ask for a file and save the visible part of the canvas."""
        if (path := self._ask("Save what is visible", "visible.ome.tif", "OME-TIFF (*.ome.tif)")) is not None:
            self._save(path, save_visible)

    def whole(self) -> None:
        """Ask for a file and have the whole canvas saved there."""
        if self._save_whole is None or self._scene.shown is None:
            self._done("there is no canvas yet")
            return
        if (path := self._ask("Save whole canvas", "canvas.ome.tif", "OME-TIFF (*.ome.tif)")) is not None:
            self._done(f"saving {path} …")
            self._save_whole(path)

    def _ask(self, title: str, name: str, kind: str) -> Path | None:
        chosen, _ = QFileDialog.getSaveFileName(self._parent, title, str(self._memory.folder / name), kind)
        if not chosen:
            return None
        path, suffix = Path(chosen), name[name.index(".") :]
        self._memory.folder = path.parent
        return path if path.suffix else path.with_name(path.name + suffix)

    def _save(self, path: Path, save: Callable[[LiveScene, Path], None]) -> None:
        try:
            save(self._scene, path)
        except (OSError, InputError) as error:
            self._failed(f"not saved: {error}")
        else:
            self._done(f"saved {path}")
