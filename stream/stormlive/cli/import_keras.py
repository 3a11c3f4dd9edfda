"""``stormlive import-keras``: weights of the original Deep-STORM code as a model of stormlive."""

from pathlib import Path
from typing import Annotated

import typer

from stormlive.cli import options
from stormlive.cli.terminal import note


def import_keras(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS.hdf5", help="What the original's Training.py saved.")],
    meanstd: Annotated[Path, typer.Argument(metavar="MEANSTD.mat", help="The scaling that it saved beside it.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="MODEL.safetensors", help="The model that is made.")
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the model; the weights' file name unless given.")
    ] = "",
    overwrite: options.Overwrite = False,
    pixel_size_nm: options.PixelSize = options.DEFAULT_PIXEL_SIZE_NM,
) -> None:
    """Import weights of the original Deep-STORM code (2018, Keras).

    Use the result like any other model:
    [bold]stormlive reconstruct MOVIE.tif -o OUT.ome.tif --model MODEL.safetensors[/bold].
    """
    from stormlive_models.checkpoint import save_model
    from stormlive_models.keras_import import import_keras as read_keras

    options.check_can_write(output)
    options.refuse_existing([output], overwrite=overwrite)
    network, card = read_keras(weights, meanstd, name=name or weights.stem, pixel_size_nm=pixel_size_nm)
    save_model(output, network, card)
    parameters = sum(p.numel() for p in network.parameters())
    note(f"wrote {output}: {parameters:,} parameters, mean {network.mean:.5f}, std {network.std:.5f}")
