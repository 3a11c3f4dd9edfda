"""Follow a recording that another program is writing, frame by frame, until its writer ends."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from stormlive_sim.errors import InputError
from stormlive_sim.growing_ndtiff import GrowingNdtiff
from stormlive_sim.growing_tiff_set import GrowingTiffSet
from stormlive_sim.growth import Growing
from stormlive_sim.ndtiff_table import INDEX_NAME
from stormlive_sim.recording import Recording

_LOOK_S = 0.05


class FollowedRecording:
    """An NDTiff dataset or a TIFF file, read as it grows; a frame that is not yet whole is waited for.

    Iterate over it once: it yields ``(axes, frame)`` with the frame ``(Y, X)`` as `Recording.frame` delivers it.

    Parameters
    ----------
    path
        The dataset's folder, one of its files, or a TIFF file; the first where a recording is spread over several. It
        need not exist yet.
    idle_s
        The recording has ended when its files did not change for so long.
    stop
        Set it to end early.

    Attributes
    ----------
    ended
        Why the iteration ended: the recording says that it is complete, nothing came any more, or `stop`.
    left_out
        Frames that the recording listed when it ended and that were not delivered: nothing but zeros, as a disk gives
        them for what was never written, or not written to their end.

    Raises
    ------
    InputError
        While iterating: no frame appeared within `idle_s`; the files vanished, became shorter or were replaced;
        what `Recording` refuses.
    """

    def __init__(self, path: Path, *, idle_s: float, stop: threading.Event | None = None) -> None:
        self._path = path
        self._idle_s = idle_s
        self._stop = stop or threading.Event()
        self.ended: Literal["complete", "idle", "stopped"] | None = None
        self.left_out = 0

    def __iter__(self) -> Iterator[tuple[dict[str, int | str], NDArray[Any]]]:
        growing: Growing | None = None
        footprint: tuple[int, ...] = ()
        changed_s = time.monotonic()
        frames = 0
        while self.ended is None:
            growing = growing or _open(self._path)
            idle = time.monotonic() - changed_s > self._idle_s
            if self._stop.is_set():
                self.ended = "stopped"
                return
            if growing is not None and growing.complete:
                self.ended = "complete"
            elif idle:
                self.ended = "idle"
            growth = None if growing is None else growing.poll(last=self.ended == "idle")
            if growing is not None and growth is not None:
                frames += len(growth.axes)
                with Recording(growth.table, growing.name) as recording:
                    for i, axes in enumerate(growth.axes):
                        if self._stop.is_set():
                            break
                        yield axes, recording.frame(i)
            if growing is not None and (growth is not None or growing.footprint != footprint):
                footprint, changed_s = growing.footprint, time.monotonic()
            elif self.ended is None:
                self._stop.wait(_LOOK_S)
        self.left_out = 0 if growing is None else growing.left_out
        if frames == 0 and self.ended == "idle":
            empty = f" (of {self.left_out} that it lists all are empty or unfinished)" if self.left_out else ""
            raise InputError(
                f"no frame appeared in {self._path} within {self._idle_s:g} s{empty}; check the path, start the "
                "recording within that time, or allow more of it"
            )


def _open(path: Path) -> Growing | None:
    """Return the recording at `path`, None as long as nothing is there."""
    if path.is_dir():
        return GrowingNdtiff(path)
    if not path.is_file():
        return None
    # One file of a dataset stands for the whole, as in `Recording.open`.
    return GrowingNdtiff(path.parent) if (path.parent / INDEX_NAME).is_file() else GrowingTiffSet(path)
