"""What scripts and notebooks call besides the hook: a movie's picture, a finished run's folder."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormlive.offline.blocks import blocks
from stormlive.output.manifest import RunRecord, read_record
from stormlive.output.ome_tiff import read_image, write_image
from stormlive.output.tables import LOCALIZATION, Rows
from stormlive.server.engine import Engine
from stormlive.wire.calibration import Calibration
from stormlive_models.zoo import DEFAULT
from stormlive_sim.errors import InputError
from stormlive_sim.recording import Recording


@dataclass(frozen=True, kw_only=True)
class Image:
    """Pixels, float32 (Y, X), and the side of one in the sample, nm."""

    pixels: NDArray[np.float32]
    pixel_size_nm: float

    def save(self, path: Path | str, *, description: str = "") -> None:
        """Write a 32-bit OME-TIFF that Fiji, and napari with napari-tiff, open with its scale."""
        file = Path(path)
        write_image(file, self.pixels, self.pixel_size_nm, name=file.name.partition(".")[0], description=description)


@dataclass(frozen=True, kw_only=True)
class Reconstructed:
    """What a movie's frames gave.

    Attributes
    ----------
    superres : Image
        Expected emitters per sub-pixel.
    widefield : Image
        The mean of all frames, photons per camera pixel.
    localizations : ndarray or None
        Structured (N,): frame (from 0), x_nm, y_nm, photons, sigma_x_nm, sigma_y_nm, probability.
    model : str
        Which weights it was.
    """

    superres: Image
    widefield: Image
    localizations: Rows | None
    model: str


def reconstruct(
    movie: ArrayLike | Path | str,
    calibration: Calibration,
    *,
    model: str = DEFAULT,
    device: str = "auto",
    localize: bool = False,
) -> Reconstructed:
    """Reconstruct a movie as the live server would.

    Parameters
    ----------
    movie : array or path
        Frames (T, Y, X) in ADU, uint8, uint16 or float; or a TIFF stack, an NDTiff folder, a Zarr folder.
    calibration : Calibration
        The camera's.
    model, device : str
        As ``stormlive reconstruct`` has them.
    localize : bool
        Return the localizations too.

    Raises
    ------
    InputError
        The movie, the model or the device is not to be had, or they do not go together.
    """
    tables: list[Rows] = []
    frames: Recording | NDArray[Any]
    with ExitStack() as stack:
        if isinstance(movie, Path | str):
            frames = stack.enter_context(Recording.open(movie))
        else:
            frames = _checked(np.asarray(movie))
        engine = Engine(model, device)
        if localize:
            engine.check_localizes()
        reconstruction = engine.open((frames.shape[1], frames.shape[2]), calibration)
        for block in blocks(frames, reconstruction.context):

            def keep(rows: Rows, first: int = block.first) -> None:
                rows["frame"] += first
                tables.append(rows)

            reconstruction.add(block.frames, keep if localize else None, block.own)
    return Reconstructed(
        superres=Image(
            pixels=reconstruction.canvas(), pixel_size_nm=calibration.pixel_size_nm / reconstruction.upsampling
        ),
        widefield=Image(pixels=reconstruction.widefield(), pixel_size_nm=calibration.pixel_size_nm),
        localizations=np.concatenate([np.empty(0, LOCALIZATION), *tables]) if localize else None,
        model=reconstruction.model_name,
    )


def _checked(frames: NDArray[Any]) -> NDArray[Any]:
    counts = frames.dtype.kind == "u" and frames.dtype.itemsize <= 2
    if frames.ndim != 3 or frames.size == 0 or not (counts or frames.dtype.kind == "f"):
        raise InputError(
            f"expected frames (T, Y, X) of uint8, uint16 or float, got shape {frames.shape} of {frames.dtype}; give "
            "the camera's frames as it gave them"
        )
    return frames


@dataclass(frozen=True, kw_only=True)
class SavedRun:
    """A finished run's folder.

    Attributes
    ----------
    folder : Path
        Where it lies.
    record : RunRecord
        Its run.json: `record.frames`, `record.judgement`, `record.camera` and so on. `record.canvases` has each
        channel, position and z, in the order that the methods below count them.
    """

    folder: Path
    record: RunRecord

    def superres(self, canvas: int = 0, *, drift_corrected: bool = False) -> Image:
        """Read the picture; `drift_corrected` is there where the sample drifted."""
        return self._read("superres", "_drift_corrected" if drift_corrected else "", canvas)

    def widefield(self, canvas: int = 0) -> Image:
        """Read the mean of the frames, photons per camera pixel."""
        return self._read("widefield", "", canvas)

    def _read(self, what: str, suffix: str, canvas: int) -> Image:
        names = [f"{what}{suffix}.ome.tif"]  # of versions that knew one canvas only
        if self.record.canvases:
            if not 0 <= canvas < len(self.record.canvases):
                raise InputError(f"{self.folder} has canvases 0 to {len(self.record.canvases) - 1}, not {canvas}")
            names = [
                name
                for name in self.record.canvases[canvas].files
                if name.startswith(what) and ("_drift_corrected." in name) is bool(suffix)
            ]
        if not names:
            raise InputError(f"{self.folder} has no {what}{suffix} of canvas {canvas}; the sample may not have drifted")
        pixels, pixel_size_nm = read_image(self.folder / names[0])
        return Image(pixels=pixels, pixel_size_nm=pixel_size_nm)


def read_run(folder: Path | str) -> SavedRun:
    """Read what a run left.

    Raises
    ------
    InputError
        It is not the folder of a finished run.
    """
    return SavedRun(folder=Path(folder), record=read_record(Path(folder)))
