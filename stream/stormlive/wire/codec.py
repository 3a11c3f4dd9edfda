"""Bytes to messages and back, without sockets.

Every limit is checked before anything is allocated for the content, and whatever is wrong with bytes from
outside becomes a `ProtocolError`.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from stormlive.ranges import Ranges
from stormlive.wire.fields import MAX_SPANS, Axes
from stormlive.wire.frame import WIRE_DTYPES, Frame, dtype_name
from stormlive.wire.messages import PROTOCOL, FrameHeader, Message
from stormlive.wire.text import Text, one_line
from stormlive.wire.viewing import Viewed
from stormlive_sim.errors import InputError

MAX_HEADER_BYTES = 8 * 1024
# What a REFER takes besides its axes, with something to spare.
_REFER_BYTES = 256

Buffer: TypeAlias = bytes | bytearray | memoryview


class ProtocolError(InputError):
    """Bytes or messages that `PROTOCOL` does not allow; `code` is the code of the ERROR that answers them."""

    def __init__(self, message: str, *, code: str = "malformed") -> None:
        super().__init__(one_line(message))
        self.code = code


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class _Greeting(msgspec.Struct):
    """What HELLO keeps in every version, so that versions can tell each other apart."""

    type: Literal["hello"]
    version: Text


_greeting_decoder = msgspec.msgpack.Decoder(_Greeting)


def check_version(version: str) -> None:
    """Refuse a peer that speaks another major version."""
    if not re.fullmatch(re.escape(PROTOCOL) + r"(\.\d+)?", version):
        raise ProtocolError(
            f"the other side speaks {one_line(version, 40)!r}, this one {PROTOCOL!r}: "
            "install the same stormlive on both",
            code="version",
        )


def encode(message: Message) -> bytes:
    """Return the header's bytes."""
    data = _encoder.encode(message)
    if len(data) > MAX_HEADER_BYTES:
        raise ProtocolError(f"{type(message).__name__} takes {len(data)} bytes, a header at most {MAX_HEADER_BYTES}")
    return data


def decode(data: Buffer) -> Message:
    """Return the message of a header; ProtocolError when it is none."""
    if len(data) > MAX_HEADER_BYTES:
        raise ProtocolError(f"a header has at most {MAX_HEADER_BYTES} bytes, got {len(data)}")
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        _refuse_other_greeting(data)
        raise ProtocolError(f"a message of {PROTOCOL} was expected: {error}") from None


def _refuse_other_greeting(data: Buffer) -> None:
    """Blame the version, not the content, when a HELLO of another version does not decode."""
    try:
        greeting = _greeting_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return
    check_version(greeting.version)


def unpack(parts: Sequence[Buffer]) -> tuple[Message, Buffer | None]:
    """Return the message and, for FRAME and VIEWED, the checked pixel bytes: none of a frame in shared memory."""
    if not 1 <= len(parts) <= 2:
        raise ProtocolError(f"a message has one part, or two with pixels, got {len(parts)}")
    message = decode(parts[0])
    if not isinstance(message, FrameHeader | Viewed):
        if len(parts) != 1:
            raise ProtocolError(f"{type(message).__name__} has one part, got 2")
        return message, None
    if len(parts) != 2:
        raise ProtocolError(f"{type(message).__name__} needs its pixels as second part, got none")
    nbytes = 0 if isinstance(message, FrameHeader) and message.at is not UNSET else message.nbytes
    # What is packed is smaller than what it is of, or it would not have been packed.
    if len(parts[1]) != nbytes and not (isinstance(message, Viewed) and message.coding and len(parts[1]) < nbytes):
        raise ProtocolError(f"the pixel part has {len(parts[1])} bytes, the header says {nbytes}")
    return message, parts[1]


def frame_header(frame: Frame, at: int | UnsetType = UNSET) -> FrameHeader:
    """Return the header that travels with the frame's pixels, or tells where `at` in shared memory they are."""
    return FrameHeader(
        run=frame.run,
        seq=frame.seq,
        t_ns=frame.t_ns,
        dtype=dtype_name(frame.pixels.dtype),
        shape=(frame.pixels.shape[0], frame.pixels.shape[1]),
        nbytes=frame.pixels.nbytes,
        axes=frame.axes,
        replay=frame.replay,
        at=at,
    )


def frame_of(header: FrameHeader, pixels: Buffer) -> Frame:
    """Return the frame of a header and its pixel part, as `unpack` gave them; the pixels are not copied."""
    image: NDArray[Any] = np.frombuffer(pixels, WIRE_DTYPES[header.dtype]).reshape(header.shape)
    return Frame(run=header.run, seq=header.seq, t_ns=header.t_ns, axes=header.axes, pixels=image, replay=header.replay)


def span_groups(ranges: Ranges) -> list[tuple[tuple[int, int], ...]]:
    """Cut ranges into groups that each fit one message."""
    spans = ranges.to_list()
    return [tuple(spans[at : at + MAX_SPANS]) for at in range(0, len(spans), MAX_SPANS)]


def how_many_references_fit(axes: Sequence[Axes]) -> int:
    """Return how many of these axes one REFER takes: at least one, whose size the outbox has limited."""
    sizes = itertools.accumulate(len(_encoder.encode(one)) for one in axes)
    return max(1, sum(size <= MAX_HEADER_BYTES - _REFER_BYTES for size in sizes))
