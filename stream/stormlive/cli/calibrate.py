"""``stormlive calibrate``: baseline and gain of a camera, as a movie of it shows them."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from stormlive.cli.terminal import answers, note
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stormlive_models.judge.camera import CameraEstimate, Transfer

_SIDE_PX = 512
_MORE = "a movie of some hundred raw frames with bright and dark places, not smoothed, scaled or compressed"
_DARK = "cover the camera, close the shutter and record some 100 frames at the same exposure"


def calibrate(
    movie: Annotated[
        Path,
        typer.Argument(
            metavar="MOVIE", help="Raw frames of the camera, such as blinking emitters: TIFF, NDTiff, Zarr."
        ),
    ],
    dark: Annotated[
        Path | None,
        typer.Option(
            "--dark", metavar="MOVIE", help="Frames of the same camera without any light: they give a better baseline."
        ),
    ] = None,
) -> None:
    """Estimate a camera's baseline and gain from its own frames, for when nobody has its certificate.

    Noise grows with light: by how much is the gain, and where it would end is the baseline (photon transfer).
    """
    from stormlive_models.judge.calibration import estimates, has_light_and_shade, knows_baseline
    from stormlive_models.judge.camera import LEAST_TILES

    tiles = _tiles(_looks(movie, f"give {_MORE}"))
    if len(tiles.mean) < LEAST_TILES or not has_light_and_shade(tiles):
        raise InputError(f"{movie} has too few pixels, or they are all as bright; give {_MORE}")
    found, why_not = estimates(tiles)
    if why_not or not found:
        raise InputError(
            f"{movie} tells nothing of its camera: {why_not or 'its noise scatters too much'}; give {_MORE}"
        )
    baseline = None if dark is None else _dark_baseline(dark, found.values())
    table = Table("if it is", "--baseline-adu", "--photons-per-adu")
    for kind, one in found.items():
        adu, error = (one.baseline_adu, one.baseline_sd) if baseline is None else baseline
        known = baseline is not None or knows_baseline(one)
        table.add_row(
            kind,
            f"{adu:.0f} ± {max(1, error):.0f}" if known else "not known",
            f"{one.photons_per_adu:.3g} ± {one.photons_per_adu_sd:.1g}",
        )
    answers.print(table)
    note("these are photoelectrons: divide --photons-per-adu by the camera's quantum efficiency, 0.7 to 0.95 of most")
    note("the certificate's figures, where you have them, are the better ones")
    if baseline is None:
        note("--dark with some frames of the closed shutter gives a better baseline")


def _dark_baseline(dark: Path, found: "Collection[CameraEstimate]") -> tuple[float, float]:
    """Return the baseline of a dark movie and its spread; what other frames tell of the camera says if it is dark."""
    from stormlive_models.judge.calibration import darkness
    from stormlive_models.judge.camera import dark_baseline

    looks = _looks(dark, _DARK)
    tiles = _tiles(looks)
    if not len(tiles.mean):
        raise InputError(f"{dark} has too few pixels to tell the baseline; {_DARK}")
    state = darkness(looks, found)
    if state.shows_light:
        raise InputError(
            f"{dark} is not dark: where it is brighter it has more noise or blinks, as light does; {_DARK}"
        )
    if state.may_be_lit:
        note(
            f"{dark} may not be dark: it is brighter or has more noise than the dark frames of most cameras. If light "
            f"reached the camera, this baseline is too high: {_DARK}"
        )
    return dark_baseline(tiles)


def _tiles(looks: "Sequence[NDArray[Any]]") -> "Transfer":
    from stormlive_models.judge.camera import Transfer, transfer

    return Transfer.join([transfer(frames) for frames in looks])


def _looks(path: Path, more: str) -> "list[NDArray[Any]]":
    """Return the middle of some frames, evenly from all of a movie; `more` is what to give instead of one frame."""
    import numpy as np

    from stormlive.offline.judging import sampled
    from stormlive_sim.recording import Recording

    with Recording.open(path) as movie:
        if len(movie) < 2:
            raise InputError(f"{path} has 1 frame, and noise shows between two; {more}")
        middle = tuple(slice(max(0, (side - _SIDE_PX) // 2), (side + _SIDE_PX) // 2) for side in movie.shape[1:])
        return [np.stack([movie.frame(number)[middle] for number in numbers]) for numbers in sampled(len(movie))]
