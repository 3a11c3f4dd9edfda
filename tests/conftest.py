import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def child_environment() -> dict[str, str]:
    """Return an environment in which child processes run the source tree's packages, without a screen."""
    path = os.pathsep.join(str(ROOT / floor) for floor in ("stream", "models", "sim"))
    hidden = {"DISPLAY", "WAYLAND_DISPLAY"}
    return {**{k: v for k, v in os.environ.items() if k not in hidden}, "PYTHONPATH": path, "COLUMNS": "200"}


@pytest.fixture
def cli(tmp_path: Path, child_environment: dict[str, str]) -> Cli:
    """Run a stormlive command in an empty folder and return what it said."""

    def run(*arguments: str | Path, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stormlive", *map(str, arguments)],
            cwd=tmp_path,
            env=child_environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    return run
