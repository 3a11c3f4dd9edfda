"""What an acquisition is asked for, how far it is, and how it ended: plain data, picklable."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from stormlive.acquire.report import HookProgress, HookReport
from stormlive.wire.calibration import Calibration
from stormlive.wire.region import LEAST_PX
from stormlive.wire.run_name import check_run_name
from stormlive_sim.camera import Camera
from stormlive_sim.errors import InputError

Region: TypeAlias = tuple[int, int, int, int]
Phase: TypeAlias = Literal["starting", "acquiring", "finishing"]


def check_roi(roi: Region, shape: tuple[int, int]) -> None:
    """Raise an InputError unless a region (x, y, width, height) is large enough and in the camera's picture (Y, X)."""
    x, y, width, height = roi
    rows, columns = shape
    is_small = width < min(LEAST_PX, columns) or height < min(LEAST_PX, rows)
    if is_small or x < 0 or y < 0 or x + width > columns or y + height > rows:
        raise InputError(
            f"the ROI {x},{y},{width},{height} {'is too small' if is_small else 'does not lie'} in the camera's "
            f"picture of {columns}x{rows} pixels: of X,Y,WIDTH,HEIGHT, X + WIDTH may be {columns} at most, Y + HEIGHT "
            f"{rows}, and no side below {LEAST_PX}"
        )


@dataclass(frozen=True, kw_only=True)
class AcquisitionSettings:
    """One time series, as fast as the camera goes, on a simulated camera or on a microscope.

    Attributes
    ----------
    n_frames
        Frames to acquire.
    exposure_ms
        Exposure time.
    camera
        Builds the simulated camera, in the process that acquires; a module-level function, or a
        `functools.partial` of one, travels there.
    mm_config
        Instead of `camera`: a Micro-Manager configuration file.
    mm_dir
        Where the device adapters lie that `mm_config` names, a Micro-Manager folder; by default only those of
        ``mm-test-adapters`` (DemoCamera) are at hand.
    roi
        ``(x, y, width, height)`` in binned pixels, or None for the whole sensor.
    binning
        Sensor pixels per pixel, along each edge.
    pixel_size_nm
        Pixel size that the simulated core reports, before binning; a microscope's own is not touched.
    out
        Folder for the raw data, an NDTiff dataset; None saves nothing.
    name
        Prefix of the dataset's folder.
    buffer_mb
        Size of the core's circular buffer in MiB; None takes half a second of frames, within limits.
    stall_timeout_s
        End an acquisition that brings no frame for so long, beyond two exposures.
    """

    n_frames: int
    exposure_ms: float
    camera: Callable[[], Camera] | None = None
    mm_config: Path | None = None
    mm_dir: Path | None = None
    roi: Region | None = None
    binning: int = 1
    pixel_size_nm: float | None = None
    out: Path | None = None
    name: str = "raw"
    buffer_mb: int | None = None
    stall_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if (self.camera is None) == (self.mm_config is None):
            raise InputError(
                "expected a simulated camera or a Micro-Manager configuration file, got "
                f"{'neither' if self.camera is None else 'both'}; give one of them"
            )
        if self.n_frames < 1:
            raise InputError(f"expected at least 1 frame to acquire, got {self.n_frames}")
        for name, value in (("exposure_ms", self.exposure_ms), ("stall_timeout_s", self.stall_timeout_s)):
            if not 0 < value < float("inf"):
                raise InputError(f"expected {name} above 0, got {value}")
        if self.binning < 1:
            raise InputError(f"expected a binning of at least 1, got {self.binning}")
        check_run_name(self.name)

    @property
    def patience_s(self) -> float:
        """How long to wait for a frame."""
        return self.stall_timeout_s + 2 * self.exposure_ms / 1000


@dataclass(frozen=True, kw_only=True)
class HookSettings:
    """The live picture that an acquisition feeds; see `StreamHook`."""

    address: str
    calibration: Calibration
    name: str = "run"
    outbox_mb: float = 256
    keys: Path | None = None
    region: Region | None = None
    token: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class AcquisitionProgress:
    """How far an acquisition is.

    Attributes
    ----------
    phase
        ``starting`` (loading devices), ``acquiring``, ``finishing`` (the live picture catches up).
    seen
        Frames that came out of the core.
    saved
        Frames in the dataset.
    backlog
        Frames that wait in the core's circular buffer.
    hook
        What the live picture has of them; None without one.
    """

    phase: Phase = "starting"
    seen: int = 0
    saved: int = 0
    backlog: int = 0
    hook: HookProgress | None = None


@dataclass(frozen=True, kw_only=True)
class AcquisitionResult:
    """How an acquisition ended.

    Attributes
    ----------
    seen, saved
        Frames that came out of the core, frames in the dataset.
    dataset
        The NDTiff folder; None when nothing was saved.
    seconds
        From the first frame to the end, saving included.
    frames_per_s
        Rate from the first frame to the last; 0 for fewer than two frames.
    stopped
        Whether it was ended early on request.
    reported_pixel_size_nm
        What Micro-Manager's own calibration says, binning included; None where it has none.
    """

    seen: int
    saved: int
    dataset: Path | None
    seconds: float
    frames_per_s: float
    stopped: bool
    reported_pixel_size_nm: float | None = None


@dataclass(frozen=True, kw_only=True)
class AcquisitionReport:
    """How an acquisition ended, and what the live picture has of it.

    Attributes
    ----------
    result
        The acquisition itself; None when it did not begin or its process died.
    hook
        The live picture's account; None without a hook, or when the process died.
    failure
        Why it ended badly, on one line; None when it ended well or on request.
    """

    result: AcquisitionResult | None
    hook: HookReport | None
    failure: str | None


class AcquisitionError(InputError):
    """The acquisition ended badly; one line says why and what is saved.

    Attributes
    ----------
    result : AcquisitionResult or None
        What there is nevertheless.
    stuck : bool
        Micro-Manager's threads do not end: the process must be left the hard way.
    """

    def __init__(self, message: str, result: AcquisitionResult | None = None, *, stuck: bool = False) -> None:
        super().__init__(message)
        self.result = result
        self.stuck = stuck
