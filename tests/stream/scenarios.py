"""Scenarios of a script, one after the other in a process that may hang: to start one takes longer than most of them.

The script calls `serve` with its scenarios, the tests play them by their names.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

_ANSWER = "answer: "


class Scenarios:
    """A script's process, started when it is needed; after a scenario that leaves it stuck the next has a new one.

    Parameters
    ----------
    script
        What to run.
    log
        The file that takes what it says on stderr.
    """

    def __init__(self, script: Path, log: Path) -> None:
        self._script, self._log = script, log
        self._process: subprocess.Popen[str] | None = None

    def play(self, name: str, *arguments: object) -> dict:
        """Return the answer of a scenario."""
        if self._process is None:
            with self._log.open("w") as log:
                self._process = subprocess.Popen(
                    [sys.executable, str(self._script)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
        self._process.stdin.write(json.dumps([name, *map(str, arguments)]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(_ANSWER):
                answer = json.loads(line.removeprefix(_ANSWER))
                if answer.get("stuck"):
                    self._kill()
                return answer
        self._kill()
        pytest.fail(self._log.read_text())

    def close(self) -> None:
        """Let the process end, which must be well."""
        process = self._process
        if process is not None:
            try:
                process.communicate(timeout=30)
            finally:
                self._kill()
            assert process.returncode == 0, self._log.read_text()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=20)
            self._process = None


def serve(scenarios: Mapping[str, Callable[..., dict]]) -> None:
    """Play what stdin asks for, until it ends."""
    for line in sys.stdin:
        name, folder, *arguments = json.loads(line)
        print(_ANSWER + json.dumps(scenarios[name](Path(folder), *arguments), default=str), flush=True)
