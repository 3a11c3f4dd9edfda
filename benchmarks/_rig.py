"""What the acquisition benchmarks share: a fast camera, servers, one acquisition in its own process."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormlive.acquire.acquisition import (
    AcquisitionProgress,
    AcquisitionReport,
    AcquisitionSettings,
    HookSettings,
)
from stormlive.acquire.process import AcquisitionProcess
from stormlive.server.process import ServerProcess, ServerSettings
from stormlive.wire.calibration import Calibration
from stormlive_sim.camera import Camera

FREE_PORT = "tcp://127.0.0.1:0"
NOBODY = "tcp://127.0.0.1:9"
CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10)
NULL_SERVER = Path(__file__).with_name("_null_server.py")


def blinking_movie(n_frames: int, side: int) -> NDArray[np.uint16]:
    """Return frames (T, Y, X) that `CALIBRATION` fits: eight spots of 1000 photons in each, on 20 a pixel."""
    draw = np.random.default_rng(0)
    rows, columns = np.indices((side, side))
    photons = np.full((n_frames, side, side), 20.0)
    for frame in photons:
        for y, x in draw.uniform(0, side, (8, 2)):
            frame += 1000 / (2 * np.pi * 1.3**2) * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 1.3**2))
    return (CALIBRATION.baseline_adu + draw.poisson(photons) / CALIBRATION.photons_per_adu).astype(np.uint16)


class RingCamera:
    """Frames of shot noise from a ring that was drawn beforehand: costs no more than a copy."""

    def __init__(self, side: int) -> None:
        draw = np.random.default_rng(0)
        n_frames = min(32, max(4, 2**23 // side**2))
        self._ring = draw.poisson(40, (n_frames, side, side)).astype(np.uint16) + np.uint16(100)
        self.shape = (side, side)
        self.bit_depth = 16
        self.n_frames = None

    def render(
        self,
        frame: int,
        x: int,
        y: int,
        w: int,
        h: int,
        binning: int,
        exposure_ms: float,
        out: NDArray[np.uint16],
    ) -> None:
        """Copy a frame of the ring."""
        np.copyto(out, self._ring[frame % len(self._ring), y : y + h, x : x + w])


class FailedError(SystemExit):
    """An acquisition did not come to its end."""


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """Where a server listens, and its process."""

    address: str
    pid: int


@contextmanager
def livenet_server(out: Path, model: str = "livenet") -> Iterator[RunningServer]:
    """Run the product's server with its network, or another model."""
    settings = ServerSettings(bind=FREE_PORT, model=model, device="auto", out=out)
    with ServerProcess(settings) as server:
        yield RunningServer(address=server.address, pid=server.pid or 0)


@contextmanager
def null_server() -> Iterator[RunningServer]:
    """Run the product's server with an engine that computes nothing."""
    process = subprocess.Popen(
        [sys.executable, str(NULL_SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield RunningServer(address=process.stdout.readline().strip(), pid=process.pid)
    finally:
        process.communicate(timeout=60)


def acquire(
    *,
    side: int,
    n_frames: int,
    exposure_ms: float,
    out: Path | None,
    address: str | None,
    camera: Callable[[], Camera] | None = None,
    on_progress: Callable[[AcquisitionProgress, int], None] | None = None,
) -> AcquisitionReport:
    """Acquire in a process of its own, by default from a `RingCamera`; `on_progress` also gets its process id."""
    calibration = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=exposure_ms)
    hook = None
    if address is not None:
        hook = HookSettings(address=address, calibration=calibration, name="benchmark")
    process = AcquisitionProcess(
        AcquisitionSettings(
            n_frames=n_frames, exposure_ms=exposure_ms, camera=camera or partial(RingCamera, side), out=out
        ),
        hook=hook,
    )

    def tell(progress: AcquisitionProgress) -> None:
        if on_progress is not None:
            on_progress(progress, process.pid or 0)

    report = process.run(tell)
    if report.failure is not None or report.result is None:
        raise FailedError(f"the acquisition failed: {report.failure}")
    return report
