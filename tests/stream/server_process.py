"""Servers with the fake engine in processes of their own, to be suspended and killed."""

import multiprocessing
import time
from pathlib import Path

import psutil

import fake_engine

# Where the system can, each is forked from a process that has imported everything once.
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_context = multiprocessing.get_context(_METHOD)
_context.set_forkserver_preload(["fake_engine"])


class ServerProcess:
    """A server until it dies at its `point`, is killed, or the block is left; see `fake_engine.serve`."""

    def __init__(
        self,
        bind: str = "tcp://127.0.0.1:*",
        *,
        frame_s: float = 0.0,
        out: Path | None = None,
        checkpoint_s: float = 0.05,
        point: str = "never",
        context: int = 0,
    ) -> None:
        self._pipe, theirs = _context.Pipe()
        self._process = _context.Process(
            target=fake_engine.serve, args=(theirs, bind, frame_s, out, checkpoint_s, point, context), daemon=True
        )
        self._process.start()
        theirs.close()
        self.address: str = self._pipe.recv()

    def suspend(self) -> None:
        """Stop all its threads: one of them takes the signal, and until it has its turn the others go on."""
        process = psutil.Process(self._process.pid)
        process.suspend()
        deadline = time.monotonic() + 30
        while process.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, "it did not stop"
            time.sleep(0.001)

    def resume(self) -> None:
        psutil.Process(self._process.pid).resume()

    def kill(self) -> None:
        self._process.kill()
        self._process.join(20)

    def wait_until_dead(self) -> None:
        """Wait until it killed itself at its point."""
        self._process.join(30)
        assert self._process.exitcode == -9

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.close()
        self._pipe.close()


class Servers:
    """One server after the other, on one port and one output folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.address = "tcp://127.0.0.1:*"
        self._server: ServerProcess | None = None

    def start(
        self, point: str = "never", *, checkpoint_s: float = 0.05, frame_s: float = 0.0, context: int = 0
    ) -> "Servers":
        self.close()
        self._server = ServerProcess(
            self.address, frame_s=frame_s, out=self.out, checkpoint_s=checkpoint_s, point=point, context=context
        )
        self.address = self._server.address
        return self

    def kill(self) -> None:
        self._server.kill()

    def wait_until_dead(self) -> None:
        self._server.wait_until_dead()

    def close(self) -> None:
        if self._server is not None:
            self._server.__exit__()
            self._server = None
