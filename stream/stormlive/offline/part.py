"""What a worker does: it turns a stretch of a movie's frames into a partial sum, and adds two of those.

A partial sum holds the arrays of `Reconstruction.snapshot`, and of the table that was asked for the ``rows``.
"""

import hashlib
import signal
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from distributed import get_worker
from numpy.typing import NDArray

from stormlive.offline.blocks import blocks
from stormlive.output.tables import LOCALIZATION, Rows
from stormlive.server.engine import Engine
from stormlive.wire.calibration import Calibration
from stormlive_sim.errors import InputError
from stormlive_sim.recording import Recording
from stormlive_sim.routes import Route

Partial: TypeAlias = dict[str, NDArray[Any]]

_REPORT_S = 0.5
# Networks and open movies are one thread's affair, whatever number of threads a worker was given.
_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker must know of a picture; it travels with every task, so it is small.

    Attributes
    ----------
    number : int
        Of the picture, for the reports of progress.
    paths : tuple of str
        The movie's files, absolute: a worker opens them itself.
    route : Route
        Which of the recording's channels, positions or z.
    movie : str
        `fingerprint_of` the movie.
    model, device : str
        As for `Engine`.
    weights : str
        `Reconstruction.fingerprint`.
    localizations : bool
        Whether a table is asked for.
    threads : int or None
        Of PyTorch, in this worker; None leaves them as they are.
    topic : str
        Of the reports.
    """

    number: int
    paths: tuple[str, ...]
    route: Route
    movie: str
    model: str
    device: str
    weights: str
    calibration: Calibration
    localizations: bool
    threads: int | None
    topic: str


def dask_setup(_: object) -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the one that started this worker: it ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def fingerprint_of(movie: Recording) -> str:
    """Return a digest of a movie's shape, pixel type and first, middle and last frame."""
    digest = hashlib.sha256(f"{movie.shape} {movie.dtype.str}".encode())
    for number in sorted({0, len(movie) // 2, len(movie) - 1}):
        digest.update(movie.frame(number).data)
    return digest.hexdigest()


def compute(job: Job, first: int, end: int) -> Partial:
    """Return the partial sum of the frames `first` to before `end`.

    Raises
    ------
    InputError
        Which names the worker: another movie or other weights lie there, or what the single process would refuse.
    """
    worker = get_worker()
    try:
        with _lock:
            if job.threads is not None and torch.get_num_threads() != job.threads:
                torch.set_num_threads(job.threads)
            movie = _movie(job.paths, job.route, job.movie)
            reconstruction = _engine(job.model, job.device, job.weights).open(movie.shape[1:], job.calibration)
            if reconstruction.fingerprint != job.weights:
                raise InputError(f"the model {job.model!r} has other weights here; install the same version everywhere")
            rows: list[Rows] = []
            reported = time.monotonic()
            for block in blocks(movie, reconstruction.context, first, end):
                found: list[Rows] = []
                reconstruction.add(block.frames, found.append if job.localizations else None, block.own)
                for part in found:
                    part["frame"] += block.first
                rows += found
                if time.monotonic() - reported > _REPORT_S:
                    reported = time.monotonic()
                    worker.log_event(job.topic, [job.number, first, block.end])
            partial = reconstruction.snapshot()
    except InputError as error:
        raise InputError(f"the worker {worker.address}: {error}") from error
    if job.localizations:
        partial["rows"] = np.concatenate([np.empty(0, LOCALIZATION), *rows])
    return partial


def added(a: Partial, b: Partial) -> Partial:
    """Return the sum of two partial sums, of which `b` has the later frames; neither is changed.

    A worker may be asked for `a` or `b` again, when one that has the sum is lost.
    """
    both = {name: a[name] + b[name] for name in ("counts", "grid", "sum")}
    rows = {"rows": np.concatenate([a["rows"], b["rows"]])} if "rows" in a else {}
    return {**both, "last": b["last"], **rows}


@lru_cache(maxsize=1)
def _engine(model: str, device: str, _weights: str) -> Engine:
    """Return the engine of this worker; it is loaded anew when other weights are expected."""
    return Engine(model, device)


@lru_cache(maxsize=4)
def _movie(paths: tuple[str, ...], route: Route, expected: str) -> Recording:
    """Return a movie as this worker sees it; its pixels stay on the disk."""
    try:
        parts = Recording.open_each([Path(path) for path in paths])
    except InputError as error:
        raise InputError(f"{error} (every worker must see the movies under the same path)") from error
    movie = parts.get(route)
    if movie is None or fingerprint_of(movie) != expected:
        raise InputError(f"there is another movie at {paths[0]}; all workers must see the same files")
    return movie
