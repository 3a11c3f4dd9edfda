"""Pictures on their way to viewers far away: the same at the other end, and no bytes make it allocate more."""

import tracemalloc
import zlib
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from msgspec import UNSET

import fake_engine as fake
from served import Closed, make_hook, movie
from stormlive.server.loop import Server
from stormlive.wire.client import LiveClient
from stormlive.wire.codec import ProtocolError, encode, unpack
from stormlive.wire.packing import packed, picture_of
from stormlive.wire.viewing import MAX_VIEW_BYTES, Viewed


def header(w: int, h: int, coding: object = "zlib") -> Viewed:
    return Viewed(
        request=1,
        run=UUID(int=1),
        picture="canvas",
        level=0,
        x=0,
        y=0,
        w=w,
        h=h,
        nbytes=4 * w * h,
        live=1,
        coding=coding,
    )


VALUES = st.floats(-(2.0**120), 2.0**120, width=32) | st.sampled_from([np.inf, -np.inf, np.nan])


@given(arrays(np.float32, st.tuples(st.integers(0, 20), st.integers(0, 20)), elements=VALUES))
def test_a_picture_comes_out_as_it_went_in(picture: np.ndarray) -> None:
    h, w = picture.shape
    rounded = packed(picture, "zlib-bf16")
    if rounded is not None:
        shown = picture_of(header(w, h), rounded)
        np.testing.assert_allclose(shown, picture, rtol=2**-8, atol=1e-38)
    data = packed(picture, "zlib")
    if data is None:
        assert (picture_of(header(w, h, UNSET), picture.tobytes()) == picture).all() or np.isnan(picture).any()
        return
    message, part = unpack([encode(header(w, h)), data])
    assert picture_of(message, part).tobytes() == picture.tobytes()


def test_a_sparse_picture_is_a_fraction_of_its_size() -> None:
    canvas = np.zeros((512, 512), np.float32)
    generator = np.random.default_rng(0)
    canvas[generator.integers(0, 512, 10_000), generator.integers(0, 512, 10_000)] = generator.random(10_000)
    assert len(packed(canvas, "zlib")) < canvas.nbytes / 8
    assert len(packed(canvas, "zlib-bf16")) < 0.6 * len(packed(canvas, "zlib"))


@pytest.mark.parametrize(
    ("w", "h", "data"),
    [
        (8, 8, b"not zlib"),
        (8, 8, zlib.compress(bytes(255))),
        (8, 8, zlib.compress(bytes(257))),
        (8, 8, zlib.compress(bytes(256))[:-1]),
        (8, 8, zlib.compress(bytes(256)) + b"more"),
        (8, 8, b""),
        (4, 4, zlib.compress(bytes(2**26), 9)),
        (65_536, 65_536, zlib.compress(bytes(2**20))),
    ],
    ids=["no zlib", "too short", "too long", "cut off", "more behind it", "nothing", "a bomb", "a giant"],
)
def test_bytes_that_are_not_the_picture_are_refused_before_they_take_memory(w: int, h: int, data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            picture_of(header(w, h), data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(ProtocolError, match=str(MAX_VIEW_BYTES)):
        picture_of(header(65_536, 65_536, UNSET), data)
    with pytest.raises(ProtocolError, match="the header says"):
        unpack([encode(header(4, 4)), bytes(65)])


def test_viewers_who_ask_for_it_get_it_smaller_and_others_as_ever(server: Server, closed: Closed) -> None:
    frames = movie(3, shape=(64, 64))
    frames[:, :, 8:] = 100
    hook = make_hook(server.address)
    for frame in frames:
        hook(frame)
    assert hook.close().complete
    canvas = fake.direct_canvas(frames)
    for compressed, coding in ((True, "zlib"), (False, UNSET), (None, UNSET)):
        with LiveClient(server.address, compressed=compressed) as client:
            found, picture = client.view("canvas")
            assert found.coding == coding
            assert (picture == canvas).all()
            _, coarse = client.view("canvas", rounded=True)
            np.testing.assert_allclose(coarse, canvas, rtol=2**-8)
            assert bool(compressed) is bool((coarse != canvas).any())
            assert client.view("errors") is None
