"""The server in a process of its own, so that the camera, the network and the window never wait for each other."""

import contextlib
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from stormlive.server.limits import CHECKPOINT_S, GRACE_S
from stormlive.wire.curve import ServerKeys
from stormlive.wire.transport import bind_address
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.server.loop import Server
    from stormlive.server.protocols import Canvas, FinishedRun

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 60.0
_JUDGE_S = 1.0
_SWITCH_S = 0.0005
_CREDIT_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How to run a server.

    Attributes
    ----------
    bind : str
        Address; port 0 takes a free one.
    model, device : str
        As `Engine` has them.
    out : Path
        Folder for the runs.
    folder_per_run : bool
        See `RunWriter`.
    localizations : Path or None
        See `RunWriter`.
    keys : Path or None
        The server's folder of keys, as `ServerKeys.load` has it.
    data : tuple of Path or None
        As `Server` has it.
    checkpoint_s, grace_s : float
    open_steering : bool
        As `Server` has them.
    max_frame_mb : float
        Largest frame, in MiB; a sender may have as much under way, and 64 MiB at least.
    """

    bind: str
    model: str
    device: str
    out: Path
    folder_per_run: bool = True
    localizations: Path | None = None
    keys: Path | None = None
    data: tuple[Path, ...] | None = None
    checkpoint_s: float = CHECKPOINT_S
    grace_s: float = GRACE_S
    max_frame_mb: float = 64
    open_steering: bool = False


class ServerProcess:
    """Starts a server for one session and stops it at the end.

    Parameters
    ----------
    settings : ServerSettings
        How to run it.

    Raises
    ------
    InputError
        On start, when the server cannot run: model, device, port.
    """

    def __init__(self, settings: ServerSettings) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(settings, theirs), name="stormlive-server", daemon=True)
        self._process.start()
        theirs.close()
        self.address = self._wait_for_address()

    def _wait_for_address(self) -> str:
        try:
            if not self._pipe.poll(_START_TIMEOUT_S):
                self._process.kill()
                raise InputError(f"the server did not start within {_START_TIMEOUT_S:g} s; try again with --verbose")
            kind, text = self._pipe.recv()
        except EOFError as error:
            raise InputError(f"the server ended at once with status {self._process.exitcode}") from error
        if kind != "ready":
            self._process.join()
            raise InputError(text)
        return str(text)

    @property
    def pid(self) -> int | None:
        """Process number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.is_alive()

    def stop(self) -> None:
        """Let it finish open runs and write their files, then end it."""
        if self._process.is_alive():
            try:
                self._pipe.send("stop")
            except (BrokenPipeError, OSError):
                self._process.kill()
        self._process.join(_STOP_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def build_server(
    settings: ServerSettings, when_written: "Callable[[FinishedRun, str], None] | None" = None
) -> "Server":
    """Return a server that is ready to start.

    `when_written` gets each run that has ended, with the folder of its files, in a thread of the server's.

    Raises
    ------
    InputError
        When model, device or keys are not to be had.
    """
    keys = None if settings.keys is None else ServerKeys.load(settings.keys)
    bind_address(settings.bind, keys)  # refuses before a model is loaded
    for folder in settings.data or ():
        if not folder.is_dir():
            raise InputError(
                f"{folder}, below which datasets are to be read, is not a folder; create it or name another"
            )

    import torch

    from stormlive.server.engine import Engine
    from stormlive.server.finish import RunWriter
    from stormlive.server.loop import Server

    # Pycro-Manager's engine spins on one core. A network that wants that core too waits at the end of every layer for
    # its slowest thread: on two cores it is 1.7 times faster on the one that is left (benchmarks/threads.py).
    torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    # The engine's thread leaves Python and comes back many times a frame. Each time it would wait up to 5 ms for the
    # judge's, whose fits are long stretches of Python.
    sys.setswitchinterval(_SWITCH_S)
    engine = Engine(settings.model, settings.device)
    writer = RunWriter(
        engine, settings.out, folder_per_run=settings.folder_per_run, localizations=settings.localizations
    )

    def finish(run: "FinishedRun", canvases: "Sequence[Canvas]") -> str:
        folder = writer(run, canvases)
        if when_written is not None:
            when_written(run, folder)
        return folder

    max_frame_bytes = round(settings.max_frame_mb * 2**20)
    return Server(
        engine,
        bind=settings.bind,
        finish=finish,
        open_table=writer.open_table,
        shelf=writer.shelf,
        keys=keys,
        data=settings.data,
        checkpoint_s=settings.checkpoint_s,
        grace_s=settings.grace_s,
        judge_s=_JUDGE_S,
        open_steering=settings.open_steering,
        max_frame_bytes=max_frame_bytes,
        credit_bytes=max(_CREDIT_BYTES, max_frame_bytes),
    )


def _run(settings: ServerSettings, pipe: Connection) -> None:
    # Ctrl-C reaches every process of the terminal: the parent decides when the server ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = build_server(settings).start()
    except InputError as error:
        pipe.send(("failed", str(error)))
        return
    stop = threading.Event()

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):  # the parent is gone: finish what there is
            pipe.recv()
        stop.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()
    pipe.send(("ready", server.address))
    with server:
        while not stop.wait(0.2):
            server.raise_if_failed()
