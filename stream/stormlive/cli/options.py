"""Options that several commands share: the camera's calibration, the model, the device."""

import os
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from stormlive.wire.transport import full_address
from stormlive_sim.atomic import cannot_write
from stormlive_sim.errors import InputError

_CAMERA = "Camera calibration"
_ENGINE = "Engine"
_CALIBRATION = ("pixel_size_nm", "baseline_adu", "photons_per_adu", "exposure_ms")

PixelSize = Annotated[
    float,
    typer.Option(
        "--pixel-size-nm",
        min=1,
        max=10_000,
        metavar="NM",
        rich_help_panel=_CAMERA,
        help="Camera pixel in the sample, in nm: the chip's pixel / the magnification.",
    ),
]
Baseline = Annotated[
    float,
    typer.Option(
        "--baseline-adu",
        min=0,
        max=65_535,
        metavar="ADU",
        rich_help_panel=_CAMERA,
        help="What the camera reads in the dark, in grey levels (ADU).",
    ),
]
PhotonsPerAdu = Annotated[
    float,
    typer.Option(
        "--photons-per-adu",
        min=1e-6,
        max=1_000_000,
        metavar="PHOTONS",
        rich_help_panel=_CAMERA,
        help="Photons per grey level above the baseline: electrons per ADU / (EM gain x QE).",
    ),
]
Exposure = Annotated[
    float,
    typer.Option(
        "--exposure-ms",
        min=0.01,
        max=600_000,
        metavar="MS",
        rich_help_panel=_CAMERA,
        help="Exposure of a frame, in ms.",
    ),
]


def _needed(option: Any) -> OptionInfo:  # noqa: ANN401
    """Return one of these for a real camera, of which nothing can be supposed; see `require_calibration`."""
    info: OptionInfo = copy(option.__metadata__[0])
    info.show_default, info.rich_help_panel = False, f"{_CAMERA} (all four are needed)"
    return info


NeededPixelSize = Annotated[float, _needed(PixelSize)]
NeededBaseline = Annotated[float, _needed(Baseline)]
NeededPhotonsPerAdu = Annotated[float, _needed(PhotonsPerAdu)]
NeededExposure = Annotated[float, _needed(Exposure)]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME|FILE",
        rich_help_panel=_ENGINE,
        help="A model that ships with stormlive (see `stormlive models`; of its weights, those that suit the camera's "
        "pixel), a .safetensors file, or cel0, the baseline.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda:N|cuda",
        rich_help_panel=_ENGINE,
        help="Where the network runs; auto: the first GPU if any, cuda: all of them. On the CPU the fastest of "
        "cpu:torch, cpu:torch-bf16 and cpu:openvino is found and remembered; name one to have that.",
    ),
]
Localizations = Annotated[
    Path | None,
    typer.Option(
        "--localizations",
        metavar="FILE.csv|FILE.hdf5",
        help="Also write what was localized, as it comes: .csv for ThunderSTORM (1-based frames, nm), .hdf5 with a "
        ".yaml beside it for Picasso. In the CSV sigma and offset are 0: neither is measured, Picasso's import asks "
        "for them. A file that exists is not touched.",
    ),
]
ComputedRegion = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="X,Y,WIDTH,HEIGHT",
        rich_help_panel=_ENGINE,
        help="Compute this part of the frames only, in their pixels, which takes less time; the picture stays empty "
        "elsewhere. Raw data is not touched by it.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that exist already; otherwise they are not touched.")
]
Headless = Annotated[bool, typer.Option("--headless", help="Open no window, even where there is a screen.")]

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="HOST[:PORT]",
        help="Use a running `stormlive serve` instead of one of our own, and its model and device.",
    ),
]
ClientKeysFolder = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="DIR",
        help="This machine's folder of keys, for a server with keys (see `stormlive keys`).",
    ),
]

server_address = full_address

DEFAULT_PIXEL_SIZE_NM = 100.0
DEFAULT_BASELINE_ADU = 100.0
DEFAULT_PHOTONS_PER_ADU = 0.5
DEFAULT_EXPOSURE_MS = 30.0


