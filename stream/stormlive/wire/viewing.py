"""The messages of viewers: what they ask for, and what they are shown and told."""

import math
from typing import Annotated, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stormlive.wire.fields import (
    CanvasName,
    Coding,
    Gauge,
    Lane,
    Limits,
    Nbytes,
    Packing,
    Picture,
    Region,
    RunState,
    Seq,
    Shape,
)
from stormlive.wire.text import Text
from stormlive_sim.errors import InputError

MAX_CANVASES = 64  # of one run; their names fit one STATUS
MAX_VIEW_BYTES = 64 * 2**20  # of a picture
MAX_TOKEN_BYTES = 64
CONTRAST_PERCENTILES = (50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 100.0)

# The limits of a whole picture's automatic contrast with each of `CONTRAST_PERCENTILES`.
Contrast: TypeAlias = Annotated[
    tuple[Limits, ...], Meta(min_length=len(CONTRAST_PERCENTILES), max_length=len(CONTRAST_PERCENTILES))
]


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
    accept: Packing | UnsetType = UNSET  # how the answer may be packed
    contrast: bool | UnsetType = UNSET  # whether the answer is to have that of the whole picture


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


class Viewed(msgspec.Struct, tag="viewed", frozen=True, kw_only=True):
    """Header of the answer to VIEW; the second part is (h, w) float32, little-endian, `nbytes` before it is packed."""

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
    coding: Coding | UnsetType = UNSET  # how the second part is packed
    contrast: Contrast | UnsetType = UNSET  # of the whole picture at this level, where it is known
    judgement: Judgement | UnsetType = UNSET  # of that canvas, of a run that has several

    def __post_init__(self) -> None:
        if self.nbytes != self.w * self.h * 4:
            raise InputError(f"nbytes is {self.nbytes}, but {self.w} × {self.h} float32 takes another number")
        for black, white in self.contrast or ():
            if not -math.inf < black < white < math.inf:
                raise InputError(f"black must be less than white, got {black} and {white}")


class Steer(msgspec.Struct, tag="steer", frozen=True, kw_only=True):
    """Frames are to be computed in a region only from now on, or all over again."""

    request: Seq
    run: UUID
    region: Region | None
    token: Annotated[bytes, Meta(max_length=MAX_TOKEN_BYTES)] = b""  # what START's `steer` is the SHA-256 of


class Steered(msgspec.Struct, tag="steered", frozen=True, kw_only=True):
    """Answer to STEER: the region in which frames are computed from now on, which may be a little larger."""

    request: Seq
    run: UUID
    region: Region | None


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
    judgement: Judgement | UnsetType = UNSET  # of several canvases the worst
    camera_per_s: float | UnsetType = UNSET  # frames handed to the hook, while frames come live
    region: Region | UnsetType = UNSET  # outside of which nothing is computed now
