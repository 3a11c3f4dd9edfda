"""The server: sockets in one thread, the engine in another."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from stormlive.server.front import Front
from stormlive.server.limits import Limits
from stormlive.server.protocols import Engine, Finish
from stormlive.server.runs import Runs
from stormlive.server.worker import OpenTable, Worker
from stormlive.wire.messages import one_line
from stormlive.wire.transport import DEFAULT_ADDRESS

_log = logging.getLogger(__name__)


class Server:
    """Takes frames from senders, lets the engine add them to canvases, answers viewers, publishes status.

    Parameters
    ----------
    engine
        Makes the canvases.
    finish
        Called in the engine thread when a run ends; writes its files and returns their folder.
    open_table
        Called in the engine thread when a run starts; returns the table that takes its localizations, or None.
    bind
        Loopback address of the data port; port ``*`` or 0 takes a free one. Views and status get free ports,
        which WELCOME tells.
    max_sessions
        Senders, and open runs, at a time.
    credit_bytes
        Pixels that a sender may have under way; bounds the server's memory to this × `max_sessions`.
    max_frame_bytes
        Largest frame.
    max_batch
        Most frames that the engine gets at once.
    heartbeat_s, grace_s
        Senders ping every `heartbeat_s`; after three missed ones and `grace_s` more the run is ended.

    Attributes
    ----------
    address, view_address, status_address
        Where the server listens; empty before `start`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        finish: Finish,
        open_table: OpenTable = lambda _: None,
        bind: str = DEFAULT_ADDRESS,
        max_sessions: int = 8,
        credit_bytes: int = 64 * 2**20,
        max_frame_bytes: int = 64 * 2**20,
        max_batch: int = 64,
        heartbeat_s: float = 1.0,
        grace_s: float = 15.0,
    ) -> None:
        self.engine = engine
        self._finish = finish
        self._open_table = open_table
        self._bind = bind
        self._limits = Limits(
            max_sessions=max_sessions,
            credit_bytes=credit_bytes,
            max_frame_bytes=max_frame_bytes,
            max_batch=max_batch,
            heartbeat_s=heartbeat_s,
            grace_s=grace_s,
        )
        self._runs = Runs(max_open=max_sessions, max_batch=max_batch)
        self._front: Front | None = None
        self._failure: Exception | None = None
        self.address = self.view_address = self.status_address = ""

    def start(self) -> Self:
        """Bind and start; when it returns, clients can connect. InputError when the port is in use."""
        if self._front is not None:
            return self
        front = Front(self._runs, self.engine, self._bind, self._limits)
        worker = Worker(self._runs, self.engine, self._finish, front.post, self._open_table)
        self.address = front.address
        self.view_address = front.view_address
        self.status_address = front.status_address
        self._front = front
        self._engine_thread = self._thread("engine", worker.work)
        self._io_thread = self._thread("io", front.serve)
        self._engine_thread.start()
        self._io_thread.start()
        return self

    def stop(self) -> None:
        """Work off what has arrived, close every run so that nothing is lost, and end both threads."""
        if self._front is None:
            return
        self._runs.stop("server stopped")
        self._engine_thread.join()
        self._front.stop()
        self._io_thread.join()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has ended, by `stop` or by failure; False after `timeout_s`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        # In short waits, so that Ctrl-C reaches the main thread on Windows too.
        while self._front is not None and self._io_thread.is_alive():
            if deadline is not None and time.monotonic() > deadline:
                return False
            self._io_thread.join(0.2)
        return True

    def raise_if_failed(self) -> None:
        """Raise what ended a thread of the server, if anything did."""
        if self._failure is not None:
            raise RuntimeError(f"the server failed: {self._failure}") from self._failure

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                target()
            except Exception as error:
                _log.exception("the server's %s thread failed", name)
                self._failure = self._failure or error
                # If the sockets fail, the engine thread still closes the runs and writes their files.
                self._runs.stop(one_line(f"server failed: {error}"))
                if self._front is not None:
                    self._front.stop()

        return threading.Thread(target=guarded, name=f"stormlive-{name}", daemon=True)
