"""``stormlive view``: the window on a running server, or on the folder of a finished run."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from stormlive.cli import options
from stormlive.cli.terminal import note
from stormlive.wire.transport import DEFAULT_ADDRESS
from stormlive_sim.errors import InputError


def view(
    what: Annotated[
        str,
        typer.Argument(metavar="[ADDRESS|FOLDER]", help="A server's HOST[:PORT], or the folder of an ended run."),
    ] = DEFAULT_ADDRESS,
    keys: options.ClientKeysFolder = None,
) -> None:
    """Open the window on a running server: join and leave at any time, as often and as many as you like.

    It only looks: closing it, or losing the connection, changes nothing for the run. With a folder it shows the
    pictures of a run that has ended. F1 in the window lists the keys.
    """
    from stormlive.viewer.remote import RemoteView
    from stormlive.viewer.saved import SavedView
    from stormlive.viewer.screen import has_display
    from stormlive.viewer.window import run_window
    from stormlive.wire.client import LiveClient
    from stormlive.wire.curve import load_client_keys

    if Path(what).is_dir():
        with closing(SavedView(Path(what))) as saved:
            _require_screen(has_display())
            run_window(saved, f"stormlive – {what}", whole=saved.whole)
        return
    client_keys = load_client_keys(keys)
    # What is wrong with the address is said before a window opens.
    try:
        with LiveClient(what, keys=client_keys) as client:
            address = client.address
    except InputError as error:
        if ":" in what:
            raise
        raise InputError(f"there is no folder {what} here; if it is a computer: {error}") from None
    _require_screen(has_display())
    remote = RemoteView(address, keys=client_keys)
    note(f"watching {address}; close the window or press Ctrl-C to leave, the run goes on")
    try:
        run_window(remote, f"stormlive – {address}", whole=remote.whole, steer=remote.steer)
    except KeyboardInterrupt:
        pass
    finally:
        remote.close()


def _require_screen(there: bool) -> None:
    if not there:
        raise InputError("there is no screen for a window; `stormlive snapshot ADDRESS -o view.png` needs none")
