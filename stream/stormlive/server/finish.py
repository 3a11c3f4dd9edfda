"""What a run leaves on disk."""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from stormlive.output.manifest import CameraRecord, ModelRecord, RunPicture, prepare_folder, write_run
from stormlive.output.tables import Mark, check_table_name, open_table, rename_table, table_files
from stormlive.server.engine import Engine
from stormlive.server.protocols import Canvas, FinishedRun
from stormlive.server.reconstruction import Reconstruction
from stormlive.server.run_table import RunTable
from stormlive.server.shelf import Shelf
from stormlive.wire.calibration import Calibration
from stormlive.wire.messages import Start
from stormlive_sim.errors import InputError


class RunWriter:
    """Writes the files of each run: the tables of localizations as they grow, all others when it has finished.

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
        self._with_tables: dict[UUID, bool] = {}  # whether it was taken up again

    def open_table(self, start: Start, name: str = "", mark: Mark | None = None) -> RunTable | None:
        """Create a table of a run, and the folder, if there are to be tables, or go on with it at `mark`.

        A run's first table gets the name of its canvas when the run has ended, if there is a second canvas then: until
        then nobody knows.
        """
        if self._localizations is None:
            return None
        folder = self.shelf.folder(start)
        prepare_folder(folder)
        path = folder / self._localizations
        named = _named(path, name)
        if name and start.run in self._with_tables:
            path = named
            if mark is None and self._with_tables[start.run]:
                for file in _inside(folder, table_files(path)):
                    file.unlink(missing_ok=True)  # begun after the checkpoint, by the server that was killed
        elif mark is not None and not path.exists():
            rename_table(named, path)  # the server was killed after the run had ended
        table = open_table(path, shape=start.shape, pixel_size_nm=start.calibration.pixel_size_nm, mark=mark)
        self._with_tables.setdefault(start.run, mark is not None)
        return RunTable(table, path=path)

    def __call__(self, run: FinishedRun, canvases: Sequence[Canvas]) -> str:
        """Write images, previews and record, and return the folder."""
        reconstructions = [_ours(canvas) for canvas in canvases]
        reconstruction = reconstructions[0]
        start = run.start
        folder = self.shelf.folder(start)
        self._with_tables.pop(start.run, None)
        first = canvases[0]
        if len(canvases) > 1 and first.table is not None and first.table.path is not None:
            first.table.path = rename_table(first.table.path, _named(first.table.path, first.name))
        write_run(
            folder,
            pictures=(_picture(canvas, folder, several=len(canvases) > 1) for canvas in canvases),
            upsampling=reconstruction.upsampling,
            camera=camera_record(start.calibration, start.shape, start.dtype),
            model=model_record(reconstruction),
            device=self._engine.device,
            run=start.run,
            frames={
                **run.ledger.as_dict(),
                "repaired_pixels": sum(one.repaired_pixels for one in reconstructions),
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
            judgement=run.judgement,
        )
        return str(folder)


def camera_record(calibration: Calibration, shape: tuple[int, int], dtype: str) -> CameraRecord:
    """Return what a record says of the camera of frames (Y, X)."""
    return CameraRecord(
        pixel_size_nm=calibration.pixel_size_nm,
        baseline_adu=calibration.baseline_adu,
        photons_per_adu=calibration.photons_per_adu,
        exposure_ms=calibration.exposure_ms,
        frame_shape=shape,
        dtype=dtype,
    )


def model_record(reconstruction: Reconstruction) -> ModelRecord:
    """Return what a record says of the weights."""
    card = reconstruction.model.card
    return ModelRecord(
        name=card.name,
        weights_sha256=reconstruction.model.sha256,
        binning=reconstruction.binning,
        card={"architecture": card.architecture, "arguments": card.arguments, "trained": card.trained},
    )


def _picture(canvas: Canvas, folder: Path, *, several: bool) -> RunPicture:
    """Return what is to be written of a canvas."""
    reconstruction = _ours(canvas)
    table = None if canvas.table is None else canvas.table.path
    growth = canvas.growth
    if growth is not None:
        growth.add(reconstruction.canvas(), canvas.n_frames, last=True)
    return RunPicture(
        name=canvas.name if several else "",
        axes=canvas.route or (),
        n_frames=canvas.n_frames,
        canvas=reconstruction.canvas(),
        widefield=reconstruction.widefield(),
        corrected=canvas.corrected,
        growth=growth,
        no_growth=canvas.no_growth,
        # Of the only one it is the run's.
        judgement=canvas.judgement if several else None,
        extra_files=[] if table is None else _inside(folder, table_files(table)),
    )


def _named(table: Path, name: str) -> Path:
    return table.with_name(f"{table.stem}_{name}{table.suffix}")


def _ours(canvas: Canvas) -> Reconstruction:
    if not isinstance(canvas.reconstruction, Reconstruction):
        raise TypeError(f"expected this engine's Reconstruction, got {type(canvas.reconstruction).__name__}")
    return canvas.reconstruction


def _inside(folder: Path, files: list[Path]) -> list[Path]:
    """Return those of `files` that lie in `folder`, as paths that begin with it."""
    top = folder.absolute()
    return [folder / file.absolute().relative_to(top) for file in files if file.absolute().is_relative_to(top)]
