"""The keys of a chaotic run: of its server, its sender, and the strangers, who may connect as well."""

from pathlib import Path

from stormlive.wire.curve import ALLOWED, CLIENT_SECRET, SERVER_PUBLIC, SERVER_SECRET, KeyPair

KEYS = "keys"


def make_keys(folder: Path) -> None:
    """Make them as ``stormlive keys`` does."""
    server = KeyPair.make()
    (folder / "server" / ALLOWED).mkdir(parents=True)
    server.save_secret(folder / "server" / SERVER_SECRET)
    for name in ("sender", "crowd"):
        own = KeyPair.make()
        (folder / name).mkdir()
        own.save_secret(folder / name / CLIENT_SECRET)
        own.save_public(folder / "server" / ALLOWED / f"{name}.key")
        server.save_public(folder / name / SERVER_PUBLIC)


def keys_of(name: str, folder: Path) -> Path | None:
    """Return where the keys of one of them lie in a run's folder; None for a run without."""
    keys = folder / KEYS / name
    return keys if keys.is_dir() else None
