"""A TIFF recording that is being written, over as many files as its program needs."""

from pathlib import Path

from stormlive_sim.frame_table import concatenate
from stormlive_sim.growing_tiff import GrowingTiff
from stormlive_sim.growth import Growth
from stormlive_sim.tiff_set import continuation


class GrowingTiffSet:
    """The frames of a TIFF file and of those in which its recording goes on, in order.

    Parameters
    ----------
    path
        The first file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = GrowingTiff(path)
        self._number = 0  # of the file that is read
        self._next: GrowingTiff | None = None
        self._first: Growth | None = None
        self._count = 0
        self._left_out = 0  # of the files that are over
        self.name = self._file.name

    @property
    def footprint(self) -> tuple[int, ...]:
        """What changes whenever the writer writes."""
        return (self._number, *self._file.footprint, *(self._next.footprint if self._next is not None else ()))

    @property
    def complete(self) -> bool:
        """False: a TIFF never says that nothing will follow."""
        return False

    @property
    def left_out(self) -> int:
        """Frames that are listed and were not given out."""
        return self._left_out + self._file.left_out + (self._next.left_out if self._next is not None else 0)

    def poll(self, *, last: bool = False) -> Growth | None:
        """Return the frames that are whole since the last call, None where there are none.

        Raises
        ------
        InputError
            A file vanished, became shorter, was replaced, or they are not one movie of grey frames.
        """
        grown: list[Growth] = []
        while True:
            following = self._following()
            begun = None if following is None else following.poll(last=last)
            growth = self._file.poll(last=last, over=begun is not None)
            grown += [growth] if growth is not None else []
            if begun is None or following is None:
                break
            grown.append(begun)
            self._left_out += self._file.left_out
            self._file, self._next, self._number = following, None, self._number + 1
        return self._joined(grown)

    def _following(self) -> GrowingTiff | None:
        """Return the file in which the recording goes on, once it is there."""
        if self._next is None:
            path = continuation(self._path, self._number + 1)
            self._next = GrowingTiff(path) if path is not None and path.is_file() else None
        return self._next

    def _joined(self, grown: list[Growth]) -> Growth | None:
        if not grown:
            return None
        self._first = self._first or grown[0]
        concatenate([self._first.table, *(growth.table for growth in grown)])  # refuses other frames than the first
        table = concatenate([growth.table for growth in grown])
        first, self._count = self._count, self._count + len(table)
        # Where a page does not tell its axes, its number in its file is not that in the recording.
        own = [axes for growth in grown for axes in growth.axes]
        axes = [{**place, "time": first + i} if place.keys() == {"time"} else place for i, place in enumerate(own)]
        return Growth(table=table, axes=axes)
