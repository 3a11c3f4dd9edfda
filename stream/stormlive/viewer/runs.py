"""What the window knows of those who run acquisitions for it: it asks, and looks how far they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from stormlive.acquire.request import RunRequest
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.view import LiveView, Picture, Visible
from stormlive.wire.fields import Region
from stormlive_sim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RunState:
    """How far a run is, or how the last one ended.

    Attributes
    ----------
    phase : str
        ``idle`` between runs.
    told : str
        The same for people: what is being done, what became of the frames, or why it failed.
    failed : bool
        Whether the last run did.
    folder : Path or None
        Of the run, once there are files in it.
    address : str or None
        Of the server that has its picture; a run that has ended keeps it until the next one.
    token : bytes
        With which may be chosen what of its frames is computed.
    """

    phase: Literal["idle", "starting", "acquiring", "finishing"] = "idle"
    told: str = ""
    failed: bool = False
    folder: Path | None = None
    address: str | None = None
    token: bytes = b""


class Runs(Protocol):
    """Runs acquisitions, one at a time; nothing here takes longer than a moment.

    Attributes
    ----------
    models : sequence of str
        That ship, the usual one first.
    """

    @property
    def models(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def state(self) -> RunState: ...  # noqa: D102

    def start(self, request: RunRequest) -> None:
        """Begin a run; what is wrong with it, `state` tells."""
        ...

    def stop(self) -> None:
        """Have the run end early and properly."""
        ...


class RunsView:
    """Shows the newest run; called from one thread, as a `Fetch`."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._at: tuple[str | None, bytes] = (None, b"")
        self._remote: RemoteView | None = None

    def __call__(self, visible: Visible) -> LiveView | None:
        """Return the view, or None while there is nothing new, or nothing at all."""
        state = self._runs.state
        if self._at != (state.address, state.token):
            self.close()
            self._at = state.address, state.token
            self._remote = None if state.address is None else RemoteView(state.address, token=state.token)
        try:
            return None if self._remote is None else self._remote(visible)
        except ConnectionError:
            return None  # the state of the run says what has happened to its server

    def waits_for(self) -> str:
        """Return in plain words what has to come before there is a view; nothing as long as there is no server."""
        remote = self._remote  # which the thread that fetches may take away
        return "" if remote is None else remote.waits_for()

    def leave(self) -> None:
        """Wait for no answer any more: nobody will look; from any thread."""
        remote = self._remote
        if remote is not None:
            remote.leave()

    def whole(self, canvas: str | None) -> Picture:
        """Return the whole canvas of a name.

        Raises
        ------
        InputError
            When there is none.
        ConnectionError
            When its server does not answer.
        """
        if self._remote is None:
            raise InputError("there is no canvas; start a run first")
        return self._remote.whole(canvas)

    def steer(self, region: Region | None) -> str:
        """Have frames computed in a region only, or all over again; return what is to be said of it.

        Raises
        ------
        InputError
            When there is no run, or its server refuses.
        ConnectionError
            When its server does not answer.
        """
        if self._remote is None:
            raise InputError("there is no run; start one first")
        return self._remote.steer(region)

    def close(self) -> None:
        """Close the connection."""
        if self._remote is not None:
            self._remote.close()
