"""Frames that wait on disk, when memory is short and nothing else has them."""

import logging
import os
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormlive.wire.text import one_line

_log = logging.getLogger(__name__)


class Spool:
    """A temporary file of equal places for frames, at most `capacity_bytes`; in the sender's thread only.

    It is made when it is first needed, places are used again, and it vanishes with the process. A disk that fails ends
    the spool, never the run.

    Attributes
    ----------
    trouble : str or None
        Why it takes no more frames.
    """

    def __init__(self, capacity_bytes: int, folder: Path | None = None) -> None:
        self._capacity_bytes = capacity_bytes
        self._folder = folder
        self._file: Any = None
        self._free: deque[int] = deque()
        self._places = 0
        self.trouble: str | None = None

    def put(self, pixels: NDArray[Any]) -> int | None:
        """Write a frame and return its place; None when there is no room or the disk fails."""
        if self.trouble is not None:
            return None
        place = self._free.popleft() if self._free else self._places
        if (place + 1) * pixels.nbytes > self._capacity_bytes:
            return None
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="stormlive-spool-", dir=self._folder, buffering=0)  # noqa: SIM115
            self._file.seek(place * pixels.nbytes)
            left = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.trouble = one_line(f"frames cannot wait on disk: {error.strerror or error}")
            _log.warning("%s", self.trouble)
            return None
        self._places = max(self._places, place + 1)
        return place

    def get(self, place: int, like: NDArray[Any]) -> NDArray[Any] | None:
        """Read a frame of the shape and type of `like`; None when the disk fails."""
        pixels = np.empty_like(like)
        try:
            self._file.seek(place * pixels.nbytes)
            if self._file.readinto(pixels.reshape(-1).view(np.uint8).data) < pixels.nbytes:
                raise OSError(0, "the file is cut short")
        except OSError as error:
            self.trouble = one_line(f"frames that waited on disk cannot be read: {error.strerror or error}")
            _log.warning("%s", self.trouble)
            return None
        return pixels

    def release(self, place: int) -> None:
        """Use a place again."""
        self._free.append(place)

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return 0 if self._file is None else os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()
