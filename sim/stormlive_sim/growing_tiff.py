"""A TIFF file that is being written: which frames its chain of directories has gained since one looked last.

A directory tells where pixels will be; it says nothing of whether they are there. Writers append, or they fill a
file that has its full size from the start (Micro-Manager, memory maps), where a disk gives zeros for what was never
written. Both write a frame from its first pixel to its last and one frame after the other, so a frame is whole when
its last pixel is not zero, or a later frame has begun. Frames may end in zeros too (masked, background-subtracted):
the newest of such waits for the next, or for the end of the recording, when all counts that is not wholly zero.
"""

import json
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np

from stormlive_sim.errors import InputError
from stormlive_sim.frame_table import FrameTable, describe_frame
from stormlive_sim.growth import Growth, state_of
from stormlive_sim.tiff_description import Description, read_description
from stormlive_sim.tiff_directories import CutShortError, DamagedError, TiffDirectories
from stormlive_sim.tiff_stack import DESCRIPTION, Page, frame_axes, read_page

_LEAST_HEADER = 16
_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class _Listed:
    page: Page
    axes: dict[str, int | str]
    offset: int  # what the frame table names: of the pixels, or of the directory where they are compressed


class GrowingTiff:
    """The frames of one TIFF file, classic or BigTIFF, in the order of its directories.

    A writer that adds its directories only when it ends (tifffile's contiguous series, ImageJ) shows its frames
    only then.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pointer = 0
        self._listed: list[_Listed] = []
        self._count = 0  # frames given out
        self._first: Page | None = None
        self._description = Description()
        self._needed = 0  # first byte behind the frames that were given out
        self._identity: tuple[int, int] | None = None
        self._state = (0, 0)
        self.name = path.name.removesuffix(path.suffix).removesuffix(".ome")

    @property
    def footprint(self) -> tuple[int, ...]:
        """What changes whenever the writer writes."""
        return self._state

    @property
    def complete(self) -> bool:
        """False: a TIFF never says that nothing will follow."""
        return False

    @property
    def left_out(self) -> int:
        """Frames that are listed and were not given out."""
        return len(self._listed)

    def poll(self, *, last: bool = False, over: bool = False) -> Growth | None:
        """Return the frames that are whole since the last call, None where there are none.

        With `over` the writer goes on in another file, so that all that is listed here was written.

        Raises
        ------
        InputError
            The file vanished, became shorter, was replaced, or is not one movie of grey frames.
        """
        if self._identity is None and not self._path.exists():
            return None
        self._look_for_changes()
        if self._state[0] < _LEAST_HEADER:
            return None
        with self._path.open("rb") as file:
            if not any(file.read(4)):
                return None  # preallocated, and not begun
            file.seek(0)
            ended = self._walk(TiffDirectories(file, self._path, self._state[0]), last=last or over)
            n = self._inside()
            if not over:
                n = self._held(file, n, chain_ended=ended) if last else self._whole(file, n)
        whole, self._listed = self._listed[:n], self._listed[n:]
        if not whole or self._first is None:
            return None
        self._count += len(whole)
        self._needed = max(self._needed, *(frame.page.end for frame in whole))
        table = FrameTable(
            files=(self._path,),
            shape=self._first.shape,
            dtype=self._first.dtype,
            file_index=np.zeros(len(whole), np.int32),
            offset=np.array([frame.offset for frame in whole], np.int64),
            compressed=np.array([frame.page.compressed for frame in whole], np.bool_),
        )
        return Growth(table=table, axes=[frame.axes for frame in whole])

    def _look_for_changes(self) -> None:
        found = state_of(self._path)
        size = found.st_size
        identity = (found.st_dev, found.st_ino)
        if self._identity not in (None, identity):
            raise InputError(
                f"{self._path} was replaced by another file while it was followed; start again when the recording runs"
            )
        if size < self._needed:
            raise InputError(
                f"{self._path} became shorter while it was followed ({size} bytes, {self._needed} were read); was it "
                "recorded over? start again when the recording runs"
            )
        self._identity = identity
        self._state = (size, found.st_mtime_ns)

    def _walk(self, directories: TiffDirectories, *, last: bool) -> bool:
        """List the directories that are new; return whether the chain has an end."""
        pointer = self._pointer or directories.first_pointer
        number = self._count + len(self._listed)
        try:
            while (found := directories.read(pointer)) is not None:
                offset, entries, following = found
                page = read_page(directories, entries, f"frame {number} of {self._path}")
                if self._first is None:
                    if DESCRIPTION in entries:
                        text = directories.text(entries[DESCRIPTION])
                        self._description = read_description(text, self._path, several=True)
                    self._first = page
                if (page.shape, page.dtype) != (self._first.shape, self._first.dtype):
                    raise InputError(
                        f"expected frames of {describe_frame(self._first.shape, self._first.dtype)} like the first, "
                        f"got {describe_frame(page.shape, page.dtype)} at frame {number} of {self._path}; "
                        "give a file with one movie only"
                    )
                try:
                    axes = frame_axes(directories, entries, self._description, number)
                except json.JSONDecodeError:
                    if not last:
                        return False  # Micro-Manager writes it behind the pixels
                    axes = self._description.axes(number)
                self._listed.append(_Listed(page=page, axes=axes, offset=offset if page.compressed else page.offset))
                number += 1
                self._pointer = pointer = following
        except (CutShortError, DamagedError):
            return False  # a directory that is not written yet
        return True

    def _inside(self) -> int:
        """Count the listed frames from the first that lie inside the file."""
        inside = [listed.page.end <= self._state[0] for listed in self._listed]
        return inside.index(False) if False in inside else len(inside)

    def _whole(self, file: BufferedReader, inside: int) -> int:
        """Count the frames from the first, of those `inside` the file, that are written to their end."""
        begun = -1  # the newest frame that holds something: all before it are whole
        # Mostly that is the last; in a file of full size a binary search finds it without reading all that is empty.
        # Where black frames mislead it, it finds an older one: they wait until as many again are there.
        steps = [inside, *(1 << bit for bit in reversed(range(inside.bit_length())))] if inside else []
        for step in steps:
            if begun + step < inside and _holds_something(file, self._listed[begun + step].page):
                begun += step
        if begun < 0:
            return 0
        page = self._listed[begun].page
        if page.compressed:
            return begun  # its bytes do not tell
        file.seek(page.end - page.dtype.itemsize)
        return begun + any(file.read(page.dtype.itemsize))

    def _held(self, file: BufferedReader, inside: int, *, chain_ended: bool) -> int:
        """Count the frames from the first, of those `inside` the file, to the last that holds something."""
        n = inside
        while n and not _holds_something(file, self._listed[n - 1].page):
            n -= 1
        # What is compressed and cut short could not be read.
        cut_short = n == len(self._listed) > 0 and self._listed[-1].page.compressed and not chain_ended
        return n - cut_short


def _holds_something(file: BufferedReader, page: Page) -> bool:
    file.seek(page.offset)
    left = page.end - page.offset
    while left > 0 and (some := file.read(min(left, _CHUNK))):
        if np.frombuffer(some, np.uint8).any():
            return True
        left -= len(some)
    return False
