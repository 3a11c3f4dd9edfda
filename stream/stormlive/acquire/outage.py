"""The time without a server: told once where it lasts, and once when it is over."""

import contextlib
import logging
import time

_log = logging.getLogger(__name__)

# `StreamHook.check` raises where no server answers, and has done so by then: what it says need not be said twice.
TELL_AFTER_S = 6.0


class Outage:
    """From when on there is no server, if there is none; in the sender's thread only. A hook begins with one.

    Scripts that show nothing else see it all the same: Python prints warnings where nobody has set up logging.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._since: float | None = time.monotonic()
        self._told = False

    def begin(self) -> None:
        """Note that a server was lost, or did not take the run, unless there was none before."""
        if self._since is None:
            self._since = time.monotonic()

    def go_on(self, trouble: str) -> None:
        """Tell that there is still none, and why, once it is long enough."""
        if self._since is not None and not self._told and time.monotonic() - self._since >= TELL_AFTER_S:
            self._told = True
            _tell("no live picture for now: %s", trouble)

    def end(self) -> None:
        """Note that a server answers, and takes the run if there is one yet."""
        if self._told:
            _tell("the server at %s answers now", self._address)
        self._since, self._told = None, False


def _tell(message: str, what: str) -> None:
    # A handler of the script's own that fails, a window that is gone, must not cost the live picture.
    with contextlib.suppress(Exception):
        _log.warning(message, what)
