"""CURVE keys: their files, and what they make of a socket.

A key is 40 characters of Z85. Its file has the form of ZeroMQ's certificates, which `zmq.auth.load_certificate`
reads; ``NAME.key`` holds a public key, ``NAME.key_secret`` a public and a private one.
"""

import logging
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import zmq

from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)

ALLOWED = "allowed"
SERVER_PUBLIC = "server.key"
SERVER_SECRET = "server.key_secret"
CLIENT_SECRET = "client.key_secret"
# The domain under which the server's sockets ask for authentication. A socket with a domain that is enforced takes
# nobody when there is no answer.
ZAP_DOMAIN = b"stormlive"

_FORM = """#   {kind} key of stormlive
metadata
curve
    public-key = "{public}"
"""


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """A public and a private key in Z85."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def make(cls) -> Self:
        """Return a new pair."""
        public, secret = zmq.curve_keypair()
        return cls(public=public, secret=secret)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a private key's file; InputError when it holds none."""
        public, secret = _read(path)
        if secret is None:
            raise InputError(f"{path} holds no private key; give the folder as `stormlive keys` made it")
        if _public_of(secret) != public:
            raise InputError(f"{path} is damaged: its two keys do not belong together; copy it again")
        if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            _log.warning("others on this machine may read %s: chmod 600 %s", path, path)
        return cls(public=public, secret=secret)

    def save_secret(self, path: Path) -> None:
        """Write both keys to a new file that its owner alone may read."""
        secret_line = f'    secret-key = "{self.secret.decode()}"\n'
        text = _FORM.format(kind="private", public=self.public.decode()) + secret_line
        _write_new(path, text, mode=0o600)

    def save_public(self, path: Path) -> None:
        """Write the public key to a new file."""
        _write_new(path, _FORM.format(kind="public", public=self.public.decode()), mode=0o644)


@dataclass(frozen=True, kw_only=True)
class ServerKeys:
    """The server's own pair, and the public keys of the clients that it lets in.

    `folder` is where the files of the latter lie, which may change while the server runs; None where they do not.
    `always` are let in without a file.
    """

    own: KeyPair
    allowed: frozenset[bytes]
    folder: Path | None = None
    always: frozenset[bytes] = frozenset()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a server's folder.

        Parameters
        ----------
        folder : Path
            ``server`` in what ``stormlive keys`` made: ``server.key_secret``, and ``allowed`` with a ``.key`` of each
            client.

        Raises
        ------
        InputError
            When a key is missing or damaged, or no client is allowed.
        """
        own = KeyPair.load(_existing(folder, SERVER_SECRET, "server"))
        files = sorted((folder / ALLOWED).glob("*.key"))
        if not files:
            raise InputError(
                f"no client may connect: {folder / ALLOWED} holds no .key file; "
                f"stormlive keys --dir {folder.parent} --client NAME makes one"
            )
        return cls(own=own, allowed=frozenset(_read(file)[0] for file in files), folder=folder / ALLOWED)

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket, not bound yet, take encrypted connections of allowed clients alone."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.own.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


@dataclass(frozen=True, kw_only=True)
class ClientKeys:
    """A client's own pair, and the public key of the server that it trusts."""

    own: KeyPair
    server: bytes

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a client's folder: ``client.key_secret`` and ``server.key``; InputError when one is not to be had."""
        own = KeyPair.load(_existing(folder, CLIENT_SECRET, "client"))
        return cls(own=own, server=_read(_existing(folder, SERVER_PUBLIC, "client"))[0])

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket, not connected yet, speak to that server alone, encrypted."""
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.own.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.own.secret)
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.server)


def read_public(path: Path) -> bytes:
    """Return the public key in a file; InputError when it holds none."""
    return _read(path)[0]


def load_client_keys(folder: Path | str | None) -> ClientKeys | None:
    """Return the keys of a client's folder, None for none."""
    return None if folder is None else ClientKeys.load(Path(folder))


def _existing(folder: Path, name: str, role: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise InputError(
            f"{folder} holds no {name}: give a {role}'s folder, one of those that `stormlive keys` made, such as "
            f"stormlive-keys/{role}"
        )
    return path


def _read(path: Path) -> tuple[bytes, bytes | None]:
    """Return the public key and, where there is one, the private key of a file."""
    from zmq.auth import load_certificate  # slow to import, and seldom needed

    try:
        public, secret = load_certificate(path)
    except OSError as error:
        raise InputError(f"cannot read the key {path}: {error.strerror or error}") from None
    except ValueError:
        raise InputError(f"{path} holds no key; copy the file as `stormlive keys` made it") from None
    for key in (public, secret):
        if key is not None:
            _check(key, path)
    return public, secret


def _check(key: bytes, path: Path) -> None:
    try:
        # Any 32 bytes are a private key, so this computes what a key of the right form gives, and fails on others.
        zmq.curve_public(key)
    except (ValueError, zmq.ZMQError):
        raise InputError(f"{path} is damaged: a key has 40 characters of Z85; copy the file again") from None


def _public_of(secret: bytes) -> bytes:
    public: bytes = zmq.curve_public(secret)
    return public


def _write_new(path: Path, text: str, *, mode: int) -> None:
    """Write a file that must not exist, with its permissions from the first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
