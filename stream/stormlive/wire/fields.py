"""What the fields of messages hold, each with its bounds."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from stormlive.wire.text import Text
from stormlive_sim.errors import InputError

MAX_SPANS = 256  # per message; 256 pairs of 9-byte integers stay below the header limit
MAX_SIDE = 65_536

Seq: TypeAlias = Annotated[int, Meta(ge=0, lt=2**48)]
Nbytes: TypeAlias = Annotated[int, Meta(ge=0, lt=2**40)]
ClockNs: TypeAlias = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Side: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Shape: TypeAlias = tuple[Side, Side]
Offset: TypeAlias = Annotated[int, Meta(ge=0, lt=MAX_SIDE)]
Region: TypeAlias = tuple[Offset, Offset, Side, Side]  # x, y, width, height in camera pixels
Port: TypeAlias = Annotated[int, Meta(ge=1, le=65_535)]
Span: TypeAlias = tuple[Seq, Seq]
Spans: TypeAlias = Annotated[tuple[Span, ...], Meta(max_length=MAX_SPANS)]
Axes: TypeAlias = Annotated[
    dict[
        Annotated[str, Meta(max_length=64)],
        Annotated[int, Meta(ge=-(2**62), le=2**62)] | Annotated[str, Meta(max_length=64)],
    ],
    Meta(max_length=16),
]
CanvasName: TypeAlias = Annotated[str, Meta(max_length=64)]
Counts: TypeAlias = Annotated[dict[Text, Seq], Meta(max_length=20)]
Picture: TypeAlias = Literal["canvas", "widefield", "last", "errors", "corrected"]
Limits: TypeAlias = tuple[float, float]  # what is shown as black, and as white
Coding: TypeAlias = Literal["zlib"]
Packing: TypeAlias = Literal["zlib", "zlib-bf16"]  # the second one after rounding to bfloat16
Gauge: TypeAlias = Literal["unknown", "green", "amber", "red"]
RunState: TypeAlias = Literal["idle", "opening", "running", "silent", "backfill", "finishing", "finished"]
Mode: TypeAlias = Literal["account", "latest", "block"]
Lane: TypeAlias = Literal["tcp", "shm"]


def check_spans(spans: tuple[tuple[int, int], ...]) -> None:
    """Refuse ranges that end before they begin, which their type allows."""
    for first, last in spans:
        if first > last:
            raise InputError(f"a range runs from first to last, got {first} to {last}")
