"""What the server asks of the engine that reconstructs and of whoever writes a finished run's files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stormlive.output.tables import Mark, Sink
from stormlive.server.ledger import Ledger
from stormlive.server.run_table import RunTable
from stormlive.wire.messages import Calibration, Start


class Reconstruction(Protocol):
    """One run's canvas. All calls come from the server's engine thread."""

    @property
    def upsampling(self) -> int:
        """Canvas pixels along a camera pixel's side."""

    @property
    def model_name(self) -> str:
        """The weights that compute it, for people."""

    def add(self, frames: NDArray[Any], sink: Sink | None = None) -> None:
        """Add frames (B, Y, X), camera pixel type, ADU; on return their increment is in the canvas.

        `sink`, where there is one, has got their localizations by then, frame by frame; `frame` is the index in
        `frames`.
        """

    def view(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.float32]:
        """Return (h, w) of the canvas summed over 2**level pixels a side; the rectangle lies in that level.

        A level has ceil(side / 2**level) pixels a side, so that nothing at the edge is left out.
        """

    def widefield(self) -> NDArray[np.float32]:
        """Return the mean of all frames, (Y, X), photons."""

    def last(self) -> NDArray[np.float32]:
        """Return the last frame, (Y, X), photons."""

    @property
    def fingerprint(self) -> str:
        """What decides the canvas of given frames: another one must not go on with it."""

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return copies of all that depends on the frames so far."""

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a snapshot; InputError when it is not one of such a canvas."""


class Engine(Protocol):
    """A model on a device."""

    @property
    def model_name(self) -> str:
        """The model's name, for people."""

    @property
    def pixel_size_nm(self) -> float:
        """The camera pixel that the model was trained for."""

    @property
    def camera_pixels_nm(self) -> tuple[tuple[float, float], ...]:
        """(Least, greatest) camera pixels that it takes."""

    @property
    def device(self) -> str:
        """Where it computes, for people."""

    def open(self, shape: tuple[int, int], calibration: Calibration) -> Reconstruction:
        """Return an empty canvas for frames (Y, X); InputError when camera and model contradict."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that has ended: what it was, what became of its frames, and how fast it went.

    ``exit_status`` is ``"ok"`` or says on one line what ended the run early. Latency is the time from the
    hook to the canvas, over the run's last live frames; None when none arrived. ``started_at`` is of the machine's
    clock, ``duration_s`` of the monotonic one and, where a server took the run up again, of each one's share.
    """

    start: Start
    ledger: Ledger
    exit_status: str
    started_at: datetime
    duration_s: float
    notices: tuple[str, ...]
    frames_per_s: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None


Finish: TypeAlias = Callable[[FinishedRun, Reconstruction], str | None]


class OpenTable(Protocol):
    """Makes the table of a run."""

    def __call__(self, start: Start, mark: Mark | None = None, /) -> RunTable | None:
        """Return the table of a run that starts, or go on with it at `mark`; None when there is to be none."""


def no_table(_start: Start, _mark: Mark | None = None) -> None:
    """Be the `OpenTable` of a server that writes none."""
