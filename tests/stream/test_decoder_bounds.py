"""What a header may make the decoder allocate, and what may come of a frame's two parts."""

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormlive.wire.codec import MAX_HEADER_BYTES, ProtocolError, frame_of, unpack
from stormlive.wire.frame import WIRE_DTYPES
from stormlive.wire.messages import FrameHeader
from stormlive.wire.viewing import Viewed

RUN = "12345678-1234-5678-1234-567812345678"
# A header of 8 KiB makes at most as many objects as it has bytes, of a hundred bytes each.
MOST_ALLOCATED = 100 * MAX_HEADER_BYTES

sides = st.integers(-2, 70_000) | st.sampled_from([0, 1, 2**31, 2**62])
sizes = st.integers(0, 5000)
dtypes = st.sampled_from([*WIRE_DTYPES, "float64", "object", ""])


@settings(max_examples=300, deadline=None)
@given(st.tuples(sides, sides), dtypes, sizes | st.sampled_from([2**39, 2**62]), sizes, st.booleans())
def test_a_frame_is_what_its_header_says_or_refused(
    shape: tuple[int, int], dtype: str, nbytes: int, length: int, right: bool
) -> None:
    if right and dtype in WIRE_DTYPES and 0 < shape[0] * shape[1] < 5000:
        nbytes = length = shape[0] * shape[1] * WIRE_DTYPES[dtype].itemsize
    fields = {"type": "frame", "run": RUN, "seq": 1, "t_ns": 0, "dtype": dtype, "shape": shape, "nbytes": nbytes}
    try:
        message, pixels = unpack([msgspec.msgpack.encode(fields), bytes(length)])
    except ProtocolError:
        return
    assert isinstance(message, FrameHeader)
    assert pixels is not None
    image = frame_of(message, pixels).pixels
    assert (image.shape, image.dtype, image.nbytes) == (shape, WIRE_DTYPES[dtype], length)


@settings(max_examples=200, deadline=None)
@given(sides, sides, sizes | st.sampled_from([2**39]), sizes)
def test_a_picture_has_as_many_bytes_as_its_sides_say_or_is_refused(w: int, h: int, nbytes: int, length: int) -> None:
    fields: dict[str, Any] = {"type": "viewed", "request": 1, "run": RUN, "picture": "last", "level": 0, "x": 0, "y": 0}
    fields |= {"w": w, "h": h, "nbytes": nbytes, "live": 0}
    try:
        message, pixels = unpack([msgspec.msgpack.encode(fields), bytes(length)])
    except ProtocolError:
        return
    assert isinstance(message, Viewed)
    assert pixels is not None
    assert len(pixels) == 4 * w * h


GREEDY = {
    "array of 2**32": b"\xdd\xff\xff\xff\xff",
    "map of 2**32": b"\xdf\xff\xff\xff\xff",
    "text of 2**32": b"\x81\xa4type\xdb\xff\xff\xff\xff",
    "binary of 2**32": b"\x81\xa4type\xc6\xff\xff\xff\xff",
    "extension of 2**32": b"\x81\xa4type\xc9\xff\xff\xff\xff\x05",
    "deep": b"\x91" * MAX_HEADER_BYTES,
    "deep in an unknown key": b"\x82\xa4type\xa4ping\xa1x" + b"\x91" * 8000,
    "many empty arrays": b"\x82\xa4type\xa4ping\xa1x\xdc\x1f\x00" + b"\x90" * 0x1F00,
    "many empty maps as ranges": b"\x84\xa4type\xa4drop\xa6ranges\xdc\x1f\x00" + b"\x80" * 0x1F00,
    "many short texts": b"\x82\xa4type\xa4ping\xa1x\xdc\x0f\x00" + b"\xa1a" * 0xF00,
}


@pytest.mark.parametrize("data", GREEDY.values(), ids=GREEDY)
def test_no_header_allocates_much(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack([data])
    tracemalloc.start(1)
    try:
        with pytest.raises(ProtocolError):
            unpack([data])
        assert tracemalloc.get_traced_memory()[1] < MOST_ALLOCATED
    finally:
        tracemalloc.stop()
