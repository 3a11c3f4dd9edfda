"""The canvases of one run: one for each route of its frames, made when the first frame of the route comes."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from numpy.typing import NDArray

from stormlive.server.protocols import Canvas, Engine, OpenTable, Reconstruction
from stormlive.server.run_table import RunTable
from stormlive.wire.messages import Start
from stormlive.wire.text import one_line
from stormlive.wire.viewing import MAX_CANVASES
from stormlive_sim.errors import InputError
from stormlive_sim.routes import Route, name_of, widest_axis

_log = logging.getLogger(__name__)


class CanvasMoment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A canvas at one moment, but for its arrays."""

    route: Route | None
    name: str
    n_frames: int
    table: dict[str, int] | None
    table_trouble: str | None


def below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


class Canvases:
    """The canvases of a run in the order in which they were begun; there is always one.

    The engine's thread makes them, other threads may look at `all`.

    Parameters
    ----------
    moments
        Those of a run that is taken up again: then follow `restore` and `open_tables`. Otherwise the first canvas is
        made for a route that is not known yet, so that an engine that does not take the camera says so before any
        frame comes.

    Attributes
    ----------
    all
        At least one.

    Raises
    ------
    InputError
        The engine does not take the camera, or there can be no table.
    """

    def __init__(
        self, start: Start, engine: Engine, open_table: OpenTable, moments: list[CanvasMoment] | None = None
    ) -> None:
        self._start = start
        self._engine = engine
        self._open_table = open_table
        self.all: tuple[Canvas, ...] = ()
        if moments is None:
            self.all = (Canvas(reconstruction=self._open(), table=open_table(start)),)
        for moment in moments or ():
            canvas = Canvas(
                reconstruction=self._open(),
                table=None,
                route=moment.route,
                name=moment.name,
                n_frames=moment.n_frames,
            )
            self.all = (*self.all, canvas)

    @property
    def first(self) -> Canvas:
        """The canvas that was begun first; in upsampling, model and fingerprint the others are like it."""
        return self.all[0]

    @property
    def names(self) -> tuple[str, ...]:
        """What viewers call them; empty where there is nothing to choose from."""
        return tuple(canvas.name for canvas in self.all) if len(self.all) > 1 else ()

    def named(self, name: str | None) -> Canvas | None:
        """Return the canvas of that name, the one that was begun last where there is no name; None: no such canvas.

        That one follows an acquisition that goes from place to place, and stays where it is in one that alternates.
        """
        if name is None:
            return self.all[-1]
        return next((canvas for canvas in self.all if canvas.name == name), None)

    def of(self, route: Route) -> Canvas:
        """Return the canvas of a route, a new one if need be.

        Raises
        ------
        InputError
            There can be no more of them; the message is the same for all places on an axis.
        """
        for canvas in self.all:
            if canvas.route in (route, None):
                if canvas.route is None:
                    canvas.route, canvas.name = route, name_of(route)
                return canvas
        refusal = f"no canvas for one more {widest_axis([*(canvas.route or () for canvas in self.all), route])}"
        if len(self.all) >= MAX_CANVASES:
            raise InputError(f"{refusal}: a run has {MAX_CANVASES}, and frames are summed along time, t or frame only")
        try:
            reconstruction = self._open()
        except InputError as error:
            raise InputError(f"{refusal}: {error}") from error
        name = name_of(route, [canvas.name for canvas in self.all])
        canvas = Canvas(reconstruction=reconstruction, table=self._table(name), route=route, name=name)
        self.all = (*self.all, canvas)
        return canvas

    def moments(self) -> list[CanvasMoment]:
        """Return all of them as they are now, but for their arrays."""
        return [
            CanvasMoment(
                route=canvas.route,
                name=canvas.name,
                n_frames=canvas.n_frames,
                table=None if canvas.table is None else canvas.table.mark(),
                table_trouble=None if canvas.table is None else canvas.table.trouble,
            )
            for canvas in self.all
        ]

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return copies of all that depends on the frames so far."""
        return {
            f"{number}/{name}": array
            for number, canvas in enumerate(self.all)
            for name, array in canvas.reconstruction.snapshot().items()
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a snapshot; InputError when it is not one of such canvases."""
        for number, canvas in enumerate(self.all):
            canvas.reconstruction.restore(below(arrays, f"{number}/"))

    def open_tables(self, moments: list[CanvasMoment]) -> None:
        """Go on with the tables from where they had been written to; InputError when they are not there."""
        for canvas, moment in zip(self.all, moments, strict=True):
            if moment.table is not None:
                canvas.table = self._open_table(self._start, moment.name, moment.table)
                if canvas.table is not None:
                    canvas.table.trouble = moment.table_trouble
            elif moment.table_trouble is not None:
                canvas.table = RunTable(None, moment.table_trouble)

    def sync_tables(self) -> None:
        """Have on disk what was written to the tables; OSError when the disk does not take it."""
        for table in self._tables():
            table.sync()

    def close_tables(self, n_frames: int) -> None:
        """Close the tables of an acquisition of so many frames."""
        for table in self._tables():
            table.close(n_frames)

    def table_trouble(self) -> str | None:
        """Return why a table is not complete."""
        return next((table.trouble for table in self._tables() if table.trouble is not None), None)

    def _tables(self) -> list[RunTable]:
        return [canvas.table for canvas in self.all if canvas.table is not None]

    def _open(self) -> Reconstruction:
        start = self._start
        return self._engine.open(start.shape, start.calibration, beside=len(self.all))

    def _table(self, name: str) -> RunTable | None:
        """Return the table of one more canvas: where it cannot be made, the picture goes on without."""
        try:
            return self._open_table(self._start, name)
        except InputError as error:
            _log.warning("%s", error)
            return RunTable(None, one_line(f"there is no table of localizations of {name}: {error}"))
