"""Recorded movies: TIFF stacks in their many shapes, NDTiff datasets and Zarr, frame by frame."""

from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tifffile
from numpy.typing import NDArray

from stormlive_sim.errors import InputError
from stormlive_sim.frame_table import FrameTable
from stormlive_sim.movie_writer import write_movie
from stormlive_sim.ndtiff_table import INDEX_NAME, ndtiff_table, ndtiff_tables
from stormlive_sim.routes import Route, check_routes, name_of
from stormlive_sim.tiff_set import movies_in

__all__ = ["Recording", "write_movie"]

_DELIVERED = {"u1": np.uint8, "u2": np.uint16, "i2": np.uint16, "f4": np.float32, "f8": np.float32}
_ZARR = ("zarr.json", ".zgroup", ".zarray")


def delivered(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the pixel type that `Recording.frame` gives for one in a file; KeyError for what no camera delivers."""
    return np.dtype(_DELIVERED[stored.str[1:]])


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr array or group."""
    return any((path / name).is_file() for name in _ZARR)


class Recording:
    """A recorded movie of which any frame can be read; the pixels stay on disk.

    Opening it checks that every frame is there, of one size and of one pixel type; the pixels are checked as
    they are read. Use it from one thread at a time.

    Attributes
    ----------
    shape : tuple of int
        ``(T, Y, X)``.
    dtype : numpy.dtype
        What :meth:`frame` delivers: uint8, uint16 (also for int16 files, which must not be negative) or
        float32 (also for float64 files).
    name : str
        The movie's name, for messages and output files.
    """

    def __init__(self, table: FrameTable, name: str) -> None:
        self._table = table
        self._open_path: Path | None = None
        self._file: BufferedReader | None = None
        self._decoder: tifffile.TiffFile | None = None
        self._stored = np.empty(table.shape, table.dtype)
        self.name = name
        self.shape = (len(table), *table.shape)
        self.dtype = delivered(table.dtype)

    @classmethod
    def open(cls, paths: Path | str | Sequence[Path | str]) -> "Recording":
        """Open a TIFF file, several TIFF files as one movie, an NDTiff dataset folder, or a Zarr folder.

        Raises
        ------
        InputError
            Missing, empty, cut short or damaged files; colour, several channels, frames of different size or
            pixel type; pixel types that no camera delivers.
        """
        (recording,) = cls._open(paths, several=False).values()
        return recording

    @classmethod
    def open_each(cls, paths: Path | str | Sequence[Path | str]) -> "dict[Route, Recording]":
        """Open a recording as `open` does, but of several channels, positions, z or other places as several movies.

        Raises
        ------
        InputError
            As for `open`; or it does not tell of every frame where it belongs.
        """
        recordings = cls._open(paths, several=True)
        check_routes(recordings, next(iter(recordings.values())).name)
        return recordings

    @classmethod
    def _open(cls, paths: Path | str | Sequence[Path | str], *, several: bool) -> "dict[Route, Recording]":
        given = [Path(paths)] if isinstance(paths, Path | str) else [Path(path) for path in paths]
        if not given:
            raise InputError("expected at least one movie file, got none; give the TIFF files or the NDTiff folder")
        if len(given) == 1 and is_zarr(given[0]):
            # Zarr is an extra, and what reads it is a Recording itself.
            from stormlive_sim.zarr_recording import zarr_recordings

            return {**zarr_recordings(given[0], several=several)}
        # One file of a dataset stands for the whole. ndstorage labels 8-bit pixels as 16-bit in the TIFF,
        # so that only the index tells what they are.
        folder = given[0] if given[0].is_dir() else given[0].parent
        if len(given) == 1 and (given[0].is_dir() or (given[0].is_file() and (folder / INDEX_NAME).is_file())):
            tables: dict[Route, FrameTable] = ndtiff_tables(folder) if several else {(): ndtiff_table(folder)}
            if given[0].is_dir() or any(given[0] in table.files for table in tables.values()):
                return cls._of(tables, folder.name)
        name = given[0].name.removesuffix(given[0].suffix).removesuffix(".ome")
        return cls._of(movies_in(given, several=several), name)

    @classmethod
    def _of(cls, tables: dict[Route, FrameTable], name: str) -> "dict[Route, Recording]":
        several = len(tables) > 1
        return {route: cls(table, f"{name} {name_of(route)}" if several else name) for route, table in tables.items()}

    def __len__(self) -> int:
        return self.shape[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; reading afterwards opens them again."""
        for handle in (self._file, self._decoder):
            if handle is not None:
                handle.close()
        self._file = self._decoder = None

    def frame(self, i: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read frame `i` (0-based) as ``(Y, X)`` of :attr:`dtype`, into `out` where it is given.

        Raises
        ------
        InputError
            No such frame; the file changed since it was opened; NaN, infinite or negative pixels.
        """
        if not 0 <= i < len(self):
            raise InputError(f"expected a frame of 0 to {len(self) - 1} of {self.name}, got {i}")
        if out is None:
            out = np.empty(self.shape[1:], self.dtype)
        elif out.shape != self.shape[1:] or out.dtype != self.dtype:
            raise ValueError(f"expected out of {self.shape[1:]} {self.dtype}, got {out.shape} {out.dtype}")
        self._fill(i, out)
        return out

    def _fill(self, i: int, out: NDArray[Any]) -> None:
        if self._table.compressed[i]:
            self._deliver(self._decode(i), out, i)
        elif out.dtype == self._table.dtype and out.flags.c_contiguous:
            self._read(i, out)
            self._refuse_not_finite(out, i)
        else:
            self._read(i, self._stored)
            self._deliver(self._stored, out, i)

    def blocks(self, size: int, first: int = 0, end: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield ``(start, frames)`` of the frames `first` to before `end`, (B, Y, X), B = `size` but for the last."""
        if size < 1:
            raise ValueError(f"expected a block size of at least 1, got {size}")
        end = len(self) if end is None else end
        for start in range(first, end, size):
            block = np.empty((min(size, end - start), *self.shape[1:]), self.dtype)
            for offset, frame in enumerate(block):
                self.frame(start + offset, out=frame)
            yield start, block

    def _path_of(self, i: int) -> Path:
        return self._table.files[int(self._table.file_index[i])]

    def _file_of(self, i: int) -> BufferedReader:
        path = self._path_of(i)
        if self._file is None or path != self._open_path:
            self.close()
            try:
                self._file = path.open("rb")
            except OSError as error:
                raise InputError(
                    f"could not open {path} for frame {i}: {error.strerror}; it was there when the movie was opened"
                ) from None
            self._open_path = path
        return self._file

    def _read(self, i: int, into: NDArray[Any]) -> None:
        file = self._file_of(i)
        file.seek(int(self._table.offset[i]))
        if file.readinto(into.reshape(-1).view(np.uint8).data) < into.nbytes:
            raise InputError(
                f"{self._path_of(i)} became shorter while it was read: frame {i} is cut off; "
                "wait until the file is complete and start again"
            )

    def _decode(self, i: int) -> NDArray[Any]:
        path = self._path_of(i)
        self._file_of(i)  # closes the decoder of another file
        try:
            if self._decoder is None:
                self._decoder = tifffile.TiffFile(path)
            self._decoder.filehandle.seek(int(self._table.offset[i]))
            page = tifffile.TiffPage(self._decoder, index=i)
            return page.asarray(maxworkers=1).reshape(self._table.shape)
        # Codecs raise whatever they like on bad data.
        except Exception as error:
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            hint = "pip install imagecodecs, or save" if "imagecodecs" in cause else "copy the file again, or save"
            raise InputError(
                f"could not decode frame {i} of {path}: {cause}; {hint} the movie without compression"
            ) from None

    def _deliver(self, stored: NDArray[Any], out: NDArray[Any], i: int) -> None:
        """Convert from the file's pixel type to the delivered one, in `out`."""
        if stored.dtype.kind == "i" and stored.min() < 0:
            y, x = np.unravel_index(int(stored.argmin()), stored.shape)
            raise InputError(
                f"expected camera counts of 0 or more, got {stored[y, x]} in frame {i} at pixel "
                f"(x {x}, y {y}) of {self._path_of(i)}; "
                "give the camera's own recording, with nothing subtracted"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            out[...] = stored
        self._refuse_not_finite(out, i)

    def _refuse_not_finite(self, frame: NDArray[Any], i: int) -> None:
        # One pass without a temporary: a sum in float64 of float32 is finite exactly if all terms are.
        if frame.dtype.kind != "f":
            return
        with np.errstate(invalid="ignore"):  # +inf and -inf together
            if np.isfinite(frame.sum(dtype=np.float64)):
                return
        y, x = np.argwhere(~np.isfinite(frame))[0]
        raise InputError(
            f"expected finite pixels, got {frame[y, x]} in frame {i} at pixel (x {x}, y {y}) of "
            f"{self._path_of(i)}; give the camera's own recording, or replace such pixels"
        )
