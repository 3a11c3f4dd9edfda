"""Many movies on a cluster: which frames are computed together, in which order, and where the sums go.

The frames of a picture are cut into chunks, which are tasks. Eight chunks are a stretch: its partial sums are added two
by two on the workers, the result comes here and is added to the picture's. A bounded number of stretches is under way,
so that each worker holds a few canvases at most and this process one or two for each picture under way.
"""

import hashlib
import uuid
from asyncio import CancelledError
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from distributed import KilledWorker, as_completed

from stormlive.offline.blocks import BLOCK
from stormlive.offline.part import Job, Partial, added, compute, fingerprint_of
from stormlive.offline.picture import Picture
from stormlive.offline.unfinished import Unfinished
from stormlive.ranges import Ranges
from stormlive.server.engine import Engine
from stormlive.wire.calibration import Calibration
from stormlive_sim.errors import InputError
from stormlive_sim.recording import Recording

if TYPE_CHECKING:
    from distributed import Client, Future

Chunks: TypeAlias = list[tuple[int, int]]
"""(first, end) of the chunks of a stretch; `end` is not in it."""

Progress: TypeAlias = Callable[[int], None]
"""Takes the number of frames that are done."""

_CHUNK_BYTES = 2**21
"""Least size of a chunk's frames; never less than its canvas has, which travels when the chunk is done."""

_CHUNKS = 8
_AHEAD = 2
"""Chunks under way for each thread of the cluster."""


@dataclass(kw_only=True)
class _Work:
    """A picture under way."""

    picture: Picture
    job: Job
    unfinished: Unfinished
    missing: int


def stretches_of(todo: Ranges, frames: int) -> Iterator[Chunks]:
    """Yield the stretches of what is to be done, each as its chunks (first, end)."""
    for first, last in todo:
        edges = [*range(first, last + 1, frames), last + 1]
        chunks = list(pairwise(edges))
        for at in range(0, len(chunks), _CHUNKS):
            yield chunks[at : at + _CHUNKS]


def chunk_frames(movie: Recording, upsampling: int) -> int:
    """Return how many frames of a movie make a chunk: whole blocks, so that batches are as in the single process."""
    _, height, width = movie.shape
    frame_bytes = height * width * movie.dtype.itemsize
    canvas_bytes = 4 * height * width * upsampling**2
    return BLOCK * max(1, round(max(_CHUNK_BYTES, canvas_bytes) / frame_bytes / BLOCK))


