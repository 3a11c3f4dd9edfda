"""What a recording has gained since one looked last."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stormlive_sim.errors import InputError
from stormlive_sim.frame_table import FrameTable


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Frames that became whole, in the order in which they were written.

    Attributes
    ----------
    table
        Where they lie.
    axes
        The recording's own coordinates of each, for example ``{"time": 12}``.
    """

    table: FrameTable
    axes: list[dict[str, int | str]]


class Growing(Protocol):
    """A recording that another program is writing."""

    name: str

    @property
    def footprint(self) -> tuple[int, ...]:
        """What changes whenever the writer writes."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the recording itself says that nothing will follow."""
        ...

    @property
    def left_out(self) -> int:
        """Frames that are listed and were not given out."""
        ...

    def poll(self, *, last: bool = False) -> Growth | None:
        """Return the frames that are whole since the last call; with `last` the writer will write no more."""
        ...


def state_of(path: Path) -> os.stat_result:
    """Return what the file system says of a file that was there before; InputError when it has vanished."""
    try:
        return path.stat()
    except OSError as error:
        raise InputError(
            f"{path} vanished while it was followed ({error.strerror}); was it moved or deleted, or its disk lost?"
        ) from None
