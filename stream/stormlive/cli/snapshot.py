"""``stormlive snapshot``: the picture of a running server as PNG, without a screen."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stormlive.cli import options
from stormlive.cli.terminal import note
from stormlive.wire.text import counted
from stormlive.wire.transport import DEFAULT_ADDRESS
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.wire.client import LiveClient
    from stormlive.wire.viewing import Status

# A server publishes about five times a second.
_WAIT_S = 5.0
_MOST_PX = 2048


def snapshot(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.png", help="Where the picture goes.")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The server's HOST[:PORT].")] = DEFAULT_ADDRESS,
    keys: options.ClientKeysFolder = None,
) -> None:
    """Save what a running server shows now: widefield beside super-resolved, each with its scale bar."""
    from stormlive.output.preview import Panel, write_side_by_side
    from stormlive.wire.client import LiveClient, status_text
    from stormlive.wire.curve import load_client_keys

    if output.suffix.lower() != ".png":
        raise InputError(f"{output} is to be a picture: give a name that ends in .png")
    options.check_can_write(output)
    with LiveClient(address, keys=load_client_keys(keys)) as client:
        status = _status(client)
        if status is None or status.shape is None or status.upsampling is None:
            raise InputError("the server has no picture yet: no run has begun since it was started")
        level = _level(status.shape, status.upsampling)
        canvas = client.view("canvas", level=level, rounded=True, run=status.run)
        name = None if canvas is None else canvas[0].canvas or None
        widefield = client.view("widefield", canvas=name, rounded=True, run=status.run)
        if canvas is None or widefield is None:
            raise InputError("another run has just begun; try again")
    camera_nm = status.pixel_size_nm or 1.0
    write_side_by_side(
        output,
        [
            Panel(title="Widefield", image=widefield[1], pixel_size_nm=camera_nm, colormap="gray"),
            Panel(
                title=f"{counted(canvas[0].live, 'frame')} of {status.name}",
                image=canvas[1],
                pixel_size_nm=camera_nm / status.upsampling * 2**level,
                note=", ".join([*([name] if name else []), status.model]),
            ),
        ],
    )
    note(f"{status_text(status)}; look at {output}")


def _status(client: "LiveClient") -> "Status | None":
    """Return a status that tells of a picture, if one comes in time."""
    deadline, status = time.monotonic() + _WAIT_S, None
    while time.monotonic() < deadline:
        status = client.status(1.0) or status
        if status is not None and status.state != "opening":
            return status
    return status


def _level(shape: tuple[int, int], upsampling: int) -> int:
    """Return the level to ask for: no finer than is drawn, and one that divides the canvas without rest."""
    level = 0
    while upsampling % 2 ** (level + 1) == 0 and max(shape) * upsampling / 2**level > _MOST_PX:
        level += 1
    return level