def image_size(text: str, least: int = 8) -> tuple[int, int]:
    """Return (Y, X) of ``WIDTHxHEIGHT``.

    Raises
    ------
    InputError
        When the text is none, or the sides are not between `least` and 4096 pixels.
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise InputError(f"expected a size as WIDTHxHEIGHT in pixels, such as 128x64, got {text!r}")
    shape = int(height), int(width)
    if not all(least <= side <= 4096 for side in shape):
        raise InputError(f"expected sides of {least} to 4096 pixels, got {text}")
    return shape


def check_server(server: str | None, keys: Path | None, **files: Path | None) -> str | None:
    """Return the address of ``--server``, None without; InputError when `files` that it writes are given as well."""
    if server is None:
        if keys is not None:
            raise InputError("--keys are for a server elsewhere: give --server with its address too")
        return None
    if given := [f"--{name}" for name, path in files.items() if path is not None]:
        raise InputError(f"the server writes the files: give {' and '.join(given)} to `stormlive serve` instead")
    return full_address(server)


def own_table(localizations: Path | None, folder: Path) -> Path | None:
    """Return the absolute path of ``--localizations``; InputError when it could not be written."""
    if localizations is None:
        return None
    from stormlive.output.tables import check_new_table

    check_new_table(localizations)
    check_can_write(localizations, own_folder=folder)
    return localizations.absolute()


def check_can_write(path: Path, own_folder: Path | None = None) -> None:
    """Raise an InputError before hours of work when a result could not be written in the end.

    `own_folder` is one that will be made, or found empty of runs, by then.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file in it")
    if folder.is_dir():
        # Permissions tell too little: a read-only disk, a quota or a network share refuses in its own way.
        probe = folder / f"{path.name}.{os.getpid()}.part"
        try:
            probe.open("xb").close()
            probe.unlink()
        except OSError as error:
            raise cannot_write(path, error) from error
    elif own_folder is None or folder != own_folder.absolute():
        raise InputError(f"the folder {folder} does not exist; create it or choose another")


def refuse_existing(files: Iterable[Path], *, overwrite: bool) -> None:
    """Raise an InputError that names the first of `files` that exists, unless they may be replaced."""
    if overwrite:
        return
    for file in files:
        if file.exists():
            raise InputError(f"{file} exists already; choose another name, or add --overwrite to replace it")


def check_can_fill(folder: Path) -> None:
    """Raise an InputError before anything is acquired when a folder for runs could not be made or written to."""
    top = folder.absolute()
    there = next((path for path in (top, *top.parents) if path.exists()), top)
    if not there.is_dir():
        raise InputError(f"{there} is not a folder, so runs cannot go to {folder}; give --out another one")
    check_can_write(there / "run.json")


def _not_given(context: typer.Context) -> list[str]:
    """Return the calibration's parameters that have their defaults, which are the simulated camera's."""
    sources = {name: context.get_parameter_source(name) for name in _CALIBRATION}
    return [name for name, source in sources.items() if source and source.name == "DEFAULT"]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _told(context: typer.Context, names: Iterable[str]) -> str:
    return ", ".join(f"{_option(name)} {context.params[name]:g}" for name in names)


def told_calibration(context: typer.Context) -> str:
    """Return the calibration's options with their values, given or not, for the user to see."""
    return _told(context, _CALIBRATION)


def supposed_calibration(context: typer.Context) -> str | None:
    """Return which calibration options have the simulated camera's values, for the user to see; None when none has."""
    supposed = _told(context, _not_given(context))
    if not supposed:
        return None
    return (
        f"not given, so supposed as of the simulated camera: {supposed}; the picture of another camera is wrong with "
        "these: give its own"
    )


def require_calibration(context: typer.Context) -> None:
    """Raise an InputError that names the calibration options which were not given.

    A simulated camera has the defaults; for a real one a default would be a guess, and the picture wrong.
    """
    lacking = [_option(name) for name in _not_given(context)]
    if lacking:
        raise InputError(
            f"what a real camera recorded needs its calibration: give {', '.join(lacking)} too; the camera's "
            "certificate and the objective's magnification have the numbers, and `stormlive calibrate MOVIE` estimates "
            "the camera's from its own frames"
        )


def check_picture_name(output: Path, inputs: Sequence[Path]) -> None:
    """Raise an InputError unless `output` is a TIFF's name and none of the files that are read."""
    if output.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"{output} is to be a 32-bit TIFF: give a name that ends in .ome.tif; a PNG comes beside it")
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"{output} is the movie itself, which would be lost; give the picture another name")
