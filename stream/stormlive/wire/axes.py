"""The coordinates of a frame as the wire carries them, and as a dataset is searched for them: bounded."""

import hashlib
from collections.abc import Mapping
from numbers import Real

import numpy as np

from stormlive.wire.text import one_line

_MOST_AXES = 16
_MOST_PLACE = 64


def carried_axes(axes: object) -> dict[str, int | str]:
    """Return an acquisition's coordinates of a frame, as far as the wire carries them."""
    if not isinstance(axes, Mapping):
        return {}
    kept: dict[str, int | str] = {}
    for name, value in list(axes.items())[:_MOST_AXES]:
        if isinstance(value, (int, np.integer)) and abs(int(value)) < 2**62:
            kept[one_line(name, 60)] = int(value)
        elif isinstance(value, (str, Real)):
            # A number such as a z in micrometres too: let go, it would have frames summed that it separates.
            kept[one_line(name, 60)] = _place(str(value))
    return kept


def _place(text: str) -> str:
    """Return a place on an axis as the wire carries it; two that differ stay two, for they separate pictures."""
    if len(text) <= _MOST_PLACE and text.isprintable():
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{one_line(text, _MOST_PLACE - 13)}~{digest}"
