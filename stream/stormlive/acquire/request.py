"""What a person asks for who wants a run, on the command line or in the window: plain data."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from stormlive.acquire.acquisition import Region
from stormlive.wire.calibration import Calibration
from stormlive_sim.errors import InputError

MICROTUBULES = "microtubules"


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A simulated camera on a simulated sample.

    Attributes
    ----------
    shape
        Sensor (Y, X) in pixels.
    scene
        ``microtubules``, the name of a scene that ships, or the path of a scene file; whatever that says of sensor
        and exposure, the request's calibration holds.
    """

    shape: tuple[int, int]
    scene: str = MICROTUBULES


@dataclass(frozen=True, kw_only=True)
class Movie:
    """A recorded movie, played by a simulated camera."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class Microscope:
    """A Micro-Manager configuration, and the folder of its device adapters where they are not at hand."""

    config: Path
    mm_dir: Path | None = None


Source: TypeAlias = Simulated | Movie | Microscope


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A run.

    Attributes
    ----------
    source
        Where the frames come from.
    calibration
        The camera's.
    n_frames
        Frames to acquire; None for all of a movie, else for as many as are usual.
    roi
        ``(x, y, width, height)`` of the camera in its pixels; None for all of it.
    model
        As ``--model`` has it.
    out
        Folder for everything.
    save_raw
        Keep the raw data too, as NDTiff.
    stop_when_converged
        End early, when more frames would hardly improve the picture.
    region
        ``(x, y, width, height)`` of the frames that is computed to begin with; None for all of them.
    """

    source: Source
    calibration: Calibration
    n_frames: int | None = None
    roi: Region | None = None
    model: str
    out: Path
    save_raw: bool = True
    stop_when_converged: bool = False
    region: Region | None = None


def parse_region(text: str) -> Region:
    """Return (x, y, width, height) of ``X,Y,WIDTH,HEIGHT``.

    Raises
    ------
    InputError
        When the text is none.
    """
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"expected a region as X,Y,WIDTH,HEIGHT in pixels, such as 128,0,256,256, got {text!r}")
    x, y, width, height = map(int, parts)
    return x, y, width, height
