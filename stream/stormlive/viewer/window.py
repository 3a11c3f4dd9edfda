"""The way into the live window, for callers on machines that may lack what it needs."""

import threading

from stormlive.viewer.screen import require_qt
from stormlive.viewer.view import Fetch


def run_window(fetch: Fetch, title: str, interval_ms: int = 100, *, stop: threading.Event | None = None) -> None:
    """Open the window and return when it is closed, by its user, by Ctrl+C or by setting `stop`.

    Must be called from the main thread, as Qt demands. Raises what `fetch` raised, once the window is closed,
    and KeyboardInterrupt after Ctrl+C. Closing the window ends the window and nothing else.
    """
    require_qt()
    # Only now: where a library is missing, the import of vispy fails already.
    from stormlive.viewer.live_window import LiveWindow

    LiveWindow(fetch, title, interval_ms).run(stop)
