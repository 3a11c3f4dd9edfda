"""The server: sockets in one thread, the engine in another."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from stormlive.server.dataset import DataRoots
from stormlive.server.front import Front
from stormlive.server.limits import CHECKPOINT_S, GRACE_S, Limits
from stormlive.server.protocols import Engine, Finish, OpenTable, no_table
from stormlive.server.recovery import described, recover
from stormlive.server.runs import Runs
from stormlive.server.shelf import Shelf
from stormlive.server.worker import Worker
from stormlive.wire.curve import ClientKeys, KeyPair, ServerKeys
from stormlive.wire.messages import SERVER_STOPPED
from stormlive.wire.text import one_line
from stormlive.wire.transport import DEFAULT_ADDRESS, reachable_address

if TYPE_CHECKING:
    from stormlive.server.judge import Judge

_log = logging.getLogger(__name__)


class Server:
    """Takes frames from senders, lets the engine add them to canvases, answers viewers, publishes status.

    Parameters
    ----------
    engine
        Makes the canvases.
    finish
        Called in the scribe's thread when a run ends; writes its files and returns their folder.
    open_table
        Called in the engine thread when a run starts, or with a mark when it is taken up again; returns the table that
        takes its localizations, or None.
    shelf
        Where runs keep checkpoints, every `checkpoint_s` seconds, and where interrupted ones are found. Without, or
        with 0 seconds, new runs have none: a server that is killed loses the picture so far.
    bind
        Address of the data port, loopback unless there are `keys`; port ``*`` or 0 takes a free one. WELCOME tells the
        ports of views and status: free ones on loopback, elsewhere the next two, so that a firewall can let them
        through.
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
    keys
        Encrypt everything, and let in only the clients that they allow.
    judge_s
        Seconds between two looks at how good a run's picture is; 0: nothing is judged.
    data
        The folders below which datasets may be read; None for any, but with keys for none.
    open_steering
        Let every viewer choose in which region a run's frames are computed, not only the run's owner.

    Attributes
    ----------
    address, view_address, status_address
        Where the server listens; empty before `start`.
    recovered
        Of each run that a server before this one was killed in and that goes on: what it is, how much, where.
    own_address, own_keys
        With which this process itself can look at the server.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        finish: Finish,
        open_table: OpenTable = no_table,
        shelf: Shelf | None = None,
        checkpoint_s: float = CHECKPOINT_S,
        bind: str = DEFAULT_ADDRESS,
        max_sessions: int = 8,
        credit_bytes: int = 64 * 2**20,
        max_frame_bytes: int = 64 * 2**20,
        max_batch: int = 64,
        heartbeat_s: float = 1.0,
        grace_s: float = GRACE_S,
        keys: ServerKeys | None = None,
        data: tuple[Path, ...] | None = None,
        judge_s: float = 0.0,
        open_steering: bool = False,
    ) -> None:
        self.engine = engine
        self._finish = finish
        self._open_table = open_table
        self._shelf = shelf
        self._checkpoint_s = checkpoint_s
        self._bind = bind
        self._limits = Limits(
            max_sessions=max_sessions,
            credit_bytes=credit_bytes,
            max_frame_bytes=max_frame_bytes,
            max_batch=max_batch,
            heartbeat_s=heartbeat_s,
            grace_s=grace_s,
            open_steering=open_steering,
        )
        self._runs = Runs(max_open=max_sessions, max_batch=max_batch)
        self._front: Front | None = None
        self.judge = _judge(self._runs, judge_s)
        self._failure: Exception | None = None
        self.address = self.view_address = self.status_address = self.own_address = ""
        self.own_keys: ClientKeys | None = None
        self.recovered: list[str] = []
        self._data = DataRoots(() if keys is not None and data is None else data)
        self._keys = keys
        if keys is not None:
            own = KeyPair.make()
            self.own_keys = ClientKeys(own=own, server=keys.own.public)
            self._keys = replace(keys, always=frozenset({own.public}))

    def start(self) -> Self:
        """Bind and start; when it returns, clients can connect. InputError when the port is in use."""
        if self._front is not None:
            return self
        front = Front(self._runs, self.engine, self._bind, self._limits, self._keys)
        worker = Worker(
            self._runs,
            self.engine,
            self._finish,
            front.post,
            self._open_table,
            self._shelf,
            self._checkpoint_s,
            self._data,
            self.judge,
        )
        if self._shelf is not None:
            most = self._limits.max_sessions
            for run in recover(self._shelf, self.engine, self._open_table, self._data, most):
                self.recovered.append(described(run, self._limits.patience_s))
                self._runs.adopt(run)
                front.expect(run)
        self.address = front.address
        self.view_address = front.view_address
        self.status_address = front.status_address
        self.own_address = reachable_address(front.address)
        self._front = front
        self._engine_thread = self._thread("engine", worker.work)
        self._io_thread = self._thread("io", front.serve)
        self._scribe = worker.scribe
        self._scribe_thread = self._thread("scribe", worker.scribe.work)
        self._packer = worker.packer
        self._packer_thread = self._thread("packer", worker.packer.work)
        self._packer_thread.start()
        if self.judge is not None:
            self._judge_thread = self._thread("judge", self.judge.work)
            self._judge_thread.start()
        self._scribe_thread.start()
        self._engine_thread.start()
        self._io_thread.start()
        return self

    def stop(self) -> None:
        """Work off what has arrived, close every run so that nothing is lost, and end all threads."""
        if self._front is None:
            return
        self._runs.stop(SERVER_STOPPED)
        self._engine_thread.join()
        self._packer.stop()
        self._packer_thread.join()
        self._scribe.stop()
        self._scribe_thread.join()
        if self.judge is not None:
            self.judge.stop()
            self._judge_thread.join()
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


def _judge(runs: Runs, every_s: float) -> "Judge | None":
    if every_s <= 0:
        return None
    # And with it torch, which a server without a judge does not need.
    from stormlive.server.judge import Judge

    return Judge(runs.lock, every_s)
