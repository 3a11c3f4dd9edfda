"""A run's table of localizations on its way to disk."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stormlive.output.tables import Rows, Sink, Table
from stormlive.wire.text import one_line

_log = logging.getLogger(__name__)


class RunTable:
    """Gives localizations their frame numbers and writes them; a full disk ends the table, never the picture.

    Parameters
    ----------
    table
        None for one that could not be made, which is its trouble.
    path
        Where it lies.

    Attributes
    ----------
    trouble : str or None
        Why the table is not complete.
    """

    def __init__(self, table: Table | None, trouble: str | None = None, path: Path | None = None) -> None:
        self._table = table
        self.trouble = trouble
        self.path = path

    def sink(self, numbers: Sequence[int]) -> Sink:
        """Return what takes the localizations of a batch whose frames have these numbers in the acquisition."""
        numbers_of_batch = np.array(numbers, np.int64)

        def take(rows: Rows) -> None:
            if self.trouble is not None or self._table is None:
                return
            rows["frame"] = numbers_of_batch[rows["frame"]]
            try:
                self._table.append(rows)
            except Exception as error:
                self._give_up(error)

        return take

    def mark(self) -> dict[str, int] | None:
        """Return how far the table has been written; None where there is none."""
        return None if self._table is None else self._table.mark()

    def sync(self) -> None:
        """Have on disk what was written; OSError when the disk does not take it."""
        if self._table is not None:
            self._table.sync()

    def close(self, n_frames: int) -> None:
        """Close the table of an acquisition of so many frames."""
        try:
            if self._table is not None:
                self._table.close(n_frames)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if self.trouble is None:
            _log.error("the table of localizations ends here: %s", error)
            reason = one_line(error) or type(error).__name__
            self.trouble = one_line(f"the table of localizations is not complete: {reason}")
