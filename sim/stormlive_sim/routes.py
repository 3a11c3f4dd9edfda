"""Which frames of an acquisition belong into one picture: those that differ in time alone.

A frame's *route* is what its axes say of channel, position and z, under the names that Micro-Manager and useq give
them. Frames of one route are summed, whatever else their axes say; frames of two never are.
"""

import itertools
import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import TypeAlias

Route: TypeAlias = tuple[tuple[str, str], ...]
"""Names of separating axes, in lower case, and the frame's place on each; empty for a frame that has none."""

# Micro-Manager's names; row and column are those of its explorer, the single letters useq's (g: place in a grid).
_SEPARATING = ("channel", "c", "camera", "view", "position", "p", "g", "row", "column", "z", "slice")
_MOST_NAME_BYTES = 60


def route_of(axes: Mapping[str, int | str]) -> Route:
    """Return the route of a frame with these axes."""
    named = [(axis.casefold(), str(place)) for axis, place in axes.items()]
    return tuple(sorted((pair for pair in named if pair[0] in _SEPARATING), key=_rank))


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


def _rank(pair: tuple[str, str]) -> tuple[int, str]:
    return _SEPARATING.index(pair[0]), pair[1]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name.upper().casefold())
