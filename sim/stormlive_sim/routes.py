"""Which frames of an acquisition belong into one picture: those that differ in time alone.

A frame's *route* is what its axes say but for those that count frames: channel, position and z, under the names that
Micro-Manager and useq give them, and whatever axis a user invents. Frames of one route are summed; frames of two never
are.
"""

import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

from stormlive_sim.errors import InputError

Route: TypeAlias = tuple[tuple[str, str], ...]
"""Names of separating axes, in lower case, and the frame's place on each; empty for a frame that has none."""

# Micro-Manager's names; row and column are those of its explorer, the single letters useq's (g: place in a grid).
_KNOWN = ("channel", "c", "camera", "view", "position", "p", "g", "row", "column", "z", "slice")
# What people call the axis along which frames are counted: time, t, frame_number, timepoints, img …
_COUNTS_FRAMES = re.compile(
    r"[tin]|index|number|count"
    r"|(time|frame|image|img|repeat|repetition)s?[ _-]?((point|step|stamp|number|index|count)s?|idx|num|no|nr|id|m?s)?"
)
_MOST_NAME_BYTES = 60
MOST_OWN_ROUTES = 64  # as many as a live run has canvases


def route_of(axes: Mapping[str, int | str]) -> Route:
    """Return the route of a frame with these axes."""
    named = [(axis.casefold(), str(place)) for axis, place in axes.items()]
    return tuple(sorted((pair for pair in named if not _counts_frames(pair[0])), key=_rank))


def widest_axis(routes: Iterable[Route]) -> str:
    """Return the axis on which these routes have the most places."""
    places: dict[str, set[str]] = {}
    for route in routes:
        for axis, place in route:
            places.setdefault(axis, set()).add(place)
    return max(places, key=lambda axis: len(places[axis]), default="place")


def check_routes(routes: Collection[Route], where: str) -> None:
    """Raise an InputError where an axis of the user's own must be a count of frames: no place has ever so many."""
    axis = widest_axis(routes)
    if len(routes) > MOST_OWN_ROUTES and axis not in _KNOWN:
        raise InputError(
            f"expected at most {MOST_OWN_ROUTES} pictures that differ on the axis {axis!r}, got {len(routes)} in "
            f"{where}; frames are summed along an axis called time, t, frame, image or the like: save it under such a "
            "name, or the frames of each picture as a TIFF of its own"
        )


def name_of(route: Route, taken: Collection[str] = ()) -> str:
    """Return a name for a route such as ``channel-Cy5_z-3``: at most 64 bytes, fit for a part of a file's name.

    It is none of `taken`, not even where a file system takes ``a`` and ``A`` for the same.
    """
    text = unicodedata.normalize("NFC", "_".join(f"{axis}-{place}" for axis, place in route))
    plain = re.sub(r"[^\w.+-]+", "_", text).encode()[:_MOST_NAME_BYTES].decode(errors="ignore") or "unnamed"
    used = {_folded(name) for name in taken}
    # No plain name has a tilde.
    names = itertools.chain([plain], (f"{plain}~{number}" for number in itertools.count(2)))
    return next(name for name in names if _folded(name) not in used)


@lru_cache(1000)  # no more: a client may invent names
def _counts_frames(axis: str) -> bool:
    return _COUNTS_FRAMES.fullmatch(axis) is not None


def _rank(pair: tuple[str, str]) -> tuple[int, str, str]:
    axis, place = pair
    return (_KNOWN.index(axis) if axis in _KNOWN else len(_KNOWN)), axis, place


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name.upper().casefold())
