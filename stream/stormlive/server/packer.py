"""The thread that gets answers to viewers ready, so that neither the engine nor the sockets wait.

It makes pictures smaller for viewers far away, and finds out the contrast of whole pictures.
"""

import logging
import queue
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from msgspec import UNSET, UnsetType, structs

from stormlive.wire.fields import Packing
from stormlive.wire.packing import packed
from stormlive.wire.viewing import Contrast, Viewed

if TYPE_CHECKING:
    from stormlive.server.worker import Outgoing

_log = logging.getLogger(__name__)

# A viewer waits for its answer before it asks again; who does not may lose one, as when it does not read.
_MOST_WAITING = 8


class Packer:
    """Gets answers ready and hands them on to `post`."""

    def __init__(self, post: "Callable[[Outgoing], None]") -> None:
        self._post = post
        self._waiting: queue.Queue[tuple[Outgoing, Packing | UnsetType, Callable[[], Contrast | None] | None] | None]
        self._waiting = queue.Queue(_MOST_WAITING)

    def submit(
        self, outgoing: "Outgoing", how: Packing | UnsetType, measure: Callable[[], Contrast | None] | None
    ) -> None:
        """Have an answer packed, and its contrast found out, where that is wanted, and sent; never waits.

        Where too many wait it goes without contrast, and is let go if it was to be packed.
        """
        try:
            self._waiting.put_nowait((outgoing, how, measure))
        except queue.Full:
            if how is UNSET:
                self._post(outgoing)

    def stop(self) -> None:
        """Let `work` return once everything is done."""
        self._waiting.put(None)

    def work(self) -> None:
        """Work until `stop`."""
        while (waiting := self._waiting.get()) is not None:
            outgoing, how, measure = waiting
            try:
                ready = _got_ready(outgoing, how, measure)
            except Exception:
                # A viewer's answer, such as one for which there was no memory: runs go on, and it may ask again.
                _log.exception("an answer to a viewer could not be got ready")
                continue
            self._post(ready)


def _got_ready(
    outgoing: "Outgoing", how: Packing | UnsetType, measure: Callable[[], Contrast | None] | None
) -> "Outgoing":
    message = outgoing.message
    if not isinstance(message, Viewed) or outgoing.pixels is None:
        return outgoing
    if measure is not None:
        message = structs.replace(message, contrast=measure() or UNSET)
    data = None if how is UNSET else packed(outgoing.pixels, how)
    if data is None:
        return replace(outgoing, message=message)
    return replace(outgoing, message=structs.replace(message, coding="zlib"), pixels=np.frombuffer(data, "u1"))
