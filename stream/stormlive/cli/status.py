"""The live status line: frames, rates, backlog, latency, drops."""

import time
from types import TracebackType
from typing import Self
from uuid import UUID

from msgspec import UNSET
from rich.live import Live
from rich.text import Text

from stormlive.cli.terminal import console, note, show_judgement
from stormlive.wire.client import status_text
from stormlive.wire.viewing import Judgement, Status

_PLAIN_INTERVAL_S = 2.0


class StatusLine:
    """One line that renews itself in a terminal; elsewhere (a log) a line every two seconds, while it changes."""

    def __init__(self) -> None:
        self._live = Live(console=console, refresh_per_second=5, transient=False) if console.is_terminal else None
        self._printed = ("", 0.0)
        self._ended: UUID | None = None
        self._judgement: Judgement | None = None

    def show(self, status: Status) -> None:
        """Show a status."""
        if status.judgement is not UNSET:
            self._judgement = status.judgement
        text = status_text(status)
        if self._live is not None:
            self._live.update(Text(text, no_wrap=True, overflow="ellipsis"))
            return
        if status.state == "finished" and status.run == self._ended:
            return  # only its rate falls any more
        last, when = self._printed
        if text != last and time.monotonic() - when >= _PLAIN_INTERVAL_S:
            note(text)
            self._printed = (text, time.monotonic())
            self._ended = status.run if status.state == "finished" else None

    def tell_judgement(self) -> None:
        """Print what the server thought of the picture in the end, if it judges."""
        if self._judgement is not None:
            show_judgement(self._judgement)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
