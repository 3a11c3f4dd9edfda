"""A device's work in several lanes: within one in the order in which it was given, beside that of the others."""

from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import torch

Mark: TypeAlias = torch.cuda.Event | None


class Lane:
    """A stream of a GPU. A CPU has done its work before the next is given, there a lane does nothing.

    Parameters
    ----------
    device : torch.device
        Where the work is done.
    stream : torch.cuda.Stream, optional
        A new one unless given.
    """

    def __init__(self, device: torch.device, stream: torch.cuda.Stream | None = None) -> None:
        if stream is None and device.type == "cuda":
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream = stream

    @classmethod
    def current(cls, device: torch.device) -> "Lane":
        """Return the lane that work of this thread takes unless it is told otherwise."""
        return cls(device, torch.cuda.current_stream(device) if device.type == "cuda" else None)

    def work(self) -> AbstractContextManager[object]:
        """Return a context in which work goes to this lane."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def mark(self) -> Mark:
        """Return a mark behind all work that was given so far."""
        return None if self._stream is None else self._stream.record_event()

    def after(self, mark: Mark) -> None:
        """Have work that is given from now on wait until a mark of another lane is reached; nobody waits here."""
        if self._stream is not None and mark is not None:
            self._stream.wait_event(mark)


def wait(mark: Mark) -> None:
    """Wait until a mark is reached."""
    if mark is not None:
        mark.synchronize()
