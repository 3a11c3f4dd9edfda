"""What the window shows, fetched from a running server."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeAlias
from uuid import UUID

import numpy as np
from msgspec import structs

from stormlive.viewer.trouble import waits_for
from stormlive.viewer.view import LiveView, Picture, Visible
from stormlive.wire import fields
from stormlive.wire.client import LiveClient, status_text
from stormlive.wire.curve import ClientKeys
from stormlive.wire.viewing import Judgement, Status, Viewed
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)

_LEVEL_SIDE = 512
# Of the visible part, on each side: panning shows what is there until the next picture comes.
_MARGIN = 0.125
# A server publishes about five times a second, with or without a run.
_SILENCE_S = 5.0
_ENDED_S = 1.0
_RECONNECT_S = 1.0
# The mean of thousands of frames hardly changes, and is the larger part of what travels of a camera's whole field.
_SLOW_S = 0.5
_STRIP_BYTES = 16 * 2**20


class _Asked(NamedTuple):
    """What a view was fetched for: level and rectangle (y, x, height, width) of the canvas, and what is wanted."""

    level: int
    rectangle: tuple[int, int, int, int]
    canvas: str | None
    last: bool
    errors: bool
    corrected: bool


# Gets a picture, the size of its pixels, the level, the rectangle and the canvas' name.
_Fetch: TypeAlias = Callable[
    [fields.Picture, float, int, tuple[int, int, int, int], str | None], tuple[Picture, Viewed] | None
]


class RemoteView:
    """Fetches the visible part of a run, at the level that the screen resolves.

    Called from one thread; the connection is made at the first call, in that thread. When it is lost later, the
    last view says so, and the server is looked for again.

    Parameters
    ----------
    address : str
        The server's data address.
    keys : ClientKeys or None
        For a server with keys.
    token : bytes
        With which may be chosen what of a run's frames is computed; empty where nobody gave one.
    run : callable or None
        Returns which run it is, None as long as there is none; without it, it is always the newest.
    """

    def __init__(
        self,
        address: str,
        *,
        keys: ClientKeys | None = None,
        token: bytes = b"",
        run: Callable[[], UUID | None] | None = None,
    ) -> None:
        self._address = address
        self._keys = keys
        self._token = token
        self._run = run
        self._client: LiveClient | None = None
        self._status: Status | None = None
        # When the server told of the run last, or the connection was made; 0: never.
        self._told_at = 0.0
        self._shown: tuple[Status, _Asked] | None = None
        self._view: LiveView | None = None
        self._slow_at = 0.0
        self._lost = False

    def __call__(self, visible: Visible) -> LiveView | None:
        """Return the view, or None while there is nothing new.

        Raises
        ------
        ConnectionError
            When there was no answer from the beginning.
        """
        try:
            if self._client is None:
                timeout_s = _RECONNECT_S if self._lost else _SILENCE_S
                self._client = LiveClient(self._address, timeout_s, keys=self._keys)
                self._told_at, self._lost = time.monotonic(), False
            return self._fetch(self._client, visible)
        except ConnectionError as error:
            if not self._told_at:
                raise
            if not self._lost:
                _log.info("%s; looking for the server again", error)
            self.close()
            self._lost = True
            self._shown = None
            text = "the server does not answer; looking for it again"
            return None if self._view is None else replace(self._view, status=text, report=None)

    def waits_for(self) -> str:
        """Return in plain words what has to come before there is a view; any thread may ask."""
        status, where = self._status, f"the server at {self._address.removeprefix('tcp://')}"
        if self._lost:
            return f"{where[0].upper()}{where[1:]} does not answer; looking for it again …"
        if self._client is None:
            return f"Connecting to {where} …"
        if status is not None and status.run is not None:
            return waits_for(status)
        begins = "It waits for an acquisition to begin." if self._run is None else "It waits for the run's first frame."
        ready = "" if status is None else f" (model {status.model} on {status.device})"
        return f"{where[0].upper()}{where[1:]} is ready{ready}.\n{begins}"

    def _fetch(self, client: LiveClient, visible: Visible) -> LiveView | None:
        self._listen(client)
        status = self._status
        if status is None or status.run is None or status.shape is None or status.upsampling is None:
            return None
        height, width = status.shape
        sub_nm = _pixel_nm(status) / status.upsampling
        shape = height * status.upsampling, width * status.upsampling
        levels = 1 + max(0, math.ceil(math.log2(max(shape) / _LEVEL_SIDE)))
        level, rectangle = visible.with_margin(_MARGIN).level_and_rectangle(
            shape=shape, pixel_size_nm=sub_nm, levels=levels
        )
        names = status.canvases or ()
        wanted = visible.canvas if visible.canvas in names else None
        asked = _Asked(level, rectangle, wanted, visible.last, visible.errors, visible.corrected)
        if self._shown == (status, asked):
            return None
        view = self._ask(client, status, asked)
        if view is not None:
            self._shown, self._view = (status, asked), view
        return view

    def _listen(self, client: LiveClient) -> None:
        """Take up what the server says of the run."""
        run = None if self._run is None else self._run()
        status = client.status(0.0, run)
        if status is not None and (self._run is None or status.run in (run, None)):
            self._status, self._told_at = status, time.monotonic()
        if time.monotonic() - client.heard_at > _SILENCE_S:
            raise ConnectionError(f"the server has said nothing for {_SILENCE_S:g} s")
        known = self._status
        if known is not None and known.run is not None and client.heard_at - self._told_at > _ENDED_S:
            # A server tells of the runs that go on; of one that has ended only where there are no others.
            self._status = structs.replace(known, state="finished")

    def _ask(self, client: LiveClient, status: Status, asked: _Asked) -> LiveView | None:
        pixel_nm, upsampling = _pixel_nm(status), status.upsampling or 1
        size_nm = pixel_nm / upsampling * 2**asked.level
        top, left, rows, columns = asked.rectangle
        rectangle = left, top, columns, rows
        fetch = partial(_fetched, client, status.run)
        found = fetch("corrected", size_nm, asked.level, rectangle, asked.canvas) if asked.corrected else None
        corrected = found is not None
        found = found or fetch("canvas", size_nm, asked.level, rectangle, asked.canvas)
        if found is None:
            return None
        # Not those of another canvas, which may have been begun meanwhile.
        superres, header = found
        canvas = header.canvas or None
        same = self._shown is not None and self._shown[0].run == status.run and self._shown[1] == asked
        widefield, errors = self._slow(fetch, asked, canvas, superres, pixel_nm, same=same)
        if widefield is None:
            return None
        height, width = status.shape or (0, 0)
        return LiveView(
            widefield=widefield,
            superres=superres,
            field_nm=(height * pixel_nm, width * pixel_nm),
            status=status_text(status),
            report=status,
            canvases=status.canvases or (),
            canvas=canvas or "",
            last=asked.last,
            errors=errors,
            corrected=corrected,
            judgement=_judgement(status, header),
        )

    def _slow(
        self,
        fetch: _Fetch,
        asked: _Asked,
        canvas: str | None,
        superres: Picture,
        pixel_nm: float,
        *,
        same: bool,
    ) -> tuple[Picture | None, Picture | None]:
        """Return what changes slowly, widefield and map of errors: as they were, where they are fresh enough."""
        before = self._view
        same = same and before is not None and before.canvas == (canvas or "")
        if same and before is not None and not asked.last and time.monotonic() - self._slow_at < _SLOW_S:
            return before.widefield, before.errors
        self._slow_at = time.monotonic()
        x, y = math.floor(superres.x_nm / pixel_nm), math.floor(superres.y_nm / pixel_nm)
        rows, columns = (math.ceil(n * superres.pixel_size_nm / pixel_nm) + 1 for n in superres.pixels.shape)

        def part(name: fields.Picture) -> Picture | None:
            found = fetch(name, pixel_nm, 0, (x, y, columns, rows), canvas)
            return None if found is None else found[0]

        return part("last" if asked.last else "widefield"), part("errors") if asked.errors else None

    def whole(self, canvas: str | None) -> Picture:
        """Return the whole canvas of a name (None: the one that was begun last) at its finest.

        It comes in strips, between which the run goes on: the last ones may hold a few frames more.

        Raises
        ------
        InputError
            When there is none.
        ConnectionError
            When the server does not answer.
        """
        status, client = self._status, self._client
        if client is None or status is None or status.shape is None or status.upsampling is None:
            raise InputError("there is no canvas yet; wait for the first frames")
        height, width = (side * status.upsampling for side in status.shape)
        pixels = np.empty((height, width), np.float32)
        most = max(1, _STRIP_BYTES // (4 * width))
        for y in range(0, height, most):
            found = client.view("canvas", rectangle=(0, y, width, most), canvas=canvas, run=status.run)
            if found is None or found[1].shape != (min(most, height - y), width):
                raise InputError("the canvas is gone: another run has begun; save again")
            pixels[y : y + most] = found[1]
            canvas = found[0].canvas or canvas
        return Picture(pixels=pixels, pixel_size_nm=_pixel_nm(status) / status.upsampling)

    def steer(self, region: fields.Region | None) -> str:
        """Have frames computed in a region only, or all over again; return what is to be said of it.

        Raises
        ------
        InputError
            When there is no run, or the server refuses.
        ConnectionError
            When it does not answer.
        """
        client, status = self._client, self._status
        if client is None or status is None or status.run is None:
            raise InputError("there is no run whose frames could be computed")
        computed = client.steer(status.run, region, self._token)
        if computed is None:
            return "from now on the whole frames are computed"
        x, y, width, height = computed
        where = f"{width} × {height} camera pixels at {x}, {y}"
        return f"from now on only {where} are computed; elsewhere the picture stays as it is"

    def leave(self) -> None:
        """Wait for no answer any more: nobody will look; from any thread."""
        client = self._client
        if client is not None:
            client.leave()

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _judgement(status: Status, header: Viewed) -> Judgement | None:
    """Return the judgement of the canvas that came; of the only one STATUS has it."""
    if header.judgement or not status.judgement:
        return header.judgement or None
    return status.judgement if status.judgement.canvas == (header.canvas or "") else None


def _pixel_nm(status: Status) -> float:
    return status.pixel_size_nm or 1.0


def _fetched(
    client: LiveClient,
    run: UUID | None,
    name: fields.Picture,
    size_nm: float,
    level: int,
    rectangle: tuple[int, int, int, int],
    canvas: str | None,
) -> tuple[Picture, Viewed] | None:
    """Return a rectangle of a picture in pixels of that size, and what the server says of it."""
    found = client.view(
        name, level=level, rectangle=rectangle, canvas=canvas, rounded=True, contrast=name != "errors", run=run
    )
    if found is None:
        return None
    header, pixels = found
    x_nm, y_nm, contrast = header.x * size_nm, header.y * size_nm, header.contrast or None
    picture = Picture(pixels=pixels, pixel_size_nm=size_nm, x_nm=x_nm, y_nm=y_nm, contrast=contrast)
    return picture, header
