"""What a finished run leaves on disk."""

from pathlib import Path

from stormlive.output.manifest import RUN_FILE, CameraRecord, ModelRecord, write_run
from stormlive.server import protocols
from stormlive.server.engine import Engine, Reconstruction
from stormlive.server.protocols import FinishedRun


class RunWriter:
    """Writes the files of each finished run.

    Parameters
    ----------
    engine : Engine
        Tells model and device.
    out : Path
        Folder for the files.
    folder_per_run : bool
        Give every run a folder of its own in `out`, named after it; otherwise `out` itself takes the one run.
    """

    def __init__(self, engine: Engine, out: Path, *, folder_per_run: bool) -> None:
        self._engine = engine
        self._out = out
        self._folder_per_run = folder_per_run

    def __call__(self, run: FinishedRun, reconstruction: protocols.Reconstruction) -> str:
        """Write image, preview and record, and return the folder."""
        if not isinstance(reconstruction, Reconstruction):
            raise TypeError(f"expected this engine's Reconstruction, got {type(reconstruction).__name__}")
        start, card = run.start, self._engine.card
        folder = self._own_folder(start.name) if self._folder_per_run else self._out
        write_run(
            folder,
            canvas=reconstruction.canvas(),
            widefield=reconstruction.widefield(),
            upsampling=reconstruction.upsampling,
            camera=CameraRecord(
                pixel_size_nm=start.calibration.pixel_size_nm,
                baseline_adu=start.calibration.baseline_adu,
                photons_per_adu=start.calibration.photons_per_adu,
                exposure_ms=start.calibration.exposure_ms,
                frame_shape=start.shape,
                dtype=start.dtype,
            ),
            model=ModelRecord(
                name=card.name,
                weights_sha256=self._engine.weights_sha256,
                card={
                    "architecture": card.architecture,
                    "arguments": card.arguments,
                    "trained": card.trained,
                },
            ),
            device=self._engine.device,
            frames={**run.ledger.as_dict(), "repaired_pixels": reconstruction.repaired_pixels},
            timings_s={
                "duration": (run.ended_at - run.started_at).total_seconds(),
                "frames_per_s": run.frames_per_s,
            },
            latency_ms={"p50": run.latency_p50_ms, "p99": run.latency_p99_ms},
            started_at=run.started_at,
            exit_status=run.exit_status,
            summary=run.ledger.sentence(),
        )
        return str(folder)

    def _own_folder(self, name: str) -> Path:
        """Return a folder in which no run lies yet, counting up: name, name-2, name-3."""
        folder, number = self._out / name, 1
        while (folder / RUN_FILE).exists():
            number += 1
            folder = self._out / f"{name}-{number}"
        return folder
