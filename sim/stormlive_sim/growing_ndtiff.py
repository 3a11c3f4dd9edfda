"""An NDTiff dataset that is being written: which frames its index has gained since one looked last."""

import logging
from pathlib import Path

import numpy as np

from stormlive_sim.errors import InputError
from stormlive_sim.frame_table import FrameTable
from stormlive_sim.growth import Growth, state_of
from stormlive_sim.ndtiff_table import INDEX_NAME, Entry, check_entry, parse_index, pixel_dtype

logger = logging.getLogger(__name__)


class GrowingNdtiff:
    """The frames of a dataset folder in the order in which they were written.

    The index tells what is there: its writer adds a frame after the pixels. Pycro-Manager's writes the index in
    blocks of 8 KiB, so that frames appear some eighty at a time, whatever one does.

    Parameters
    ----------
    folder
        The dataset's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = 0  # bytes of the index whose frames were given out or wait
        self._waiting: list[Entry] = []
        self._first: Entry | None = None
        self._last: Entry | None = None
        self._places: set[frozenset[tuple[str, int | str]]] = set()
        self._sizes: dict[str, int] = {}
        self.name = folder.name

    @property
    def footprint(self) -> tuple[int, ...]:
        """What changes whenever the writer writes."""
        # The files too: at a few frames per second the index lies still for a minute.
        return (self._read, *(path.stat().st_mtime_ns for path in self._stacks()))

    @property
    def left_out(self) -> int:
        """Frames that are listed and were not given out."""
        return len(self._waiting)

    def poll(self, *, last: bool = False) -> Growth | None:
        """Return the frames that are whole since the last call, None where there are none.

        Raises
        ------
        InputError
            The dataset vanished, became shorter, or is not of grey frames of one size and type.
        """
        self._waiting += self._news()
        whole: list[Entry] = []
        while self._waiting and self._is_whole(self._waiting[0]):
            whole.append(self._waiting.pop(0))
        if not whole:
            return None
        self._last = whole[-1]
        files = tuple(dict.fromkeys(entry.filename for entry in whole))
        table = FrameTable(
            files=tuple(self._folder / name for name in files),
            shape=whole[0].shape,
            dtype=pixel_dtype(whole[0]),
            file_index=np.array([files.index(entry.filename) for entry in whole], np.int32),
            offset=np.array([entry.offset for entry in whole], np.int64),
            compressed=np.zeros(len(whole), np.bool_),
        )
        return Growth(table=table, axes=[entry.axes for entry in whole])

    @property
    def complete(self) -> bool:
        """Whether the writer has ended: it cuts its last file, until then 4 GB of nothing, behind the last frame."""
        if self._last is None or self._waiting:
            return False
        begun = {path.name for path in self._stacks()}
        return begun <= self._sizes.keys() and self._last.end == self._sizes[self._last.filename]

    def _stacks(self) -> list[Path]:
        return sorted(self._folder.glob("*NDTiffStack*.tif"))

    def _news(self) -> list[Entry]:
        index = self._folder / INDEX_NAME
        if self._read == 0 and not index.exists():
            return []
        size = state_of(index).st_size
        if size < self._read:
            raise InputError(
                f"{index} became shorter while it was followed ({size} bytes, {self._read} were read); was the "
                "dataset recorded over? start again when the recording runs"
            )
        with index.open("rb") as file:
            file.seek(self._read)
            entries, n_bytes = parse_index(file.read())
        self._read += n_bytes
        return [entry for entry in entries if self._belongs(entry)]

    def _belongs(self, entry: Entry) -> bool:
        """Check an entry against the frames so far; False for a frame whose place is taken."""
        self._first = self._first or entry
        check_entry(entry, self._first, self._folder)
        place = frozenset(entry.axes.items())
        if place in self._places:
            logger.warning("%s has a second frame at %s; the first one counts", self._folder, entry.axes)
            return False
        self._places.add(place)
        return True

    def _is_whole(self, entry: Entry) -> bool:
        size = state_of(self._folder / entry.filename).st_size
        self._sizes[entry.filename] = size
        if self._last is not None and self._last.filename == entry.filename and size < self._last.end:
            raise InputError(
                f"{self._folder / entry.filename} became shorter while it was followed; was the dataset recorded "
                "over? start again when the recording runs"
            )
        n_bytes = entry.shape[0] * entry.shape[1] * pixel_dtype(entry).itemsize
        return entry.offset + n_bytes <= size