class Farm:
    """Gives the frames of many pictures to a cluster.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    engine : Engine
        This process' own: it says what the workers' must be.
    model, device : str
        What the workers open theirs with.
    threads : int or None
        Of PyTorch in each worker; None leaves them as they are.

    Attributes
    ----------
    computed : int
        Frames that were computed by this farm, those of lost workers once.
    """

    def __init__(
        self,
        client: "Client",
        engine: Engine,
        calibration: Calibration,
        *,
        model: str,
        device: str,
        threads: int | None,
    ) -> None:
        self._client = client
        self._engine = engine
        self._calibration = calibration
        self._model = model
        self._device = device
        self._threads = threads
        self._topic = f"stormlive-{uuid.uuid4().hex}"
        self._under_way: dict[int, _Work] = {}
        self._reported: dict[tuple[int, int], int] = {}
        self._done = 0
        self.computed = 0

    def run(self, pictures: Sequence[Picture], progress: Progress) -> Generator[tuple[Picture, Unfinished]]:
        """Yield each picture when all its frames are summed; what is under way is saved, however this ends.

        Raises
        ------
        InputError
            What a worker says of the movie or the model; workers that die again and again or have no stormlive; a
            scheduler that is gone; a disk that does not take the unfinished sums.
        """

        def report(event: tuple[float, tuple[int, int, int]]) -> None:
            _, (number, first, reached) = event
            if number in self._under_way:
                self._reported[number, first] = reached - first
                self._show(progress)

        self._client.subscribe_topic(self._topic, report)
        finished = as_completed(loop=self._client.loop)
        stretches = self._stretches(pictures)
        waiting: dict[Future[Partial], tuple[_Work, Chunks]] = {}
        try:
            while True:
                while len(waiting) < self._most() and (stretch := next(stretches, None)) is not None:
                    work, chunks = stretch
                    if chunks:
                        future = self._submit(work.job, chunks)
                        waiting[future] = stretch
                        finished.add(future)
                    else:
                        yield self._finish(work)
                    self._show(progress)
                if not waiting:
                    return
                future = next(finished)
                work, chunks = waiting.pop(future)
                self._take(work, chunks, _result(future))
                # Its result stays with a worker for as long as it is known here.
                del future
                self._show(progress)
                if not work.missing:
                    yield self._finish(work)
        finally:
            for work in self._under_way.values():
                work.unfinished.save()
            # Nothing can be told to a scheduler that is gone.
            with suppress(OSError, CancelledError):
                self._client.unsubscribe_topic(self._topic)
                self._client.cancel(list(waiting))

    def _most(self) -> int:
        """Return how many stretches may be under way."""
        threads: dict[str, int] = self._client.nthreads()
        return 1 + -(-_AHEAD * sum(threads.values()) // _CHUNKS)

    def _stretches(self, pictures: Sequence[Picture]) -> Iterator[tuple[_Work, Chunks]]:
        """Yield what there is to do; a picture of which nothing is missing comes once, without chunks."""
        for number, picture in enumerate(pictures):
            n_frames, height, width = picture.movie.shape
            canvas = self._engine.open((height, width), self._calibration)
            frames, weights = chunk_frames(picture.movie, canvas.upsampling), canvas.fingerprint
            # It was opened for these two, and to see now whether there is room for it in the end.
            del canvas
            work = self._under_way[number] = self._open(number, picture, weights)
            self._done += n_frames - work.missing
            if not work.missing:
                yield work, []
                continue
            for chunks in stretches_of(work.unfinished.done.complement(n_frames), frames):
                yield work, chunks

    def _open(self, number: int, picture: Picture, weights: str) -> _Work:
        with picture.movie as opened:
            movie = fingerprint_of(opened)
        localizations = picture.table is not None
        asked = (movie, weights, self._calibration, localizations, picture.output.name)
        fingerprint = hashlib.sha256(msgspec.json.encode(asked)).hexdigest()
        unfinished = Unfinished(picture, fingerprint)
        job = Job(
            number=number,
            paths=tuple(str(path.absolute()) for path in picture.paths),
            route=picture.route,
            movie=movie,
            model=self._model,
            device=self._device,
            weights=weights,
            calibration=self._calibration,
            localizations=localizations,
            threads=self._threads,
            topic=self._topic,
        )
        written = unfinished.written and picture.output.exists()
        missing = 0 if written else len(opened) - unfinished.done.count()
        return _Work(picture=picture, job=job, unfinished=unfinished, missing=missing)

    def _submit(self, job: Job, chunks: Chunks) -> "Future[Partial]":
        """Return the future of a stretch's partial sum."""
        parts = [self._client.submit(compute, job, first, end, pure=False) for first, end in chunks]
        while len(parts) > 1:
            # Sums before further chunks: a sum makes one canvas of two.
            pairs = [
                self._client.submit(added, a, b, pure=False, priority=1)
                for a, b in zip(parts[::2], parts[1::2], strict=False)
            ]
            parts = pairs + parts[len(parts) // 2 * 2 :]
        return parts[0]

    def _take(self, work: _Work, chunks: Chunks, partial: Partial) -> None:
        first, end = chunks[0][0], chunks[-1][1]
        work.unfinished.add(first, end, partial)
        work.missing -= end - first
        self._done += end - first
        self.computed += end - first
        for start, _ in chunks:
            self._reported.pop((work.job.number, start), None)

    def _finish(self, work: _Work) -> tuple[Picture, Unfinished]:
        del self._under_way[work.job.number]
        return work.picture, work.unfinished

    def _show(self, progress: Progress) -> None:
        progress(self._done + sum(list(self._reported.values())))


def _result(future: "Future[Partial]") -> Partial:
    """Return a task's result, or what its failure means for the user."""
    again = "what was done is kept: give the same command again to go on"
    try:
        partial: Partial = future.result()
    except InputError as error:
        raise InputError(f"{error}; {again}") from error
    except KilledWorker as error:
        raise InputError(
            "the same part of the work lost its worker several times; perhaps there is too little memory for so many "
            f"canvases, and fewer workers are better; {again}"
        ) from error
    except ModuleNotFoundError as error:
        raise InputError(
            f"a worker lacks a module ({error.msg}); install the same stormlive on all workers, in the scheduler's "
            "environment too"
        ) from error
    except (CancelledError, OSError) as error:
        raise InputError(f"the connection to the Dask scheduler was lost ({error}); {again}") from error
    return partial
