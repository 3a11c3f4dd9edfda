"""Movies in Zarr (version 2 or 3): a bare array (T, Y, X), or an OME-Zarr picture with its named axes."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormlive_sim.errors import InputError
from stormlive_sim.recording import Recording, delivered
from stormlive_sim.routes import Route, name_of, route_of

if TYPE_CHECKING:
    import zarr

_MOST_HELD_BYTES = 2**28
"""Chunks are decoded whole; the frames of one are kept together while they are read, up to this much."""


class ZarrRecording(Recording):
    """The frames of one route of a Zarr array.

    Parameters
    ----------
    array : zarr.Array
        Its last two axes are Y and X.
    fixed : dict
        The place on each separating axis, by the axis' number; the frames run along all others.
    path : Path
        Where the array lies, for messages.
    """

    def __init__(self, array: "zarr.Array[Any]", fixed: dict[int, int], path: Path, name: str) -> None:
        self._array, self._fixed, self._path = array, fixed, path
        self._running = [axis for axis in range(array.ndim - 2) if axis not in fixed]
        self._lengths = tuple(array.shape[axis] for axis in self._running)
        self.name = name
        self.shape = (math.prod(self._lengths), *array.shape[-2:])
        self.dtype = delivered(array.dtype)
        frame_bytes = math.prod(self.shape[1:]) * array.dtype.itemsize
        along = array.chunks[self._running[-1]] if self._running else 1
        self._together = along if along * frame_bytes <= _MOST_HELD_BYTES else 1
        self._held: tuple[int, NDArray[Any]] | None = None

    def close(self) -> None:
        """Forget what was read; nothing stays open."""
        self._held = None

    def _path_of(self, i: int) -> Path:
        return self._path

    def _fill(self, i: int, out: NDArray[Any]) -> None:
        length = self._lengths[-1] if self._running else 1
        row, place = divmod(i, length)
        start = place - place % self._together
        first = row * length + start
        if self._held is None or self._held[0] != first:
            self._held = first, self._read_together(i, row, slice(start, min(length, start + self._together)))
        self._deliver(self._held[1][place - start], out, i)

    def _read_together(self, i: int, row: int, places: slice) -> NDArray[Any]:
        where: list[object] = [self._fixed.get(axis, 0) for axis in range(self._array.ndim - 2)]
        outer = np.unravel_index(row, self._lengths[:-1]) if len(self._lengths) > 1 else ()
        for axis, place in zip(self._running, (*map(int, outer), places), strict=False):
            where[axis] = place
        try:
            return np.asarray(self._array[(*where, slice(None), slice(None))]).reshape(-1, *self.shape[1:])
        # Codecs and stores raise whatever they like on bad data.
        except Exception as error:
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"could not read frame {i} of {self._path}: {cause}; copy the movie again") from None


def zarr_recordings(folder: Path, *, several: bool) -> dict[Route, Recording]:
    """Open a Zarr folder, one recording for each channel, position, z or other place that its axes name.

    Raises
    ------
    InputError
        When it is no movie of grey frames, or has several routes and `several` is False, or zarr is not installed.
    """
    path, array, axes = _open(folder)
    try:
        delivered(array.dtype)
    except KeyError:
        raise InputError(
            f"expected grey frames of 8 or 16 bit or float, got {array.dtype} in {path}; give the camera's "
            "own recording"
        ) from None
    if 0 in array.shape:
        raise InputError(f"{path} holds no frames: its shape is {array.shape}")
    separating = [axis for axis, name in enumerate(axes[:-2]) if route_of({name: 0})]
    routes = {}
    for places in np.ndindex(*(array.shape[axis] for axis in separating)):
        fixed = dict(zip(separating, places, strict=True))
        routes[route_of({axes[axis]: place for axis, place in fixed.items()})] = fixed
    if len(routes) > 1 and not several:
        raise InputError(
            f"{path} holds {len(routes)} channels, positions, z or other places; save each as a movie of its own"
        )
    name = folder.absolute().name.removesuffix(".zarr").removesuffix(".ome")
    return {
        route: ZarrRecording(array, fixed, path, f"{name} {name_of(route)}" if len(routes) > 1 else name)
        for route, fixed in routes.items()
    }


def _open(folder: Path) -> tuple[Path, "zarr.Array[Any]", list[str]]:
    """Return a folder's array of frames, where it lies and its axes' names."""
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{folder} is Zarr, and zarr is not installed: pip install 'stormlive[dask]'") from error
    try:
        node = zarr.open(folder, mode="r")
        found = (folder, node, None) if isinstance(node, zarr.Array) else _picture(folder, node)
    # As above: a damaged folder makes its readers raise what they like.
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{folder} is no readable Zarr folder ({error}); copy it again") from error
    path, array, names = found
    names = names or getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if names is None and array.ndim in (2, 3):
        names = ["t", "y", "x"][3 - array.ndim :]
    named = [] if names is None else [str(name).casefold() for name in names]
    if len(named) != array.ndim or named[-2:] != ["y", "x"] or len(set(named)) < len(named):
        raise InputError(
            f"expected a Zarr array (T, Y, X) or one with named axes that end in y, x; got {array.shape} with the axes "
            f"{named or 'unnamed'} in {path}; save it as OME-Zarr"
        )
    return path, array, named


def _picture(folder: Path, group: "zarr.Group") -> tuple[Path, "zarr.Array[Any]", list[str] | None]:
    """Return the finest level of an OME-Zarr picture and its axes, or the one array of a plain group."""
    import zarr

    held = group.attrs.asdict()
    pictures = held.get("ome", held).get("multiscales")
    if not pictures:
        arrays = sorted(name for name, member in group.members() if isinstance(member, zarr.Array))
        if len(arrays) != 1:
            raise InputError(
                f"{folder} is a Zarr group without a picture of its own; give one of the folders in it: "
                + (", ".join(sorted(name for name, _ in group.members())[:8]) or "there are none")
            )
        array = group[arrays[0]]
        return folder / arrays[0], array, None
    level = str(pictures[0]["datasets"][0]["path"])
    array = group[level]
    axes = pictures[0].get("axes")
    names = None if axes is None else [axis if isinstance(axis, str) else axis["name"] for axis in axes]
    return folder / level, array, names
