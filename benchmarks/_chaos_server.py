"""The server of a chaotic run, as a script: prints its address, ends when stdin closes.

    python _chaos_server.py PLAN PORT OUT

Its sockets, runs, checkpoints and files are the product's. The engine is a network, or one whose canvas is the exact
sum of the frames, so that the canvas tells which frames it holds, and how often.
"""

import logging
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _chaos_inside import disturb_server
from _chaos_keys import keys_of
from _chaos_plan import EXACT_CONTEXT, Plan, between
from numpy.typing import NDArray

from stormlive.output import manifest
from stormlive.output.manifest import CameraRecord, ModelRecord, RunPicture
from stormlive.server.loop import Server
from stormlive.server.protocols import Canvas, FinishedRun
from stormlive.server.shelf import Shelf
from stormlive.wire.calibration import Calibration
from stormlive.wire.curve import ServerKeys
from stormlive_sim.errors import InputError

MOST_PIXELS = 2**16
MAX_FRAME_BYTES = 2**17


class ExactReconstruction:
    """A sum of frames, or of what is seen between neighbours; whole numbers, so that their order does not matter."""

    upsampling = 1
    model_name = fingerprint = "exact"

    def __init__(self, shape: tuple[int, int], frame_s: float, context: int) -> None:
        self._frame_s = frame_s
        self.context = context
        self.canvas = np.zeros(shape, np.float64)
        self._last = np.zeros(shape, np.float32)
        self._n = 0

    def add(
        self, frames: NDArray[np.uint16], _sink: object = None, own: slice = slice(None), *, region: object = None
    ) -> None:
        """Add frames; as slow as the plan has it."""
        seen = (between(frames) if self.context else frames)[own]
        time.sleep(self._frame_s * len(seen))
        self.canvas += seen.sum(0, dtype=np.float64)
        self._last = frames[own][-1].astype(np.float32)
        self._n += len(seen)

    def view(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.float32]:
        """Return a piece of the canvas."""
        size = 2**level
        part = self.canvas[y * size : (y + h) * size, x * size : (x + w) * size]
        whole = np.pad(part, ((0, h * size - part.shape[0]), (0, w * size - part.shape[1])))
        return whole.reshape(h, size, w, size).sum((1, 3)).astype(np.float32)

    def widefield(self) -> NDArray[np.float32]:
        """Return the mean of all frames."""
        return (self.canvas / max(1, self._n)).astype(np.float32)

    def last(self) -> NDArray[np.float32]:
        """Return the newest frame."""
        return self._last

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return copies of all that depends on the frames."""
        return {"canvas": self.canvas.copy(), "last": self._last.copy(), "n": np.array([self._n])}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a snapshot."""
        self.canvas, self._last, self._n = arrays["canvas"], arrays["last"], int(arrays["n"][0])


class ExactEngine:
    """Makes sums."""

    model_name = "exact"
    pixel_size_nm = 100.0
    camera_pixels_nm = ((1.0, 1000.0),)
    device = "cpu"

    def __init__(self, frame_s: float, context: int) -> None:
        self._frame_s = frame_s
        self._context = context

    def open(self, shape: tuple[int, int], calibration: Calibration, *, beside: int = 0) -> ExactReconstruction:
        """Return an empty canvas, unless a stranger wants a huge one."""
        if shape[0] * shape[1] > MOST_PIXELS:
            raise InputError(f"expected at most {MOST_PIXELS} pixels, got {shape}; choose a smaller region")
        return ExactReconstruction(shape, self._frame_s, self._context)


class Writer:
    """Writes what `RunWriter` does, for the exact engine."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def __call__(self, run: FinishedRun, canvases: Sequence[Canvas]) -> str:
        """Write image, preview and record, and return the folder."""
        start, calibration, folder = run.start, run.start.calibration, self._shelf.folder(run.start)
        manifest.write_run(
            folder,
            pictures=[
                RunPicture(
                    name=canvas.name if len(canvases) > 1 else "",
                    axes=canvas.route or (),
                    n_frames=canvas.n_frames,
                    canvas=canvas.reconstruction.view(0, 0, 0, start.shape[1], start.shape[0]),
                    widefield=canvas.reconstruction.widefield(),
                )
                for canvas in canvases
            ],
            upsampling=1,
            camera=CameraRecord(
                pixel_size_nm=calibration.pixel_size_nm,
                baseline_adu=calibration.baseline_adu,
                photons_per_adu=calibration.photons_per_adu,
                exposure_ms=calibration.exposure_ms,
                frame_shape=start.shape,
                dtype=start.dtype,
            ),
            model=ModelRecord(name="exact", weights_sha256="", card={}),
            device="cpu",
            run=start.run,
            frames={**run.ledger.as_dict(), "notices": list(run.notices)},
            timings_s={"duration": run.duration_s},
            latency_ms={"p50": run.latency_p50_ms},
            started_at=run.started_at,
            exit_status=run.exit_status,
            summary=run.ledger.sentence(),
        )
        return str(folder)


def make_server(plan: Plan, port: str, out: Path) -> Server:
    options: dict[str, Any] = {
        "bind": f"tcp://127.0.0.1:{port}",
        "checkpoint_s": plan.checkpoint_s,
        "credit_bytes": plan.credit_bytes,
        "max_frame_bytes": MAX_FRAME_BYTES,
        "max_batch": 16,
        "heartbeat_s": plan.heartbeat_s,
        "grace_s": plan.grace_s,
    }
    keys = keys_of("server", out.parent)
    if keys is not None:
        options.update(keys=ServerKeys.load(keys), data=(out.parent,))
    if plan.is_exact:
        shelf = Shelf(out, folder_per_run=True)
        engine = ExactEngine(plan.frame_s, int(plan.engine == EXACT_CONTEXT))
        return Server(engine, finish=Writer(shelf), shelf=shelf, **options)
    import torch

    from stormlive.server.engine import Engine
    from stormlive.server.finish import RunWriter

    torch.set_num_threads(1)
    network = Engine(plan.engine, "cpu")
    writer = RunWriter(network, out, folder_per_run=True)
    return Server(network, finish=writer, open_table=writer.open_table, shelf=writer.shelf, **options)


def main() -> None:
    plan, port, out = Plan.read(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(levelname)s %(name)s: %(message)s")
    disturb_server(plan, out / "full-disk")
    with make_server(plan, port, out) as server:
        print(server.address, flush=True)
        stop = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
        while not stop.wait(0.1):
            server.raise_if_failed()


if __name__ == "__main__":
    main()
