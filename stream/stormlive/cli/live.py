"""The server behind a live picture: one that is running, or one of the command's own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from stormlive.server.pixel_sizes import check_pixel_size
from stormlive.server.process import ServerProcess, ServerSettings
from stormlive.server.shelf import refuse_used_folder
from stormlive.wire.client import LiveClient
from stormlive.wire.curve import load_client_keys


def own_server(out: Path, *, model: str, device: str, localizations: Path | None) -> ServerSettings:
    """Return how to run a server for one run, whose files go to `out` itself."""
    return ServerSettings(
        bind="tcp://127.0.0.1:0",
        model=model,
        device=device,
        out=out,
        folder_per_run=False,
        localizations=localizations,
    )


def told_tables(table: Path | None) -> str:
    """Return where the localizations of a run that has ended lie, as the end of a sentence; empty without any."""
    if table is None:
        return ""
    # Of several canvases each has a table of its own.
    tables = [table] if table.exists() else sorted(table.parent.glob(f"{table.stem}_*{table.suffix}"))
    return f"; localizations: {', '.join(map(str, tables))}" if tables else ""


@contextlib.contextmanager
def connected(server: str | None, keys: Path | None, own: ServerSettings, pixel_size_nm: float) -> Iterator[LiveClient]:
    """Connect to the server at an address, or run one of our own meanwhile.

    Raises
    ------
    InputError
        When it cannot start, its folder is another run's, or its model does not take the camera's pixels.
    ConnectionError
        When none answers.
    """
    client_keys = load_client_keys(keys)
    with contextlib.ExitStack() as stack:
        if server is None:
            refuse_used_folder(own.out)
            server = stack.enter_context(ServerProcess(own)).address
        client = stack.enter_context(LiveClient(server, keys=client_keys))
        welcome = client.welcome
        if welcome.model_takes_nm:
            check_pixel_size(welcome.model, welcome.model_takes_nm, pixel_size_nm)
        yield client
