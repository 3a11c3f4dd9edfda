"""A server whose engine computes nothing, in a process of its own: what it takes is what the link carries."""

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormlive.output.tables import Sink
from stormlive.wire.calibration import Calibration
from stormlive.wire.fields import Region
from stormlive_sim.errors import InputError

_START_TIMEOUT_S = 60.0


class NoReconstruction:
    """Takes frames and forgets them."""

    context = 0
    upsampling = 1
    model_name = fingerprint = "none"

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape

    def add(
        self,
        frames: NDArray[Any],
        sink: Sink | None = None,
        own: slice = slice(None),
        *,
        region: Region | None = None,
    ) -> None:
        """Do nothing."""

    def view(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.float32]:
        """Return nothing to see."""
        return np.zeros((h, w), np.float32)

    def widefield(self) -> NDArray[np.float32]:
        """Return nothing to see."""
        return np.zeros(self._shape, np.float32)

    def last(self) -> NDArray[np.float32]:
        """Return nothing to see."""
        return np.zeros(self._shape, np.float32)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return nothing to keep."""
        return {}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Do nothing."""


class NoEngine:
    """Takes every camera."""

    model_name = "none"
    pixel_size_nm = 0.0
    camera_pixels_nm = ((1.0, 10_000.0),)
    device = "cpu"

    def open(self, shape: tuple[int, int], calibration: Calibration, *, beside: int = 0) -> NoReconstruction:
        """Return what forgets."""
        return NoReconstruction(shape)


@contextlib.contextmanager
def link_server() -> Iterator[str]:
    """Run the server; yield its address."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), name="stormlive-link", daemon=True)
    process.start()
    theirs.close()
    try:
        if not pipe.poll(_START_TIMEOUT_S):
            raise InputError(f"the process that measures the link did not start within {_START_TIMEOUT_S:g} s")
        yield str(pipe.recv())
    except EOFError:
        raise InputError("the process that measures the link ended at once; try again with --verbose") from None
    finally:
        pipe.close()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(pipe: Connection) -> None:
    from stormlive.server.loop import Server

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Server(NoEngine(), finish=lambda _run, _canvases: None, bind="tcp://127.0.0.1:*") as server:
        pipe.send(server.address)
        with contextlib.suppress(EOFError, OSError):
            pipe.recv()
