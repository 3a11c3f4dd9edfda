"""pymmcore-plus: what connects its ``frameReady`` signal with the hook. It is not imported here."""

from collections.abc import Callable, Mapping
from typing import Protocol

from stormlive.acquire.hook import StreamHook


class _Event(Protocol):
    """The part of a ``useq.MDAEvent`` that is used here."""

    @property
    def index(self) -> Mapping[str, int]:
        """The frame's place: ``t``, ``p``, ``c``, ``z`` or axes of the user's own."""
        ...


def frame_ready(hook: StreamHook) -> Callable[[object, _Event, Mapping[str, object]], None]:
    """Return what to connect: ``core.mda.events.frameReady.connect(frame_ready(hook))``.

    The frames' axes are the event's useq indices. Like the hook it never waits and never raises. One hook is one
    run: connect before `run_mda`, close the hook after it.
    """

    def take(image: object, event: _Event, _metadata: Mapping[str, object]) -> None:
        hook(image, {"Axes": getattr(event, "index", None)})

    return take
