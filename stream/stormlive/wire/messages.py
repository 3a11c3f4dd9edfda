"""The messages of ``stormlive-1``: typed and bounded.

A message is one msgpack header; FRAME and VIEWED carry exactly one more part, the raw pixels.
"""

import math
import re
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stormlive.wire.frame import WIRE_DTYPES, DtypeName
from stormlive_sim.errors import InputError

PROTOCOL = "stormlive-1"
MAX_FINAL_SPANS = 96  # of either kind, beside FINAL's texts
MAX_SPANS = 256  # per message; 256 pairs of 9-byte integers stay below the header limit
MAX_SIDE = 65_536
MAX_TEXT = 300
MAX_CANVASES = 64  # of one run; their names fit one STATUS
MAX_REFERENCES = 32  # frames that one REFER names; their axes stay below the header limit

Seq: TypeAlias = Annotated[int, Meta(ge=0, lt=2**48)]
Nbytes: TypeAlias = Annotated[int, Meta(ge=0, lt=2**40)]
ClockNs: TypeAlias = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Side: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Shape: TypeAlias = tuple[Side, Side]
Port: TypeAlias = Annotated[int, Meta(ge=1, le=65_535)]
Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT)]
LongText: TypeAlias = Annotated[str, Meta(max_length=1024)]
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
Gauge: TypeAlias = Literal["unknown", "green", "amber", "red"]
RunState: TypeAlias = Literal["idle", "opening", "running", "silent", "backfill", "finishing", "finished"]
Mode: TypeAlias = Literal["account", "latest", "block"]
Lane: TypeAlias = Literal["tcp", "shm"]
NONCE_BYTES = 16


def one_line(text: object, most: int = MAX_TEXT) -> str:
    """Return `text` on one line without control characters, cut to `most` bytes of UTF-8."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    data = line.encode()
    return line if len(data) <= most else data[: most - 3].decode(errors="ignore") + "…"


_CALIBRATION_LIMITS = {
    "pixel_size_nm": (1.0, 10_000.0, "nanometres per camera pixel in the sample"),
    "baseline_adu": (0.0, 65_535.0, "what the camera gives in the dark"),
    "photons_per_adu": (1e-4, 1e4, "photons per camera count"),
    "exposure_ms": (1e-3, 600_000.0, "milliseconds per frame"),
}


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What turns a camera's counts into photons and its pixels into nanometres."""

    pixel_size_nm: float
    baseline_adu: float
    photons_per_adu: float
    exposure_ms: float

    def __post_init__(self) -> None:
        for name, (low, high, meaning) in _CALIBRATION_LIMITS.items():
            given = getattr(self, name)
            try:
                number = math.nan if isinstance(given, (str, bool)) else float(given)
            except (TypeError, ValueError):
                number = math.nan
            if not low <= number <= high:
                came = one_line(repr(given), 40)
                raise InputError(f"{name} must be a number from {low:g} to {high:g} ({meaning}), got {came}")
            msgspec.structs.force_setattr(self, name, number)


MAX_NAME = 100
MAX_NAME_BYTES = 200
_RUN_NAME = re.compile(r"""(?!\.)[^/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]{1,100}(?<![. ])""")
# Windows opens a device under these names, whatever extension follows.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?=\.|$)", re.IGNORECASE)


def check_run_name(name: object) -> str:
    """Return `name`; InputError unless it can be a folder's name on every system."""
    if not isinstance(name, str) or not _RUN_NAME.fullmatch(name) or len(name.encode()) > MAX_NAME_BYTES:
        raise InputError(
            f"a run's name must have 1 to {MAX_NAME} characters and at most {MAX_NAME_BYTES} bytes, none of "
            f'/ \\ : * ? " < > |, no leading dot, no dot or space at its end, got {one_line(repr(name), 120)}'
        )
    if _DEVICE.match(name):
        raise InputError(f"a run's name must not be that of a device of Windows, got {one_line(repr(name))}")
    return name


def run_name_from(text: str) -> str:
    """Return the name that a run can have after any `text`, such as the name of a folder."""
    line = re.sub(r"""[/\\:*?"<>|]""", "_", one_line(text, 4 * len(text) + 3)).lstrip(". ")
    name = _DEVICE.sub(lambda device: device[0].rstrip() + "_", line) if _DEVICE.match(line) else line
    short = name[:MAX_NAME].encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    return short.rstrip(". ") or "run"


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
        _check_spans(self.have)


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
            _check_spans(spans)


