"""The part of the camera's frame in which frames are computed, and who may choose it."""

import hashlib

import msgspec

from stormlive.wire.fields import Region
from stormlive.wire.viewing import MAX_TOKEN_BYTES
from stormlive_sim.errors import InputError

LEAST_PX = 16
"""A side of a smaller region would be all edge for a network."""
_GRAIN_PX = 2
"""A network may see two camera pixels a side as one."""


def check_region(region: object) -> Region:
    """Return a region (x, y, width, height); InputError unless it can be one of a frame of any size."""
    try:
        checked: Region = msgspec.convert(region, Region)
        return checked
    except msgspec.ValidationError as error:
        raise InputError(f"a region is (x, y, width, height) in camera pixels, got {region!r:.60}: {error}") from error


def token_digest(token: bytes) -> bytes:
    """Return what START tells of a token; InputError when it is none."""
    if not 0 < len(token) <= MAX_TOKEN_BYTES:
        raise InputError(f"a token is 1 to {MAX_TOKEN_BYTES} bytes, got {len(token)}")
    return hashlib.sha256(token).digest()


def check_inside(region: Region | None, shape: tuple[int, int]) -> None:
    """Raise an InputError unless a region lies in frames of `shape` (Y, X) and is one that can be computed.

    For what a person asks for, who would not hear that `computed_region` cuts it.
    """
    if region is None:
        return
    x, y, width, height = region
    rows, columns = shape
    if x + width > columns or y + height > rows:
        raise InputError(
            f"expected a region inside frames of {columns}x{rows} pixels, got {x},{y},{width},{height}: of "
            f"X,Y,WIDTH,HEIGHT, X + WIDTH may be {columns} at most, Y + HEIGHT {rows}"
        )
    computed_region(region, shape)


def computed_region(region: Region | None, shape: tuple[int, int]) -> Region | None:
    """Return the region (x, y, width, height) that is computed where this one is asked for; None: the whole frame.

    It is cut to a frame of `shape` (Y, X), and then a pixel wider where that is needed to begin and end at whole pixels
    of any network.

    Raises
    ------
    InputError
        When less than 16 pixels a side of it lie in the frame.
    """
    if region is None:
        return None
    x, y, width, height = region
    (left, right), (top, bottom) = (
        (first - first % _GRAIN_PX, min(-(-(first + length) // _GRAIN_PX) * _GRAIN_PX, side))
        for first, length, side in ((x, width, shape[1]), (y, height, shape[0]))
    )
    if right - left < min(LEAST_PX, shape[1]) or bottom - top < min(LEAST_PX, shape[0]):
        raise InputError(
            f"the region {x},{y},{width},{height} has less than {LEAST_PX}x{LEAST_PX} pixels in frames of "
            f"{shape[1]}x{shape[0]}; choose a larger one, as X,Y,WIDTH,HEIGHT in camera pixels"
        )
    computed = left, top, right - left, bottom - top
    return None if computed == (0, 0, shape[1], shape[0]) else computed
