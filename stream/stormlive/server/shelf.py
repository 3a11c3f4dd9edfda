"""Where the runs of a server lie under its output folder, and which of them were interrupted."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from stormlive.output import RUN_FILE
from stormlive.output.manifest import refuse_taken_folder
from stormlive.server.checkpoint import CHECKPOINT_DIR, Checkpoint, InUseError
from stormlive.server.ledger import Ledger
from stormlive.wire.messages import Final, Start
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)


class _Record(msgspec.Struct):
    """As much of run.json as a FINAL has."""

    run: UUID | None
    exit_status: str
    frames: dict[str, Any]


class Shelf:
    """Gives every run its folder and finds it again.

    Parameters
    ----------
    out : Path
        Folder for the runs.
    folder_per_run : bool
        Give every run a folder of its own in `out`, named after it; otherwise `out` itself takes the one run.
    files : sequence of str
        A folder that has one of these is another run's.
    """

    def __init__(self, out: Path, *, folder_per_run: bool, files: Sequence[str] = ()) -> None:
        self._out = out
        self._folder_per_run = folder_per_run
        # A table or a checkpoint without a record is that of a run that goes on, or of a server that was killed.
        self._taken = (RUN_FILE, CHECKPOINT_DIR, *files)
        self._folders: dict[UUID, Path] = {}
        self._troubles: list[str] = []

    def folder(self, start: Start) -> Path:
        """Return the folder of a run; of several, one in which no run lies yet: name, name-2, name-3."""
        if not self._folder_per_run:
            return self._out
        if start.run not in self._folders:
            folder, number = self._out / start.name, 1
            while any((folder / file).exists() for file in self._taken):
                number += 1
                folder = self._out / f"{start.name}-{number}"
            self._folders[start.run] = folder
        return self._folders[start.run]

    def checkpoint(self, start: Start) -> Checkpoint:
        """Make the place for the checkpoints of a run that begins."""
        return Checkpoint(self.folder(start) / CHECKPOINT_DIR)

    def trouble(self, text: str) -> None:
        """Note what is wrong with an interrupted run, for the next one that begins."""
        _log.warning("%s", text)
        self._troubles.append(text)

    def troubles(self) -> list[str]:
        """Return what was noted, once."""
        noted, self._troubles = self._troubles, []
        return noted

    def forget(self, start: Start) -> None:
        """Forget where a run lies that is closed."""
        self._folders.pop(start.run, None)

    def interrupted(self) -> list[Checkpoint]:
        """Return the checkpoints of runs that a server before this one did not finish."""
        places = self._out.glob(f"*/{CHECKPOINT_DIR}") if self._folder_per_run else [self._out / CHECKPOINT_DIR]
        found: list[Checkpoint] = []
        for place in sorted(places):
            if place.is_dir():
                try:
                    found.append(Checkpoint(place))
                except InUseError as error:
                    _log.info("%s", error)
                except InputError as error:
                    _log.warning("%s", error)
        return found

    def take_up(self, start: Start, folder: Path) -> None:
        """Note where a run lies that is taken up again."""
        self._folders[start.run] = folder

    def finished(self, start: Start) -> Final | None:
        """Return what the record of a run says that was closed earlier; None when there is none."""
        folder, number = (self._out / start.name if self._folder_per_run else self._out), 1
        while (folder / RUN_FILE).exists():
            final = final_of(folder)
            if final is not None and final.run == start.run:
                return final
            if not self._folder_per_run:
                return None
            number += 1
            folder = self._out / f"{start.name}-{number}"
        return None


def refuse_used_folder(folder: Path) -> None:
    """Raise an InputError where `folder` holds a run, also one that was interrupted: a new one would meet it there."""
    refuse_taken_folder(folder)
    if (folder / CHECKPOINT_DIR).exists():
        raise InputError(
            f"{folder} holds a run that goes on or was interrupted: choose another folder; "
            f"stormlive serve --out {folder.absolute().parent} takes up one that was interrupted and writes its picture"
        )


def final_of(folder: Path) -> Final | None:
    """Return the FINAL of the run whose record lies in `folder`; None when there is no such record."""
    try:
        record = msgspec.json.decode((folder / RUN_FILE).read_bytes(), type=_Record)
    except (OSError, msgspec.MsgspecError):
        return None
    if record.run is None:
        return None
    try:
        return Ledger.from_dict(record.frames).final(record.run, record.exit_status, folder)
    except (KeyError, TypeError, ValueError):
        return None