class Drop(msgspec.Struct, tag="drop", frozen=True, kw_only=True):
    """Frames that the sender will not send, and why."""

    run: UUID
    ranges: Spans
    reason: Text

    def __post_init__(self) -> None:
        _check_spans(self.ranges)


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
        _check_spans(self.missing)


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
            _check_spans(spans)


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


class View(msgspec.Struct, tag="view", frozen=True, kw_only=True):
    """A viewer asks for a rectangle, in pixels of the given level; it is clipped to the picture."""

    request: Seq
    run: UUID | None = None  # None: the run that started last
    picture: Picture = "canvas"
    level: Annotated[int, Meta(ge=0, le=16)] = 0  # the canvas summed over 2**level pixels a side
    x: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    y: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    w: Annotated[int, Meta(ge=1, lt=2**31)] = 2**31 - 1
    h: Annotated[int, Meta(ge=1, lt=2**31)] = 2**31 - 1
    canvas: CanvasName | UnsetType | None = UNSET  # one of STATUS's names; otherwise the canvas that was begun last


class Viewed(msgspec.Struct, tag="viewed", frozen=True, kw_only=True):
    """Header of the answer to VIEW; the second part is (h, w) float32, little-endian."""

    request: Seq
    run: UUID
    picture: Picture
    level: Annotated[int, Meta(ge=0, le=16)]
    x: Annotated[int, Meta(ge=0, lt=2**31)]
    y: Annotated[int, Meta(ge=0, lt=2**31)]
    w: Annotated[int, Meta(ge=0, lt=2**31)]
    h: Annotated[int, Meta(ge=0, lt=2**31)]
    nbytes: Nbytes
    live: Seq  # frames that were in the canvas
    canvas: CanvasName | UnsetType = UNSET  # of a run that has several, which one it is

    def __post_init__(self) -> None:
        if self.nbytes != self.w * self.h * 4:
            raise InputError(f"nbytes is {self.nbytes}, but {self.w} × {self.h} float32 takes another number")


class Judgement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the server thinks of a run's picture; whatever it could not find out yet is left out."""

    frames: Seq = 0  # of the canvas that it is about
    canvas: CanvasName = ""  # which one, where the run has several
    gauge: Gauge = "unknown"  # whether the frames are like those that the model was trained on
    sentence: Text = ""  # why the gauge shows what it shows, and what to do
    psf_sigma_nm: float | None = None
    photons: float | None = None  # of an emitter in a frame
    background: float | None = None  # photons per camera pixel
    density_per_um2: float | None = None  # emitters in a frame, where the structure is
    rse: float | None = None  # photons: root mean square error of the blurred canvas against the widefield
    rsp: float | None = None  # and their correlation, at most 1
    frc_nm: float | None = None
    gain_percent_per_1000: float | None = None  # by how much 1000 more frames would improve it
    converged: bool | None = None
    drift_nm: tuple[float, float] | None = None  # (x, y) since the run began
    calibration: Text = ""  # what the stream says of baseline and photons per ADU


class Status(msgspec.Struct, tag="status", frozen=True, kw_only=True):
    """What the server publishes about a run about five times a second; state ``idle`` when there is none."""

    state: RunState
    model: Text
    device: Text
    run: UUID | None = None
    name: Text = ""
    exit_status: Text | None = None
    received: Seq = 0
    live: Seq = 0
    replayed: Seq = 0
    durable: Seq = 0
    dropped: Seq = 0
    expected: Seq | None = None
    frames_per_s: float = 0.0
    backlog: Seq = 0
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    shape: Shape | None = None
    upsampling: int | None = None
    pixel_size_nm: float | None = None
    notice: Text = ""  # what a user should know, such as a full disk
    lane: Lane | UnsetType = UNSET  # by which the run's frames come
    # Their names where there are several, in the order in which they were begun.
    canvases: Annotated[tuple[CanvasName, ...], Meta(max_length=MAX_CANVASES)] | UnsetType = UNSET
    judgement: Judgement | UnsetType = UNSET
    camera_per_s: float | UnsetType = UNSET  # frames handed to the hook, while frames come live


def _check_spans(spans: tuple[tuple[int, int], ...]) -> None:
    for first, last in spans:
        if first > last:
            raise InputError(f"a range runs from first to last, got {first} to {last}")


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
    | Status
)
