"""What the window shows, fetched from a running server."""

import math

from stormlive.viewer.view import LiveView, Picture, Visible
from stormlive.wire.client import LiveClient, status_text
from stormlive.wire.curve import ClientKeys
from stormlive.wire.messages import Status

_LEVEL_SIDE = 512


class RemoteView:
    """Fetches the visible part of the newest run, at the level that the screen resolves.

    Called from one thread; the connection is made at the first call, in that thread.

    Parameters
    ----------
    address : str
        The server's data address.
    keys : ClientKeys or None
        For a server with keys.
    """

    def __init__(self, address: str, *, keys: ClientKeys | None = None) -> None:
        self._address = address
        self._keys = keys
        self._client: LiveClient | None = None
        self._shown: tuple[str, Visible] | None = None
        self._status: Status | None = None

    def __call__(self, visible: Visible) -> LiveView | None:
        """Return the view, or None while there is nothing new."""
        if self._client is None:
            self._client = LiveClient(self._address, keys=self._keys)
        status = self._client.status(0.0) or self._status
        if status is None or status.run is None or status.shape is None or status.upsampling is None:
            return None
        self._status = status
        text = status_text(status)
        if self._shown == (text, visible):
            return None
        height, width = status.shape
        pixel_nm = status.pixel_size_nm or 1.0
        sub_nm = pixel_nm / status.upsampling
        shape = height * status.upsampling, width * status.upsampling
        levels = 1 + max(0, math.ceil(math.log2(max(shape) / _LEVEL_SIDE)))
        level, (top, left, rows, columns) = visible.level_and_rectangle(
            shape=shape, pixel_size_nm=sub_nm, levels=levels
        )
        canvas = self._client.view("canvas", level=level, rectangle=(left, top, columns, rows))
        widefield = self._client.view("widefield")
        if canvas is None or widefield is None:
            return None
        self._shown = (text, visible)
        size_nm = sub_nm * 2**level
        header = canvas[0]
        return LiveView(
            widefield=Picture(pixels=widefield[1], pixel_size_nm=pixel_nm),
            superres=Picture(pixels=canvas[1], pixel_size_nm=size_nm, x_nm=header.x * size_nm, y_nm=header.y * size_nm),
            field_nm=(height * pixel_nm, width * pixel_nm),
            status=text,
        )

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
