"""``stormlive view``: the window on a running server, or on the folder of a finished run."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from stormlive.cli import options
from stormlive.cli.terminal import note
from stormlive.wire.transport import DEFAULT_ADDRESS
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.wire.client import LiveClient

# A server tells of each of its runs about five times a second.
_LISTEN_S = 1.0


def view(
    what: Annotated[
        str,
        typer.Argument(metavar="ADDRESS|FOLDER", help="A server's HOST[:PORT], or the folder of an ended run."),
    ] = DEFAULT_ADDRESS,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="NAME",
            help="Stay with the run of this name, on a server that has several; by default always the newest one.",
        ),
    ] = None,
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
        if run is not None:
            raise InputError("--run chooses among the runs of a server, and a folder has one; leave it out")
        with closing(SavedView(Path(what))) as saved:
            if not has_display():
                preview = min(Path(what).glob("preview*.png"), default=Path(what))
                raise InputError(f"there is no screen for a window; what it would show is in {preview}")
            run_window(saved, f"stormlive – {what}", whole=saved.whole)
        return
    client_keys = load_client_keys(keys)
    # What is wrong with the address is said before a window opens.
    try:
        client = LiveClient(what, keys=client_keys)
    except InputError as error:
        if ":" in what:
            raise
        raise InputError(f"there is no folder {what} here; if it is a computer: {error}") from None
    with client:
        address = client.address
        identity = None if run is None else _run_named(run, client)
    if not has_display():
        raise InputError("there is no screen for a window; `stormlive snapshot ADDRESS -o view.png` needs none")
    remote = RemoteView(address, keys=client_keys, run=None if run is None else lambda: identity)
    note(f"watching {address}; close the window or press Ctrl-C to leave, the run goes on")
    try:
        title = f"stormlive – {address}" if run is None else f"stormlive – {run} on {address}"
        run_window(
            remote, title, whole=remote.whole, steer=remote.steer, waits_for=remote.waits_for, leave=remote.leave
        )
    except KeyboardInterrupt:
        pass
    finally:
        remote.close()


def _run_named(name: str, client: "LiveClient") -> UUID:
    """Return the run of that name, the newest of several."""
    told = [status for status in client.statuses(_LISTEN_S) if status.run is not None]
    for status in reversed(told):
        if status.name == name and status.run is not None:
            return status.run
    names = ", ".join(sorted({status.name for status in told})) or "none"
    raise InputError(f"expected the name of a run on {client.address}, got {name!r}; the runs there: {names}")
