"""``stormlive calibrate``: baseline and gain of a camera, as a movie of it shows them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from stormlive.cli.terminal import answers, note
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive_models.judge.camera import Transfer

_SIDE_PX = 512
_MORE = "a movie of some hundred raw frames with bright and dark places, not smoothed, scaled or compressed"


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
    from stormlive_models.judge.camera import LEAST_TILES, dark_baseline

    tiles = _tiles(movie)
    if len(tiles.mean) < LEAST_TILES or not has_light_and_shade(tiles):
        raise InputError(f"{movie} has too few pixels, or they are all as bright; give {_MORE}")
    found, why_not = estimates(tiles)
    if why_not or not found:
        raise InputError(
            f"{movie} tells nothing of its camera: {why_not or 'its noise scatters too much'}; give {_MORE}"
        )
    baseline = None if dark is None else dark_baseline(_tiles(dark))
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


def _tiles(path: Path) -> "Transfer":
    """Return light and noise of some frames' middle, evenly from all of a movie."""
    import numpy as np

    from stormlive.offline.judging import sampled
    from stormlive_models.judge.camera import Transfer, transfer
    from stormlive_sim.recording import Recording

    with Recording.open(path) as movie:
        if len(movie) < 2:
            raise InputError(f"{path} has 1 frame, and noise shows between two; give {_MORE}")
        middle = tuple(slice(max(0, (side - _SIDE_PX) // 2), (side + _SIDE_PX) // 2) for side in movie.shape[1:])
        looks = (np.stack([movie.frame(number)[middle] for number in numbers]) for numbers in sampled(len(movie)))
        return Transfer.join([transfer(frames) for frames in looks])
