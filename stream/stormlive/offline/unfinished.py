"""The sum of a picture so far, in a folder beside the picture, so that the next run goes on from there.

One safetensors file holds the arrays, and in its header which stretches of frames are in them; it is written beside the
last one and renamed. Localizations have a file for each stretch, which counts only when that header names it.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from stormlive.offline.part import Partial
from stormlive.offline.picture import Picture
from stormlive.output.tables import LOCALIZATION, Rows
from stormlive.ranges import Ranges
from stormlive_sim.atomic import whole_file
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)

_SUM = "sum.safetensors"
# Writing a sum of 1 GB takes seconds: the next time is due when this many times as long has passed.
_PAUSE = 20


class Unfinished:
    """A picture of which some frames are summed.

    Parameters
    ----------
    picture : Picture
        Its folder is made here; whoever writes the picture removes it.
    fingerprint : str
        Of movie, model, calibration and what is asked for: a sum of anything else is not gone on with.

    Attributes
    ----------
    total : Partial
        The arrays; empty before the first stretch.
    written : bool
        Whether the picture was made of it already, by a run that ended before its other pictures were.

    Raises
    ------
    InputError
        When the folder cannot be made or read.
    """

    def __init__(self, picture: Picture, fingerprint: str) -> None:
        self.folder = folder = picture.folder
        self._marker = marker = picture.marker
        self.total: Partial = {}
        self._fingerprint = fingerprint
        self._n_frames = len(picture.movie)
        self._stretches: list[tuple[int, int]] = []
        self._saved = True
        self._next_save = 0.0
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make {folder} for the unfinished sum: {error.strerror or error}") from error
        self.written = marker.exists() and marker.read_text(encoding="utf-8") == fingerprint
        if (folder / _SUM).exists():
            self._go_on()

    def _go_on(self) -> None:
        try:
            with safe_open(self.folder / _SUM, framework="np") as file:
                header: dict[str, str] = file.metadata()
                if header["fingerprint"] != self._fingerprint:
                    _log.warning("%s is of another movie, model or calibration: starting anew", self.folder)
                    return
                total = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            self._stretches = [(int(first), int(end)) for first, end in json.loads(header["stretches"])]
            self.total = total
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            _log.warning("the unfinished sum in %s is damaged (%s): starting anew", self.folder, error)

    @property
    def done(self) -> Ranges:
        """Frames that are in the sum."""
        return Ranges((first, end - 1) for first, end in self._stretches)

    def add(self, first: int, end: int, partial: Partial) -> None:
        """Add the partial sum of the frames `first` to before `end`, and save it now or soon.

        Raises
        ------
        InputError
            When the disk does not take it.
        """
        rows = partial.pop("rows", None)
        if rows is not None:
            columns = {name: np.ascontiguousarray(rows[name]) for name in LOCALIZATION.names or ()}
            with whole_file(self._rows_file(first, end)) as part:
                save_file(columns, part)
        if self.total:
            # In place: it may be a gigabyte.
            for name in ("counts", "grid", "sum"):
                self.total[name] += partial[name]
            if end == self._n_frames:
                self.total["last"] = partial["last"]
        else:
            self.total = {name: np.array(array) for name, array in partial.items()}
        self._stretches.append((first, end))
        self._saved = False
        if time.monotonic() >= self._next_save:
            self.save()

    def save(self) -> None:
        """Write the sum, unless it is written."""
        if self._saved:
            return
        started = time.monotonic()
        header = {"fingerprint": self._fingerprint, "stretches": json.dumps(self._stretches)}
        with whole_file(self.folder / _SUM) as part:
            save_file(self.total, part, header)
        self._saved = True
        now = time.monotonic()
        self._next_save = now + _PAUSE * (now - started)

    def rows(self) -> Iterator[Rows]:
        """Yield the localizations in the order of the frames."""
        for first, end in sorted(self._stretches):
            columns = load_file(self._rows_file(first, end))
            rows = np.empty(len(columns["frame"]), LOCALIZATION)
            for name, column in columns.items():
                rows[name] = column
            yield rows

    def finish(self) -> None:
        """Keep nothing but that the picture is written."""
        with whole_file(self._marker) as part:
            part.write_text(self._fingerprint, encoding="utf-8")
        self.written = True
        self.total = {}
        for file in self.folder.glob("*.safetensors"):
            with suppress(OSError):
                file.unlink()

    def _rows_file(self, first: int, end: int) -> Path:
        return self.folder / f"{first}-{end}.safetensors"
