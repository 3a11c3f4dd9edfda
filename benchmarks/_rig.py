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
from stormlive.wire.messages import Calibration

FREE_PORT = "tcp://127.0.0.1:0"
NULL_SERVER = Path(__file__).with_name("_null_server.py")


class RingCamera:
    """Frames of shot noise from a ring that was drawn beforehand: costs no more than a copy."""

    def __init__(self, side: int) -> None:
        draw = np.random.default_rng(0)
        self._ring = draw.poisson(40, (32, side, side)).astype(np.uint16) + np.uint16(100)
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


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """Where a server listens, and its process."""

    address: str
    pid: int


@contextmanager
def livenet_server(out: Path) -> Iterator[RunningServer]:
    """Run the product's server with its network."""
    settings = ServerSettings(bind=FREE_PORT, model="livenet", device="auto", out=out)
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
    outbox_mb: float = 256,
    on_progress: Callable[[AcquisitionProgress, int], None] | None = None,
) -> AcquisitionReport:
    """Acquire in a process of its own; `on_progress` also gets its process id."""
    calibration = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=exposure_ms)
    hook = None
    if address is not None:
        hook = HookSettings(address=address, calibration=calibration, name="benchmark", outbox_mb=outbox_mb)
    process = AcquisitionProcess(
        AcquisitionSettings(n_frames=n_frames, exposure_ms=exposure_ms, camera=partial(RingCamera, side), out=out),
        hook=hook,
    )

    def tell(progress: AcquisitionProgress) -> None:
        if on_progress is not None:
            on_progress(progress, process.pid or 0)

    report = process.run(tell)
    if report.failure is not None or report.result is None:
        raise SystemExit(f"the acquisition failed: {report.failure}")
    return report
