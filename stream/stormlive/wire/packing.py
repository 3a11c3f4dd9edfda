"""Pictures for viewers far away: smaller on the way, the same to the last bit at its end."""

import zlib

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from stormlive.wire.codec import Buffer, ProtocolError
from stormlive.wire.viewing import MAX_VIEW_BYTES, Viewed

_LEVEL = 1
"""Of ten times the work a higher one makes a tenth less."""
_VALUE_BYTES = 4


def packed(pixels: NDArray[np.float32]) -> bytes | None:
    """Return a picture (Y, X) as zlib's bytes; None where that would not be smaller.

    First come the first bytes of all values, then the second ones, …: those of one kind are more alike.
    """
    planes = np.ascontiguousarray(pixels, "<f4").reshape(-1).view("u1").reshape(-1, _VALUE_BYTES).T
    data = zlib.compress(np.ascontiguousarray(planes).data, _LEVEL)
    return data if len(data) < pixels.nbytes else None


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
