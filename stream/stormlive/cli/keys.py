"""``stormlive keys``: the keys that let clients elsewhere in the network use a server, and nobody else."""

import os
from pathlib import Path
from typing import Annotated

import typer

from stormlive.cli.terminal import answers
from stormlive.wire.curve import ALLOWED, CLIENT_SECRET, SERVER_PUBLIC, SERVER_SECRET, KeyPair, ServerKeys
from stormlive.wire.run_name import check_run_name
from stormlive_sim.errors import InputError

_SERVER = "server"


def keys(
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where the folders of keys go; made if it is not there.")
    ] = Path("stormlive-keys"),
    clients: Annotated[
        list[str] | None,
        typer.Option("--client", metavar="NAME", help="A machine that may connect; may be given several times."),
    ] = None,
) -> None:
    """Make the keys with which a server takes frames from other machines, encrypted.

    One folder is for the server and one for each client. Run it again with --client NAME to let another client in;
    nothing that exists is overwritten.
    """
    names = clients or ["client"]
    for name in names:
        if check_run_name(name).lower() in (_SERVER, ALLOWED) or names.count(name) > 1:
            raise InputError(f"expected a name of its own for every client, got {name!r}; give another --client")
        for taken in (folder / name, folder / _SERVER / ALLOWED / f"{name}.key"):
            if taken.exists():
                raise InputError(
                    f"{taken} exists, and keys are never overwritten: give another --client NAME or another --dir"
                )
    server = folder / _SERVER
    if (server / SERVER_SECRET).exists():
        pair = KeyPair.load(server / SERVER_SECRET)
    else:
        pair = KeyPair.make()
        (server / ALLOWED).mkdir(parents=True, exist_ok=True)
        pair.save_secret(server / SERVER_SECRET)
    for name in names:
        _make_client(folder / name, pair, server / ALLOWED / f"{name}.key")
    allowed = len(ServerKeys.load(server).allowed)
    _say(folder, names, allowed)


def _make_client(folder: Path, server: KeyPair, public: Path) -> None:
    own = KeyPair.make()
    folder.mkdir()
    own.save_secret(folder / CLIENT_SECRET)
    server.save_public(folder / SERVER_PUBLIC)
    own.save_public(public)


def _say(folder: Path, names: list[str], allowed: int) -> None:
    tell = [f"made: {', '.join(str(folder / name) for name in names)}; {allowed} may connect to {folder / _SERVER}"]
    tell += [
        f"1. The server's machine keeps {folder / _SERVER}. Start: stormlive serve --bind 0.0.0.0 "
        f"--keys {folder / _SERVER}",
        f"2. The client's machine gets {folder / names[0]}, by a safe way such as a USB stick or scp; delete it here.",
        f"3. There: stormlive acquire --server tcp://SERVER:5557 --keys {names[0]}, or in a script "
        f'StreamHook("tcp://SERVER:5557", keys="{names[0]}", ...)',
        f"Who is no longer to connect: delete its file in {folder / _SERVER / ALLOWED}.",
        "Whoever has a file that ends in .key_secret can be that machine: show it to nobody. "
        + (
            "Only you can read it here."
            if os.name == "posix"
            else "On Windows it has its folder's permissions: keep it in your user folder, which others cannot read."
        ),
    ]
    for line in tell:
        answers.print(line, soft_wrap=True, markup=False)
