"""What a run leaves on disk."""

from pathlib import Path
from uuid import UUID

from stormlive.output.manifest import CameraRecord, ModelRecord, prepare_folder, write_run
from stormlive.output.tables import Mark, check_table_name, open_table, table_files
from stormlive.server import protocols
from stormlive.server.engine import Engine, Reconstruction
from stormlive.server.protocols import FinishedRun
from stormlive.server.run_table import RunTable
from stormlive.server.shelf import Shelf
from stormlive.wire.messages import Start
from stormlive_sim.errors import InputError


class RunWriter:
    """Writes the files of each run: the table of localizations as it grows, all others when it has finished.

    Parameters
    ----------
    engine : Engine
        Tells the device, and whether its model localizes.
    out : Path
        Folder for the files.
    folder_per_run : bool
        Give every run a folder of its own in `out`, named after it; otherwise `out` itself takes the one run.
    localizations : Path or None
        The table, as `open_table` has it; a relative path lies in the run's folder.

    Raises
    ------
    InputError
        When there is to be a table, but the model does not localize, or many runs would share one file.
    """

    def __init__(self, engine: Engine, out: Path, *, folder_per_run: bool, localizations: Path | None = None) -> None:
        if localizations is not None:
            check_table_name(localizations)
            engine.check_localizes()
            if folder_per_run and localizations.name != str(localizations):
                raise InputError(
                    "every run gets a table of localizations in its own folder: expected --localizations with a name "
                    f"such as {localizations.name}, got {localizations}; --out says where the folders go"
                )
        self._engine = engine
        self.shelf = Shelf(
            out, folder_per_run=folder_per_run, files=[] if localizations is None else [str(localizations)]
        )
        self._localizations = localizations
        self._tables: dict[UUID, list[Path]] = {}

    def open_table(self, start: Start, mark: Mark | None = None) -> RunTable | None:
        """Create the folder and the table of a run that starts, if there is to be one, or go on with it at `mark`."""
        if self._localizations is None:
            return None
        folder = self.shelf.folder(start)
        prepare_folder(folder)
        path = folder / self._localizations
        table = open_table(path, shape=start.shape, pixel_size_nm=start.calibration.pixel_size_nm, mark=mark)
        self._tables[start.run] = table_files(path)
        return RunTable(table)

    def __call__(self, run: FinishedRun, reconstruction: protocols.Reconstruction) -> str:
        """Write image, preview and record, and return the folder."""
        if not isinstance(reconstruction, Reconstruction):
            raise TypeError(f"expected this engine's Reconstruction, got {type(reconstruction).__name__}")
        start, card = run.start, reconstruction.model.card
        folder, tables = self.shelf.folder(start), self._tables.pop(start.run, [])
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
                weights_sha256=reconstruction.model.sha256,
                binning=reconstruction.binning,
                card={
                    "architecture": card.architecture,
                    "arguments": card.arguments,
                    "trained": card.trained,
                },
            ),
            device=self._engine.device,
            run=start.run,
            frames={
                **run.ledger.as_dict(),
                "repaired_pixels": reconstruction.repaired_pixels,
                "notices": list(run.notices),
            },
            timings_s={
                "duration": run.duration_s,
                "frames_per_s": run.frames_per_s,
            },
            latency_ms={"p50": run.latency_p50_ms, "p99": run.latency_p99_ms},
            started_at=run.started_at,
            exit_status=run.exit_status,
            summary=run.ledger.sentence(),
            extra_files=_inside(folder, tables),
        )
        return str(folder)


def _inside(folder: Path, files: list[Path]) -> list[Path]:
    """Return those of `files` that lie in `folder`, as paths that begin with it."""
    top = folder.absolute()
    return [folder / file.absolute().relative_to(top) for file in files if file.absolute().is_relative_to(top)]
