"""Frames in hand, from a plain Python loop, into the live picture: it waits where the hook would not."""

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormlive.acquire.connection import PATIENCE_S
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.report import HookReport
from stormlive.wire.calibration import Calibration
from stormlive.wire.messages import SERVER_STOPPED
from stormlive.wire.text import counted
from stormlive.wire.transport import DEFAULT_ADDRESS
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)

_LOOK_S = 0.002


class FrameStream:
    """Sends frames one by one through a hook of its own; leaving the ``with`` block ends the run.

    For frames that can wait: a loop over an array, a file, a simulation. A camera cannot wait: give it the
    `StreamHook`, which never does.

    Parameters
    ----------
    hook
        The run, of mode ``block``.
    patience_s
        How long to wait for a server that does not answer. One that does is only slow: it gets two minutes for a frame.
    stop
        Set it to end a `send` that waits.

    Attributes
    ----------
    report : HookReport or None
        What became of every frame, once the run has ended.
    """

    def __init__(self, hook: StreamHook, *, patience_s: float = 30.0, stop: threading.Event | None = None) -> None:
        self.hook = hook
        self._patience_s = patience_s
        self._stop = stop or threading.Event()
        self._form: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        self._sent = 0
        self._raised = False
        self.report: HookReport | None = None

    def send(self, frame: ArrayLike, axes: Mapping[str, int | str] | None = None) -> None:
        """Hand over the next frame (Y, X), in ADU as the camera gave it; wait while the server has no room.

        `axes` are the frame's coordinates, by default ``{"time": number}``. The frame is copied.

        Raises
        ------
        InputError
            The frame is not 2-D, of pixels that the wire does not carry, or unlike the first; or the server does
            not take the run.
        ConnectionError
            No server answered for `patience_s`, one that answers took no frame for two minutes, or the server has
            ended the run, as when it is stopped.
        """
        image = np.asarray(frame)
        self._check(image)
        waiting_since = time.monotonic()
        live = -1
        while not self.hook.has_room or self.hook.failed is not None:
            self._raise_if_failed()
            if self._stop.wait(_LOOK_S):
                return
            progress = self.hook.progress
            if progress.live != live:
                live, waiting_since = progress.live, time.monotonic()
            patience_s = max(self._patience_s, PATIENCE_S) if progress.connected else self._patience_s
            if time.monotonic() - waiting_since > patience_s:
                why = "the server answers, but its engine hangs, or needs longer than that for a frame"
                raise ConnectionError(
                    f"no frame was taken for {patience_s:g} s: {why if progress.connected else self.hook.trouble}"
                )
        self.hook(image, {"Axes": {"time": self._sent} if axes is None else axes})
        self._sent += 1

    def _raise_if_failed(self) -> None:
        """End the run and raise why, where the server does not take it or has ended it."""
        failed = self.hook.failed
        if failed is None:
            return
        self._raised = True
        if self.hook.ended is None:
            raise InputError(failed)
        report = self.close()
        shown = report.live.count() + report.replayed.count()
        where = "" if report.folder is None else f", in {report.folder}"
        again = "; run `stormlive serve` again and send all of them in a new stream"
        raise ConnectionError(
            f"{failed}; in the picture: {shown} of {counted(report.offered, 'frame')}{where}"
            f"{again if self.hook.ended == SERVER_STOPPED else ''}"
        )

    def close(self, exit_status: str = "ok") -> HookReport:
        """End the run once all that was sent is in the picture; tell what became of every frame."""
        self.report = self.hook.close(exit_status=exit_status)
        if self.report.failed is not None and not self._raised:
            # It came after the last frame, or the caller has left for a reason of his own.
            self._raised = True
            _log.warning("the live picture was ended early: %s", self.report.failed)
        return self.report

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("ok" if error is None else f"aborted: {str(error) or type(error).__name__}")

    def _check(self, image: NDArray[Any]) -> None:
        unsigned = image.dtype.kind == "u" and image.dtype.itemsize <= 2
        if image.ndim != 2 or image.size == 0 or not (unsigned or image.dtype.kind == "f"):
            raise InputError(
                f"expected a frame (Y, X) of uint8, uint16 or float, got shape {image.shape} of {image.dtype}; send "
                "the camera's frames one by one, as it gave them"
            )
        form = (image.shape, image.dtype)
        self._form = self._form or form
        if form != self._form:
            raise InputError(
                f"expected frames of {self._form[0]} {self._form[1]} like the first, got {form[0]} {form[1]}; another "
                "camera or region is another run"
            )


def stream(
    address: str = DEFAULT_ADDRESS,
    *,
    calibration: Calibration | None = None,
    pixel_size_nm: float | None = None,
    baseline_adu: float | None = None,
    photons_per_adu: float | None = None,
    exposure_ms: float | None = None,
    name: str = "run",
    expected: int | None = None,
    dataset: str | None = None,
    keys: Path | str | None = None,
    lane: Literal["auto", "tcp"] = "auto",
    region: tuple[int, int, int, int] | None = None,
    token: bytes | None = None,
) -> FrameStream:
    """Open a run for frames in hand: ``with stormlive.stream(...) as live: live.send(frame)``.

    The parameters are those of `StreamHook`; a server must be there within five seconds.

    Raises
    ------
    InputError
        The calibration is missing, or the server refuses.
    ConnectionError
        No server answers.
    """
    hook = StreamHook(
        address,
        calibration=calibration,
        pixel_size_nm=pixel_size_nm,
        baseline_adu=baseline_adu,
        photons_per_adu=photons_per_adu,
        exposure_ms=exposure_ms,
        name=name,
        mode="block",
        expected=expected,
        dataset=dataset,
        keys=keys,
        lane=lane,
        region=region,
        token=token,
    )
    try:
        hook.check()
    except BaseException:
        hook.close(timeout_s=0.0)
        raise
    return FrameStream(hook)
