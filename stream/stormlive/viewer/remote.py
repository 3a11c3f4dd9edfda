"""What the window shows, fetched from a running server."""

import logging
import math
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from stormlive.viewer.view import LiveView, Picture, Visible
from stormlive.wire import fields
from stormlive.wire.client import LiveClient, status_text
from stormlive.wire.curve import ClientKeys
from stormlive.wire.viewing import Status
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)

_LEVEL_SIDE = 512
# Of the visible part, on each side: panning shows what is there until the next picture comes.
_MARGIN = 0.125
# A server publishes about five times a second, with or without a run.
_SILENCE_S = 5.0
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


class RemoteView:
    """Fetches the visible part of the newest run, at the level that the screen resolves.

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
    """

    def __init__(self, address: str, *, keys: ClientKeys | None = None, token: bytes = b"") -> None:
        self._address = address
        self._keys = keys
        self._token = token
        self._client: LiveClient | None = None
        self._status: Status | None = None
        self._heard_at = 0.0
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
                self._heard_at, self._lost = time.monotonic(), False
            return self._fetch(self._client, visible)
        except ConnectionError as error:
            if self._status is None and not self._lost:
                raise
            if not self._lost:
                _log.info("%s; looking for the server again", error)
            self.close()
            self._lost = True
            self._shown = None
            text = "the server does not answer; looking for it again"
            return None if self._view is None else replace(self._view, status=text, report=None)

    def _fetch(self, client: LiveClient, visible: Visible) -> LiveView | None:
        status = client.status(0.0)
        if status is not None:
            self._heard_at, self._status = time.monotonic(), status
        elif time.monotonic() - self._heard_at > _SILENCE_S:
            raise ConnectionError(f"the server has said nothing for {_SILENCE_S:g} s")
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

    def _ask(self, client: LiveClient, status: Status, asked: _Asked) -> LiveView | None:
        pixel_nm, upsampling = _pixel_nm(status), status.upsampling or 1
        size_nm = pixel_nm / upsampling * 2**asked.level
        top, left, rows, columns = asked.rectangle
        rectangle = left, top, columns, rows
        found, corrected = None, asked.corrected
        if corrected:
            found = client.view("corrected", level=asked.level, rectangle=rectangle, canvas=asked.canvas, rounded=True)
        if found is None:
            corrected = False
            found = client.view("canvas", level=asked.level, rectangle=rectangle, canvas=asked.canvas, rounded=True)
        if found is None or found[0].run != status.run:
            return None
        header = found[0]
        # Not that of another canvas, which may have been begun meanwhile.
        canvas = header.canvas or None
        superres = Picture(pixels=found[1], pixel_size_nm=size_nm, x_nm=header.x * size_nm, y_nm=header.y * size_nm)
        widefield, errors = self._slow(client, asked, canvas, superres, pixel_nm)
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
        )

    def _slow(
        self, client: LiveClient, asked: _Asked, canvas: str | None, superres: Picture, pixel_nm: float
    ) -> tuple[Picture | None, Picture | None]:
        """Return what changes slowly, widefield and map of errors: as they were, where they are fresh enough."""
        before = self._view
        same = self._shown is not None and self._shown[1] == asked and before is not None and before.canvas == canvas
        if same and before is not None and not asked.last and time.monotonic() - self._slow_at < _SLOW_S:
            return before.widefield, before.errors
        self._slow_at = time.monotonic()
        x, y = math.floor(superres.x_nm / pixel_nm), math.floor(superres.y_nm / pixel_nm)
        rows, columns = (math.ceil(n * superres.pixel_size_nm / pixel_nm) + 1 for n in superres.pixels.shape)

        def part(name: fields.Picture) -> Picture | None:
            found = client.view(name, rectangle=(x, y, columns, rows), canvas=canvas, rounded=True)
            if found is None:
                return None
            header, pixels = found
            return Picture(pixels=pixels, pixel_size_nm=pixel_nm, x_nm=header.x * pixel_nm, y_nm=header.y * pixel_nm)

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
            found = client.view("canvas", rectangle=(0, y, width, most), canvas=canvas)
            if found is None or found[1].shape != (min(most, height - y), width) or found[0].run != status.run:
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

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _pixel_nm(status: Status) -> float:
    return status.pixel_size_nm or 1.0
