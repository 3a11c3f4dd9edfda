"""The live window: it asks for the newest view, shows it, and asks again."""

import logging
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import vispy
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from stormlive.viewer.acquisition_window import AcquisitionWindow
from stormlive.viewer.main_window import MainWindow
from stormlive.viewer.runs import Runs
from stormlive.viewer.saving import save_picture
from stormlive.viewer.theme import apply_dark
from stormlive.viewer.view import Fetch, FetchWhole, Leave, LiveView, Steer, WaitsFor
from stormlive.wire.fields import Region

_log = logging.getLogger(__name__)


class LiveWindow:
    """A window that follows a run through `fetch`.

    Pictures cannot pile up: the next one is asked for when the last has been shown, so a slow screen or
    network shows fewer, and newer, ones. If `fetch` fails, the last picture stays with the reason under it,
    and `run` raises the exception in the end.
    """

    def __init__(
        self,
        fetch: Fetch,
        title: str,
        interval_ms: int,
        whole: FetchWhole | None = None,
        runs: Runs | None = None,
        steer: Steer | None = None,
        origin: tuple[int, int] | None = None,
        waits_for: WaitsFor | None = None,
        leave: Leave | None = None,
    ) -> None:
        application = QApplication.instance() or QApplication([])
        assert isinstance(application, QApplication)
        self._application = application
        apply_dark(application)
        vispy.use("pyside6")
        save_whole = None if whole is None else self._save_whole
        self.window: MainWindow
        if runs is None:
            self.window = MainWindow(title, save_whole)
        else:
            self.window = AcquisitionWindow(title, save_whole, runs)
            self.window.acquisition.begun.connect(self._forget)
        self.window.measure.origin = origin
        self.window.steering.request = None if steer is None else self._have_computed
        self._steer = steer
        self._steering: Future[str] | None = None
        self._fetch = fetch
        self._waits_for = waits_for
        self._leave = leave
        self._whole = whole
        self._asked: Future[LiveView | None] | None = None
        self._saving: tuple[Path, Future[None]] | None = None
        self._failure: Exception | None = None
        self._stop: threading.Event | None = None
        self._interrupted = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stormlive-viewer")
        self._timer = QTimer()
        self._timer.setInterval(interval_ms)
        self._timer.timeout.connect(self._tick)

    def run(self, stop: threading.Event | None = None) -> None:
        """Show the window until its user closes it, Ctrl+C is pressed or `stop` is set."""
        self._stop = stop
        # A KeyboardInterrupt would be raised, and lost, inside whatever callback of Qt runs at that moment.
        handler = signal.signal(signal.SIGINT, self._interrupt)
        try:
            self.window.show()
            self._timer.start()
            self._application.exec()
        finally:
            self._timer.stop()
            self.window.leave()
            if self._leave is not None:
                self._leave()
            self._thread.shutdown(cancel_futures=True)
            self.window.scene.canvas.close()
            signal.signal(signal.SIGINT, handler)
        if self._interrupted.is_set():
            raise KeyboardInterrupt
        if self._failure is not None:
            raise self._failure

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        self._interrupted.set()

    def _tick(self) -> None:
        if self._interrupted.is_set() or (self._stop is not None and self._stop.is_set()):
            self._application.exit()  # quit() would have the window closed, which may ask first
            return
        # Qt swallows what a callback raises, so nothing may leave this one.
        try:
            self._tell_saved()
            self._tell_steered()
            if self._failure is None:
                self._follow()
                self.window.wait_for("" if self._waits_for is None else self._waits_for())
            self.window.scene.refresh()
        except Exception as error:
            _log.warning("the viewer stopped following the run: %s", error)
            self._failure = error
            self.window.stopped(str(error))

    def _follow(self) -> None:
        if self._asked is not None:
            if not self._asked.done():
                return
            view, self._asked = self._asked.result(), None
            if view is not None:
                self.window.show_view(view)
        self._asked = self._thread.submit(self._fetch, self.window.scene.visible())

    def _forget(self) -> None:
        """Let go of the answer under way, and of whatever failed: both are about the run before."""
        self._asked = self._failure = None

    def _save_whole(self, path: Path) -> None:
        """Have the whole canvas written in the thread that may ask for it."""
        whole, canvas = self._whole, self.window.scene.wanted.canvas
        if whole is not None and self._saving is None:
            self._saving = path, self._thread.submit(lambda: save_picture(path, whole(canvas), "whole canvas"))

    def _tell_saved(self) -> None:
        if self._saving is None or not self._saving[1].done():
            return
        (path, saving), self._saving = self._saving, None
        error = saving.exception()
        if error is None:
            self.window.trouble.done(f"saved {path}")
        else:
            self.window.trouble.failed(f"not saved: {error}")

    def _have_computed(self, region: Region | None) -> None:
        """Ask for what is computed in the thread that may ask."""
        if self._steer is not None and self._steering is None:
            self._steering = self._thread.submit(self._steer, region)

    def _tell_steered(self) -> None:
        if self._steering is None or not self._steering.done():
            return
        steering, self._steering = self._steering, None
        error = steering.exception()
        if error is None:
            self.window.trouble.done(steering.result())
        else:
            self.window.trouble.failed(str(error))
