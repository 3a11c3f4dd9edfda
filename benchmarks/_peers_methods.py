"""What peers.py compares: simulated movies, our engine, and other programs in processes of their own."""

import json
import os
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from _accuracy_frames import PIXEL_NM, SIDE_PX, UPSAMPLING, Frames, filament_movie, seeded
from _rig import CALIBRATION
from numpy.typing import NDArray

from stormlive.output.tables import Rows
from stormlive.server.engine import Engine
from stormlive_sim.emitters import Emitters

WORKER = Path(__file__).with_name("_peers_worker.py")
INSTALL = (
    "python -m venv peers; peers/bin/pip install picassosr nanopyx; python benchmarks/peers.py --peers peers/bin/python"
)
BORDER_PX = 6
Parameters = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Movie:
    """A simulated movie as a camera gives it, (T, 64, 64) ADU, in memory and in a file, and its truth."""

    name: str
    adu: NDArray[np.uint16]
    truth: Emitters
    file: Path

    def first(self, n: int) -> Emitters:
        """Return the truth of the first n frames."""
        return self.truth.select(self.truth.frame < n)


def inner_image(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a picture without its border, where a method of boxes finds nothing: a large camera has little of it."""
    border = BORDER_PX * UPSAMPLING
    return image[border:-border, border:-border]


def inner_table(table: Emitters) -> Emitters:
    """Return a table without the border, its positions from the corner of what is left."""
    border_nm, side_nm = BORDER_PX * PIXEL_NM, (SIDE_PX - 2 * BORDER_PX) * PIXEL_NM
    moved = replace(table, x_nm=table.x_nm - border_nm, y_nm=table.y_nm - border_nm)
    inside = [(position >= 0) & (position < side_nm) for position in (moved.x_nm, moved.y_nm)]
    return moved.select(inside[0] & inside[1])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a method made of frames; no table from one that makes none, nothing where it was only timed."""

    seconds: float
    cpu_seconds: float
    table: Emitters | None = None
    image: NDArray[np.float32] | None = None
    width_px: NDArray[np.float32] | None = None


class Method(Protocol):
    """A method with the parameters that suit a movie."""

    def run(self, movie: Movie, n: int, *, timed_only: bool = False) -> Outcome:
        """Run on the first n frames."""


def simulate(name: str, density: float, n: int, seed: int, folder: Path) -> Movie:
    """Return a movie of microtubules; the label decides its structure and frames."""
    frames: Frames = filament_movie(n, seeded(seed, name), density)
    adu = frames.photons / CALIBRATION.photons_per_adu + CALIBRATION.baseline_adu
    counts = adu.round().clamp(0, 2**16 - 1).numpy().astype(np.uint16)
    file = folder / f"{name}.npy"
    np.save(file, counts)
    return Movie(name=name, adu=counts, truth=frames.truth, file=file)


class Ours:
    """The engine of the server, with what it chooses: camera ADU in, picture and table out."""

    def __init__(self, model: str, batch: int) -> None:
        self._engine = Engine(model, "cpu")
        self._batch = batch

    @property
    def told(self) -> str:
        """The runtime that it chose, and the weights."""
        return f"{self._engine.runtime}, {self._engine.models[0].sha256[:12]}"

    def run(self, movie: Movie, n: int, *, timed_only: bool = False) -> Outcome:
        rows: list[Rows] = []
        began, cpu_began = time.perf_counter(), time.process_time()
        reconstruction = self._engine.open((SIDE_PX, SIDE_PX), CALIBRATION)
        for first in range(0, n, self._batch):
            found: list[Rows] = []
            reconstruction.add(movie.adu[first : min(n, first + self._batch)], found.append)
            for part in found:
                part["frame"] += first
            rows += found
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        if timed_only:
            return Outcome(seconds=seconds, cpu_seconds=cpu_seconds)
        table = np.concatenate(rows)
        columns = {k: torch.from_numpy(table[k].copy()) for k in ("frame", "x_nm", "y_nm", "photons")}
        image = reconstruction.canvas().copy()
        return Outcome(seconds=seconds, cpu_seconds=cpu_seconds, table=Emitters(**columns), image=image)


class Program:
    """Another program in a process of its own Python.

    Attributes
    ----------
    version : str
        Package and version; empty when it cannot be used.
    missing : str
        Why it cannot.
    """

    def __init__(self, method: str, python: str, folder: Path, threads: int) -> None:
        self._threads = threads
        self._out = folder / f"{method}.npz"
        home = folder / f"home_{method}"  # they keep settings and timings there
        home.mkdir()
        counts = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "NUMBA", "OPENBLAS", "MKL")}
        quiet = {"HOME": str(home), "USERPROFILE": str(home), "QT_QPA_PLATFORM": "offscreen", "MPLBACKEND": "agg"}
        self._process = subprocess.Popen(
            [python, str(WORKER), method],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **counts, **quiet, "PYTHONPATH": ""},
        )
        first = self._answer()
        self.version, self.missing = first.get("version", ""), first.get("failed", "")

    def run(self, movie: Movie, n: int, parameters: Parameters, *, timed_only: bool) -> Outcome:
        assert self._process.stdin is not None
        request = {
            "movie": str(movie.file),
            "frames": n,
            "parameters": {**parameters, "threads": self._threads},
            "out": None if timed_only else str(self._out),
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "failed" in answer:
            raise SystemExit(f"{self.version} failed with {parameters}:\n{answer['failed']}")
        if timed_only:
            return Outcome(**answer)
        with np.load(self._out) as arrays:
            table = None
            if "frame" in arrays:
                x_nm, y_nm = (torch.from_numpy(arrays[axis]).float() * PIXEL_NM for axis in "xy")
                frame = torch.from_numpy(arrays["frame"].astype(np.int64))
                table = Emitters(frame=frame, x_nm=x_nm, y_nm=y_nm, photons=torch.from_numpy(arrays["photons"]))
            width = arrays.get("width")
            return Outcome(**answer, table=table, image=arrays["image"].astype(np.float32), width_px=width)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return dict(json.loads(line)) if line else {"failed": f"its process ended with {self._process.wait()}"}

    def close(self) -> None:
        self._process.communicate(timeout=60)
