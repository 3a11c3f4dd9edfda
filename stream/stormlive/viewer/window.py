"""The way into the live window, for callers on machines that may lack what it needs."""

import threading

from stormlive.viewer.runs import Runs
from stormlive.viewer.screen import require_qt
from stormlive.viewer.view import Fetch, FetchWhole, Leave, Steer, WaitsFor

# How often a newer picture is looked for; panning and zooming draw what is there at once.
INTERVAL_MS = 80


def run_window(
    fetch: Fetch,
    title: str,
    interval_ms: int = INTERVAL_MS,
    *,
    stop: threading.Event | None = None,
    whole: FetchWhole | None = None,
    steer: Steer | None = None,
    waits_for: WaitsFor | None = None,
    runs: Runs | None = None,
    origin: tuple[int, int] | None = None,
    leave: Leave | None = None,
) -> None:
    """Open the window and return when it is closed, by its user, by Ctrl+C or by setting `stop`.

    Must be called from the main thread, as Qt demands. Raises what `fetch` raised, once the window is closed,
    and KeyboardInterrupt after Ctrl+C. Closing the window ends the window and nothing else. With `whole` the
    user can save the whole canvas, with `steer` choose what is computed, with `runs` start and stop what is shown.
    `waits_for` says what a window without a picture waits for, `leave` ends a fetch that waits for its server.
    `origin` is where (x, y) on the camera's sensor the pictures begin, where that is known.
    """
    require_qt()
    # Only now: where a library is missing, the import of vispy fails already.
    from stormlive.viewer.live_window import LiveWindow

    LiveWindow(fetch, title, interval_ms, whole, runs, steer, origin, waits_for, leave).run(stop)
