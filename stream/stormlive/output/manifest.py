"""The record of a run: run.json, and the folder that it describes."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from stormlive.output import RUN_FILE
from stormlive.output.judgement import JudgementRecord
from stormlive_sim.atomic import whole_file
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.output.growth import Growth

_PACKAGES = ("stormlive", "torch", "numpy", "pyzmq")
_EXTRAS = ("openvino", "pycromanager", "pymmcore")


class CameraRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was known of the camera: the numbers that turn its frames into photons and nanometres."""

    pixel_size_nm: float
    baseline_adu: float
    photons_per_adu: float
    exposure_ms: float
    frame_shape: tuple[int, int]
    """(Y, X)"""
    dtype: str


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which network it was, down to its weights."""

    name: str
    weights_sha256: str
    card: dict[str, Any]
    """What its model card says of how it was trained, as much as the caller finds worth keeping."""
    binning: int = 1
    """Camera pixels a side that were summed to one of the network's."""


class CanvasRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The super-resolved images, in figures; the sum is that of them all."""

    shape: tuple[int, int]
    """(Y × upsampling, X × upsampling)"""
    upsampling: int
    pixel_size_nm: float
    sum: float | None


class FileRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file in the folder of the run."""

    name: str
    bytes: int


class RouteRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One canvas: which of the run's frames it is of."""

    axes: list[tuple[str, str]]
    """Channel, position and z, as far as the frames have them: what separates them from those of other canvases."""
    frames: int
    sum: float | None
    files: list[str]
    replay: list[int] = []
    """How many frames the canvas had at the end of each page of `replay.ome.tif`; the pages add up to it."""
    no_replay: str = ""
    """Why there is no such file."""
    judgement: JudgementRecord | UnsetType = UNSET
    """How good its picture seemed while it grew, of a run with several; left out where that was not judged."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of run.json. Numbers that could not be determined are null, never NaN."""

    format: Literal["stormlive-run-1"] = "stormlive-run-1"
    run: UUID | None = None
    """The run's identity on the server that took it; None for what had no server."""
    summary: str
    """One sentence for a person."""
    exit_status: str
    started_at: datetime
    camera: CameraRecord
    model: ModelRecord
    device: str
    frames: dict[str, Any]
    """The ledger: what became of every frame."""
    timings_s: dict[str, float | None]
    latency_ms: dict[str, float | None]
    """Percentiles, such as p50 and p99."""
    canvas: CanvasRecord
    canvases: list[RouteRecord] = []
    """Each with its frames and files; in records of versions that knew one only, none."""
    judgement: JudgementRecord | None = None
    """How good the picture seemed while it grew, of several the worst; None for what was not judged."""
    versions: dict[str, str]
    files: list[FileRecord]


@dataclass(frozen=True, kw_only=True)
class RunPicture:
    """What is written of one canvas.

    Attributes
    ----------
    name
        A part of its files' names; empty for the only canvas of a run.
    axes
        What separates its frames from those of others.
    canvas
        (Y × upsampling, X × upsampling) float32.
    widefield
        (Y, X) float32, photons.
    corrected
        The canvas without the drift of the sample, where it drifted.
    growth, no_growth
        How it came about; why that is not known.
    judgement
        How good it seemed meanwhile, of a run with several canvases.
    extra_files
        Files that already lie in the folder and belong to the canvas.
    """

    name: str = ""
    axes: Sequence[tuple[str, str]] = ()
    n_frames: int
    canvas: NDArray[np.float32]
    widefield: NDArray[np.float32]
    corrected: NDArray[np.float32] | None = None
    growth: "Growth | None" = None
    no_growth: str = ""
    judgement: JudgementRecord | None = None
    extra_files: Sequence[Path] = ()


def refuse_taken_folder(folder: Path) -> None:
    """Raise an InputError where `folder` holds a run already: better before the run than after it."""
    if (folder / RUN_FILE).exists():
        raise InputError(f"{folder} already holds a run ({RUN_FILE}); choose another folder or move that one")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose a folder for the run")


def prepare_folder(folder: Path) -> None:
    """Create the folder of a run, or refuse it if it holds one already."""
    refuse_taken_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror or error}; choose another") from error


