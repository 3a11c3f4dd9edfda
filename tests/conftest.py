import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
Cli = Callable[..., subprocess.CompletedProcess[str]]

# For this process and all that it starts. Tests run beside each other, and threads that share the cores with those of
# others wait for each other most of the time; with more of them the last digits would differ, too.
os.environ["OMP_NUM_THREADS"] = "1"
_OURS = [str(ROOT / part) for part in ("stream", "models", "sim", "tests/stream")]
os.environ["PYTHONPATH"] = os.pathsep.join([*_OURS, *filter(None, [os.environ.get("PYTHONPATH")])])

# The same examples everywhere, however busy the machine; `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of the whole begin first, which take longest: at the end the others would wait for them."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


@pytest.fixture
def child_environment() -> dict[str, str]:
    """Return an environment for child processes without a screen."""
    hidden = {"DISPLAY", "WAYLAND_DISPLAY"}
    return {**{k: v for k, v in os.environ.items() if k not in hidden}, "COLUMNS": "200"}


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
