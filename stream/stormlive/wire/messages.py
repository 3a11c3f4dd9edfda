"""The messages of ``stormlive-1``: typed and bounded.

A message is one msgpack header; FRAME and VIEWED carry exactly one more part, the raw pixels.
"""

from typing import Annotated, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stormlive.wire.calibration import Calibration
from stormlive.wire.fields import (
    Axes,
    ClockNs,
    Counts,
    Lane,
    Mode,
    Nbytes,
    Port,
    Region,
    Seq,
    Shape,
    Spans,
    check_spans,
)
from stormlive.wire.frame import WIRE_DTYPES, DtypeName
from stormlive.wire.run_name import check_run_name
from stormlive.wire.text import LongText, Text
from stormlive.wire.viewing import Status, Steer, Steered, View, Viewed
from stormlive_sim.errors import InputError

PROTOCOL = "stormlive-1"
MAX_FINAL_SPANS = 96  # of either kind, beside FINAL's texts
MAX_REFERENCES = 32  # frames that one REFER names; their axes stay below the header limit
NONCE_BYTES = 16


class SegmentOffer(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of a sender that a server on the same machine may read."""

    name: Annotated[str, Meta(max_length=64)]
    nbytes: Nbytes
    # What it begins with, so that the server knows that it sees this one and no namesake.
    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]


class Hello(msgspec.Struct, tag="hello", frozen=True, kw_only=True):
    """First message of every connection to the data port."""

    version: Text
    role: Literal["sender", "viewer"] = "sender"
    run: UUID | None = None  # the sender's run, so that WELCOME can tell what is kept of it
    segment: SegmentOffer | UnsetType = UNSET


class Welcome(msgspec.Struct, tag="welcome", frozen=True, kw_only=True, omit_defaults=True):
    """The server's answer to HELLO."""

    version: Text
    epoch: Text  # changes with every start of a server: another epoch has no more of our frames than `have` names
    credit_bytes: Nbytes
    max_frame_bytes: Nbytes
    heartbeat_ms: Annotated[int, Meta(ge=10, le=60_000)]
    clock_ns: ClockNs
    model: Text
    model_pixel_size_nm: float
    # (least, greatest) camera pixels; empty: the server does not tell, and START decides
    model_takes_nm: Annotated[tuple[tuple[float, float], ...], Meta(max_length=16)] = ()
    view_port: Port
    status_port: Port
    have: Spans = ()  # frames of HELLO's run that this server will still have if it is killed
    lane: Lane = "tcp"  # ``shm``: the server sees HELLO's segment

    def __post_init__(self) -> None:
        check_spans(self.have)


class Start(msgspec.Struct, tag="start", frozen=True, kw_only=True):
    """Opens a run, or takes it up again on a new connection."""

    run: UUID
    name: str
    dtype: DtypeName
    shape: Shape  # (Y, X)
    calibration: Calibration
    expected: Seq | None = None
    dataset: LongText | None = None
    mode: Mode = "account"
    region: Region | UnsetType = UNSET  # in which alone frames are computed to begin with
    steer: Annotated[bytes, Meta(min_length=32, max_length=32)] | UnsetType = UNSET  # SHA-256 of STEER's token

    def __post_init__(self) -> None:
        check_run_name(self.name)


class FrameHeader(msgspec.Struct, tag="frame", frozen=True, kw_only=True):
    """Header of a frame; the pixels are the second part."""

    run: UUID
    seq: Seq
    t_ns: ClockNs
    dtype: DtypeName
    shape: Shape
    nbytes: Nbytes
    axes: Axes = {}
    replay: bool = False  # sent after frames that came later
    at: Nbytes | UnsetType = UNSET  # where the pixels are in HELLO's segment; the second part is empty then

    def __post_init__(self) -> None:
        if self.nbytes != self.shape[0] * self.shape[1] * WIRE_DTYPES[self.dtype].itemsize:
            raise InputError(f"nbytes is {self.nbytes}, but shape {self.shape} of {self.dtype} takes another number")


class Refer(msgspec.Struct, tag="refer", frozen=True, kw_only=True):
    """Frames `seq`, `seq` + 1, … that the server is to read from START's dataset, where they have these axes."""

    run: UUID
    seq: Seq
    axes: Annotated[tuple[Axes, ...], Meta(min_length=1, max_length=MAX_REFERENCES)]
    replay: bool = False


class Credit(msgspec.Struct, tag="credit", frozen=True, kw_only=True, omit_defaults=True):
    """Bytes that the sender may send again, and frames that are in the picture now."""

    bytes: Nbytes
    live: Spans = ()
    replayed: Spans = ()
    durable: Spans = ()  # these need not be kept any longer

    def __post_init__(self) -> None:
        for spans in (self.live, self.replayed, self.durable):
            check_spans(spans)


class Drop(msgspec.Struct, tag="drop", frozen=True, kw_only=True):
    """Frames that the sender will not send, and why."""

    run: UUID
    ranges: Spans
    reason: Text

    def __post_init__(self) -> None:
        check_spans(self.ranges)


class End(msgspec.Struct, tag="end", frozen=True, kw_only=True):
    """No more new frames: the run had `n`."""

    run: UUID
    n: Seq
    exit_status: Text


class Report(msgspec.Struct, tag="report", frozen=True, kw_only=True):
    """Answer to START and END: the server asks for the `missing` frames; each is to be sent, referred to or dropped."""

    run: UUID
    missing: Spans = ()
    by_dataset: bool = False  # whether REFER is understood: START's dataset lies on a disk that the server sees

    def __post_init__(self) -> None:
        check_spans(self.missing)


SERVER_STOPPED = "server stopped"
"""The exit status of a run that was open when its server was stopped."""


class Final(msgspec.Struct, tag="final", frozen=True, kw_only=True):
    """The run is closed: what became of its frames and where its files are.

    The ranges are those of `live` and `replayed`, left out where they are more than `MAX_FINAL_SPANS`.
    """

    run: UUID
    frames: Seq
    live: Seq
    replayed: Seq = 0
    missing: Counts
    exit_status: Text
    sentence: LongText
    folder: LongText | None = None
    error: Text | None = None
    live_ranges: Spans = ()
    replayed_ranges: Spans = ()

    def __post_init__(self) -> None:
        for spans in (self.live_ranges, self.replayed_ranges):
            check_spans(spans)


class Ping(msgspec.Struct, tag="ping", frozen=True, kw_only=True):
    """Heartbeat of a sender, with its own clock."""

    clock_ns: ClockNs


class Pong(msgspec.Struct, tag="pong", frozen=True, kw_only=True):
    """Answer to PING: the sender's clock returned, and the server's."""

    ping_ns: ClockNs
    clock_ns: ClockNs


class Error(msgspec.Struct, tag="error", frozen=True, kw_only=True):
    """Something cannot be done; after a fatal one there is no point in trying again."""

    code: Text
    fatal: bool
    message: Text
    request: Seq | None = None


Message: TypeAlias = (
    Hello
    | Welcome
    | Start
    | FrameHeader
    | Refer
    | Credit
    | Drop
    | End
    | Report
    | Final
    | Ping
    | Pong
    | Error
    | View
    | Viewed
    | Steer
    | Steered
    | Status
)
