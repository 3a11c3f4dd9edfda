"""Pictures for viewers far away: smaller on the way, and at its end the same, or as fine as a screen can show."""

import zlib

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from stormlive.wire.codec import Buffer, ProtocolError
from stormlive.wire.fields import Packing
from stormlive.wire.viewing import MAX_VIEW_BYTES, Viewed

_LEVEL = 1
"""Of ten times the work a higher one makes a tenth less."""
_VALUE_BYTES = 4


def packed(pixels: NDArray[np.float32], how: Packing) -> bytes | None:
    """Return a picture (Y, X) as zlib's bytes; None where that would not be smaller.

    First come the first bytes of all values, then the second ones, …: those of one kind are more alike.
    """
    values = np.ascontiguousarray(pixels, "<f4").reshape(-1)
    if how == "zlib-bf16":
        values = _rounded(values)
    planes = values.view("u1").reshape(-1, _VALUE_BYTES).T
    data = zlib.compress(np.ascontiguousarray(planes).data, _LEVEL)
    return data if len(data) < pixels.nbytes else None


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values (N,) to 8 bits, 0.4 %: the nearest bfloat16, which is a float32 that ends with 16 zeros."""
    bits = values.view("<u4")
    to_even = (bits >> 16) & 1
    rounded = (bits + 0x7FFF + to_even) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(values), rounded, bits).view("<f4")


def picture_of(header: Viewed, data: Buffer) -> NDArray[np.float32]:
    """Return the picture (h, w) of VIEWED; ProtocolError when the bytes are not that picture.

    What the header says is the most that is ever allocated, and it is at most `MAX_VIEW_BYTES`.
    """
    if header.nbytes > MAX_VIEW_BYTES:
        raise ProtocolError(f"a picture has at most {MAX_VIEW_BYTES} bytes, the header says {header.nbytes}")
    if header.coding is UNSET:
        return np.frombuffer(data, "<f4").reshape(header.h, header.w)
    unpacker = zlib.decompressobj()
    try:
        # One byte more than there may be, so that the end of the stream is reached.
        planes = unpacker.decompress(data, header.nbytes + 1)
    except zlib.error as error:
        raise ProtocolError(f"a picture could not be unpacked: {error}") from error
    if len(planes) != header.nbytes or not unpacker.eof or unpacker.unused_data:
        raise ProtocolError(f"a picture is not of the {header.nbytes} bytes that the header says")
    values = np.frombuffer(planes, "u1").reshape(_VALUE_BYTES, -1).T
    return np.ascontiguousarray(values).view("<f4").reshape(header.h, header.w)
