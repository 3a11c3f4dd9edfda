"""What the server asks of the engine that reconstructs and of whoever writes a finished run's files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stormlive.output.growth import Growth
from stormlive.output.judgement import JudgementRecord
from stormlive.output.tables import Mark, Sink
from stormlive.server.contrast import Contrasts
from stormlive.server.ledger import Ledger
from stormlive.server.run_table import RunTable
from stormlive.wire.calibration import Calibration
from stormlive.wire.fields import Region
from stormlive.wire.messages import Start
from stormlive_sim.routes import Route

if TYPE_CHECKING:
    from stormlive.server.watch import Watch


class Reconstruction(Protocol):
    """The canvas of a run's frames of one route. All calls come from the server's engine thread."""

    @property
    def context(self) -> int:
        """Frames either side that it sees of each one: 0 or 1."""

    @property
    def upsampling(self) -> int:
        """Canvas pixels along a camera pixel's side."""

    @property
    def model_name(self) -> str:
        """The weights that compute it, for people."""

    def add(
        self,
        frames: NDArray[Any],
        sink: Sink | None = None,
        own: slice = slice(None),
        *,
        region: Region | None = None,
    ) -> None:
        """Add the `own` ones of frames (B, Y, X), camera pixel type, ADU; on return their increment is in the canvas.

        The others are neighbours. With a `region` (see `computed_region`) it is that of these pixels alone, as if the
        camera had no others. `sink`, where there is one, has got their localizations by then, frame by frame; `frame`
        is the index in `frames[own]`.
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

    def open(self, shape: tuple[int, int], calibration: Calibration, *, beside: int = 0) -> Reconstruction:
        """Return an empty canvas for frames (Y, X), `beside` others of the same run.

        InputError when camera and model contradict, or the memory does not suffice for copies of them all.
        """


@dataclass(kw_only=True, eq=False)
class Canvas:
    """One of a run's canvases.

    Attributes
    ----------
    table
        Takes its localizations.
    route
        Of its frames; None before the first one.
    name
        That of its route; empty before the first frame.
    n_frames
        Frames that it holds.
    contrasts
        Of its pictures.
    watch
        What the server's judge notes; None where it has not (yet) looked.
    growth
        How it grew, or why that is not kept: `no_growth`.
    judgement
        How good it seemed while it grew, once the run has ended; and then, where the sample moved, `corrected`: it
        without the drift.
    """

    reconstruction: Reconstruction
    table: RunTable | None
    route: Route | None = None
    name: str = ""
    n_frames: int = 0
    contrasts: Contrasts = field(default_factory=Contrasts)
    watch: "Watch | None" = None
    growth: Growth | None = None
    no_growth: str = "the server did not judge the picture while it grew"
    judgement: JudgementRecord | None = None
    corrected: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that has ended: what it was, what became of its frames, and how fast it went.

    ``exit_status`` is ``"ok"`` or says on one line what ended the run early. Latency is the time from the
    hook to the canvas, over the run's last live frames; None when none arrived. ``started_at`` is of the machine's
    clock, ``duration_s`` of the monotonic one and, where a server took the run up again, of each one's share.
    `judgement` is that of all its canvases.
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
    judgement: JudgementRecord | None = None


Finish: TypeAlias = Callable[[FinishedRun, Sequence[Canvas]], str | None]


class OpenTable(Protocol):
    """Makes the tables of a run."""

    def __call__(self, start: Start, name: str = "", mark: Mark | None = None, /) -> RunTable | None:
        """Return a table for the canvas of that `name`, or go on with it at `mark`; None when there is to be none.

        A run's first call is for its first canvas, which has no name yet when the run starts.
        """


def no_table(_start: Start, _name: str = "", _mark: Mark | None = None) -> None:
    """Be the `OpenTable` of a server that writes none."""