def write_run(
    folder: Path,
    *,
    pictures: Iterable[RunPicture],
    upsampling: int,
    camera: CameraRecord,
    model: ModelRecord,
    device: str,
    frames: Mapping[str, Any],
    timings_s: Mapping[str, float | None],
    latency_ms: Mapping[str, float | None],
    started_at: datetime,
    exit_status: str,
    summary: str,
    run: UUID | None = None,
    judgement: JudgementRecord | None = None,
) -> list[Path]:
    """Write what a run leaves behind into `folder`, and return the paths.

    `pictures` are taken one after the other, each written before the next. run.json comes last: a folder that has it
    has everything that it names.
    """
    prepare_folder(folder)
    paths: list[Path] = []
    routes: list[RouteRecord] = []
    total = 0.0
    for picture in pictures:
        files = _write_picture(folder, picture, upsampling, camera.pixel_size_nm, summary)
        paths += files
        sum_of_one = float(picture.canvas.sum(dtype=np.float64))
        total += sum_of_one
        names = [file.relative_to(folder).as_posix() for file in files]
        routes.append(
            RouteRecord(
                axes=list(picture.axes),
                frames=picture.n_frames,
                sum=sum_of_one,
                files=names,
                replay=[] if picture.growth is None else picture.growth.frames,
                no_replay=picture.no_growth if picture.growth is None else "",
                judgement=picture.judgement or UNSET,
            )
        )
    run_path = folder / RUN_FILE
    record = RunRecord(
        run=run,
        summary=summary,
        exit_status=exit_status,
        started_at=started_at,
        camera=camera,
        model=model,
        device=device,
        frames=dict(frames),
        timings_s=dict(timings_s),
        latency_ms=dict(latency_ms),
        canvas=CanvasRecord(
            shape=(camera.frame_shape[0] * upsampling, camera.frame_shape[1] * upsampling),
            upsampling=upsampling,
            pixel_size_nm=camera.pixel_size_nm / upsampling,
            sum=total,
        ),
        canvases=routes,
        judgement=judgement,
        versions=installed_versions(),
        files=[FileRecord(name=path.relative_to(folder).as_posix(), bytes=path.stat().st_size) for path in paths],
    )
    write_record(run_path, record)
    return [*paths, run_path]


def _write_picture(
    folder: Path, picture: RunPicture, upsampling: int, camera_pixel_nm: float, summary: str
) -> list[Path]:
    # Many look into a record, and few write pictures: what writes them is imported here.
    from stormlive.output.growth import write_growth
    from stormlive.output.ome_tiff import write_image
    from stormlive.output.preview import write_preview

    canvas, widefield = picture.canvas, picture.widefield
    if canvas.shape != tuple(upsampling * side for side in widefield.shape):
        raise ValueError(f"expected a canvas {upsampling} times the widefield {widefield.shape}, got {canvas.shape}")
    part = f"_{picture.name}" if picture.name else ""
    of = f"{', '.join(f'{axis} {place}' for axis, place in picture.axes)}: " if picture.name else ""
    superres_path, widefield_path = folder / f"superres{part}.ome.tif", folder / f"widefield{part}.ome.tif"
    preview_path = folder / f"preview{part}.png"
    pixel_size_nm = camera_pixel_nm / upsampling
    write_image(superres_path, canvas, pixel_size_nm, name="super-resolved", description=f"{of}{summary}")
    write_image(
        widefield_path,
        widefield,
        camera_pixel_nm,
        name="widefield",
        description=f"{of}Photons per pixel; {summary}",
    )
    write_preview(preview_path, canvas, pixel_size_nm)
    paths = [superres_path, widefield_path, preview_path]
    if picture.corrected is not None:
        paths.append(folder / f"superres{part}_drift_corrected.ome.tif")
        about = f"{of}Without the drift of the sample; {summary}"
        write_image(paths[-1], picture.corrected, pixel_size_nm, name="drift-corrected", description=about)
    if picture.growth is not None and picture.growth.stretches:
        paths.append(folder / f"replay{part}.ome.tif")
        write_growth(paths[-1], picture.growth, pixel_size_nm, f"{of}{summary}")
    return [*paths, *picture.extra_files]


def write_record(path: Path, record: RunRecord) -> None:
    """Write run.json, indented for people."""
    # msgspec writes NaN and infinity as null: JSON has no word for them.
    text = msgspec.json.format(msgspec.json.encode(record, enc_hook=_plain), indent=2)
    with whole_file(path) as part:
        part.write_bytes(text + b"\n")


def read_record(path: Path) -> RunRecord:
    """Read run.json back; `path` is the file or the folder that holds it."""
    file = path / RUN_FILE if path.is_dir() else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=RunRecord)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}; give the folder of a finished run") from error
    except msgspec.DecodeError as error:
        raise InputError(
            f"{file} is not a record of a run that this version understands: {error}; "
            "check that it was not edited, or read it with the version that wrote it"
        ) from error


def installed_versions() -> dict[str, str]:
    """Return the versions that decide what a run computes, without importing anything heavy."""
    found = {"python": platform.python_version(), "os": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    for package in _EXTRAS:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"cannot write {type(value).__name__} to {RUN_FILE}; make it a number or text")
