"""The processes of a chaotic run, their logs, which outlive them, and their port."""

import contextlib
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO, TypeAlias

HERE = Path(__file__).parent
Process: TypeAlias = subprocess.Popen[bytes]


class Processes:
    """Starts scripts that lie beside this one; `end` leaves none of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Process] = []
        self._files: list[IO[bytes]] = []

    def start(self, script: str, *arguments: object, log: str, tells: bool = False) -> Process:
        """Start a script in the run's folder; what it says goes to the log, or with `tells` to its `stdout`."""
        # Unlike a pipe, a file takes whatever a process says before it is killed.
        file = (self._folder / f"{log}.log").open("ab")
        self._files.append(file)
        process = subprocess.Popen(
            [sys.executable, str(HERE / script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if tells else file,
            stderr=file,
            cwd=self._folder,
        )
        self._started.append(process)
        return process

    def last_line(self, log: str) -> str:
        """Return the last that was said."""
        lines = (self._folder / f"{log}.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""

    def kill(self) -> None:
        """Kill those that are left; from any thread."""
        for process in list(self._started):
            process.kill()

    def end(self) -> None:
        """Kill those that are left, and close everything."""
        self.kill()
        for process in self._started:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        for file in self._files:
            file.close()


def free_port() -> int:
    """Return a free port that no outgoing connection gets: a server that is killed must find it free again."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
