"""The thread that makes pictures smaller for viewers far away, so that neither the engine nor the sockets wait."""

import queue
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs

from stormlive.wire.fields import Packing
from stormlive.wire.packing import packed
from stormlive.wire.viewing import Viewed

if TYPE_CHECKING:
    from stormlive.server.worker import Outgoing

# A viewer waits for its answer before it asks again; who does not may lose one, as when it does not read.
_MOST_WAITING = 8


class Packer:
    """Packs answers and hands them on to `post`."""

    def __init__(self, post: "Callable[[Outgoing], None]") -> None:
        self._post = post
        self._waiting: queue.Queue[tuple[Outgoing, Packing] | None] = queue.Queue(_MOST_WAITING)

    def submit(self, outgoing: "Outgoing", how: Packing) -> None:
        """Have an answer packed and sent; it is let go where too many wait. Never waits."""
        try:
            self._waiting.put_nowait((outgoing, how))
        except queue.Full:
            return

    def stop(self) -> None:
        """Let `work` return once everything is done."""
        self._waiting.put(None)

    def work(self) -> None:
        """Work until `stop`."""
        while (waiting := self._waiting.get()) is not None:
            outgoing, how = waiting
            if isinstance(outgoing.message, Viewed) and outgoing.pixels is not None:
                data = packed(outgoing.pixels, how)
                if data is not None:
                    message = structs.replace(outgoing.message, coding="zlib")
                    outgoing = replace(outgoing, message=message, pixels=np.frombuffer(data, "u1"))
            self._post(outgoing)
