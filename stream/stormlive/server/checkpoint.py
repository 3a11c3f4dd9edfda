"""What a run leaves on disk while it goes on, so that a server that is killed can go on with it.

A checkpoint is one safetensors file: the canvases and all else that the engine needs as tensors, the account of the
frames and the lengths of the tables as JSON in its header, so that they are either all of one moment or not there. It
is written beside the last two, flushed, and renamed; a checksum tells a damaged one.
"""

import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from stormlive.server.canvases import CanvasMoment
from stormlive.server.kept_frames import NeighboursMoment
from stormlive.wire.messages import Start
from stormlive.wire.text import one_line
from stormlive_sim.atomic import whole_file
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)

CHECKPOINT_DIR = "checkpoint"
_KEPT = 2
_PATTERN = "*.safetensors"


class Moment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run at one moment, but for its canvases' arrays."""

    format: Literal["stormlive-checkpoint-2"] = "stormlive-checkpoint-2"
    start: Start
    account: dict[str, Any]
    """`Ledger.as_dict`: exactly the frames whose increments the canvases hold are in the picture."""
    fingerprint: str
    """What computed the canvases: another model must not go on with them."""
    canvases: list[CanvasMoment]
    started_at: datetime
    seconds: float
    notices: list[str]
    ending: tuple[str, int | None] | None
    """Exit status and number of frames of a run of which only the files remain to be written."""
    neighbours: NeighboursMoment | None = None
    """What is kept for the frames beside it, where the model looks at them."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that was read back."""

    moment: Moment
    arrays: dict[str, NDArray[Any]]


class InUseError(InputError):
    """Another server has the run."""


class Checkpoint:
    """The checkpoints of one run, in a folder that no other server may use meanwhile.

    Raises
    ------
    InputError
        When the folder cannot be made or another server has it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("ab", buffering=0)
        except OSError as error:
            raise InputError(f"cannot keep checkpoints in {folder}: {error.strerror or error}") from error
        if not _locked(self._lock):
            self._lock.close()
            raise InUseError(f"another server is at work in {folder}")
        self._generation = max((_generation(path) for path in folder.glob(_PATTERN)), default=0)

    def write(self, moment: Moment, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a checkpoint and forget all older ones but the last.

        Raises
        ------
        InputError
            When the disk does not take it; what was written before is untouched.
        """
        text = msgspec.json.encode(moment).decode()
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        path = self.folder / f"{self._generation + 1:08d}.safetensors"
        try:
            with whole_file(path) as part:
                save_file(whole, part, {"moment": text, "sha256": _digest(text, whole)})
            _sync(self.folder)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error
        self._generation += 1
        for old in sorted(self.folder.glob(_PATTERN))[:-_KEPT]:
            with suppress(OSError):
                old.unlink()

    def read(self) -> tuple[Kept | None, list[str]]:
        """Return the newest checkpoint that is whole, and in words what is wrong with newer ones."""
        troubles: list[str] = []
        for path in sorted(self.folder.glob(_PATTERN), reverse=True):
            try:
                return _read(path), troubles
            # Whatever a damaged file makes its readers raise, it is damaged.
            except Exception as error:
                troubles.append(one_line(f"the checkpoint {path.name} is damaged ({error})", 200))
                _log.warning("%s", troubles[-1])
                with suppress(OSError):
                    path.replace(path.with_suffix(".damaged"))
        return None, troubles

    def release(self) -> None:
        """Let other servers have the folder."""
        self._lock.close()

    def remove(self) -> None:
        """Forget the run: its files are written."""
        for path in self.folder.glob(_PATTERN):
            with suppress(OSError):
                path.unlink()
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _generation(path: Path) -> int:
    return int(path.stem) if path.stem.isdecimal() else 0


def _read(path: Path) -> Kept:
    with safe_open(path, framework="np") as file:
        header: dict[str, str] = file.metadata()
        arrays: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _digest(header["moment"], arrays) != header["sha256"]:
        raise InputError("its checksum is wrong")
    return Kept(moment=msgspec.json.decode(header["moment"], type=Moment), arrays=arrays)


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    """Have the rename itself on disk, where a folder can be flushed."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _locked(file: FileIO) -> bool:
    """Lock a file until it is closed, or its process ends in whatever way."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
