"""The live window: it asks for the newest view, shows it, and asks again."""

import logging
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType

import vispy
import vispy.app

from stormlive.viewer.scene import LiveScene
from stormlive.viewer.view import Fetch, LiveView

_log = logging.getLogger(__name__)


class LiveWindow:
    """A window that follows a run through `fetch`.

    Pictures cannot pile up: the next one is asked for when the last has been shown, so a slow screen or
    network shows fewer, and newer, ones. If `fetch` fails, the last picture stays with the reason in the
    status line, and `run` raises the exception in the end.
    """

    def __init__(self, fetch: Fetch, title: str, interval_ms: int) -> None:
        vispy.use("pyside6")
        self.scene = LiveScene(title)
        self._fetch = fetch
        self._asked: Future[LiveView | None] | None = None
        self._failure: Exception | None = None
        self._stop: threading.Event | None = None
        self._interrupted = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stormlive-viewer")
        self._timer = vispy.app.Timer(interval_ms / 1e3, connect=self._tick)
        self.scene.say("waiting for the first frames")

    def run(self, stop: threading.Event | None = None) -> None:
        """Show the window until its user closes it, Ctrl+C is pressed or `stop` is set."""
        self._stop = stop
        # A KeyboardInterrupt would be raised, and lost, inside whatever callback of Qt runs at that moment.
        handler = signal.signal(signal.SIGINT, self._interrupt)
        try:
            self.scene.canvas.show()
            self._timer.start()
            vispy.app.run()
        finally:
            self._timer.stop()
            # vispy says nothing when a user closes the window, so this cannot wait for its close event.
            self.scene.canvas.close()
            self._thread.shutdown(cancel_futures=True)
            signal.signal(signal.SIGINT, handler)
        if self._interrupted.is_set():
            raise KeyboardInterrupt
        if self._failure is not None:
            raise self._failure

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        self._interrupted.set()

    def _tick(self, event: object) -> None:
        if self._interrupted.is_set() or (self._stop is not None and self._stop.is_set()):
            vispy.app.quit()
            return
        # Qt and vispy swallow what a callback raises, so nothing may leave this one.
        try:
            if self._failure is None:
                self._follow()
            self.scene.refresh()
        except Exception as error:
            _log.warning("the viewer stopped following the run: %s", error)
            self._failure = error
            self.scene.say(f"stopped: {error}")

    def _follow(self) -> None:
        if self._asked is not None:
            if not self._asked.done():
                return
            view, self._asked = self._asked.result(), None
            if view is not None:
                self.scene.show(view)
        self._asked = self._thread.submit(self._fetch, self.scene.visible())
