"""Every command of the README, run; shortened where it would take long, on demo devices where it wants a microscope."""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mm_test_adapters
import pytest

from children import killed_at_last
from stormlive.cli.app import run
from stormlive.output.manifest import read_record

Cli = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORTER = {
    "simulate": ["--frames", "40"],
    "acquire": ["--headless"],
}
RUN_ELSEWHERE = {"serve", "train", "view", "snapshot"}  # below, in test_training.py and test_look_on.py


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


def commands() -> list[list[str]]:
    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith("stormlive ")]
    return [shlex.split(line)[1:] for line in lines]


def test_the_first_two_commands_install_and_run() -> None:
    install, test = (block.strip() for block in blocks("bash"))
    assert install.endswith("stormlive demo")
    assert test.endswith("pytest -n 2")
    assert all("-c constraints.txt" in command for command in (install, test))


def test_every_command_works_as_written(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    adapters = mm_test_adapters.device_adapter_path()
    seen = set()
    for arguments in commands():
        seen.add(arguments[0])
        if arguments[0] in RUN_ELSEWHERE:
            continue
        given = [*arguments, *SHORTER.get(arguments[0], [])]
        if "--config" in given:
            given[given.index("--config") + 1] = str(Path(adapters) / "MMConfig_demo.cfg")
            given[given.index("--mm-dir") + 1] = str(adapters)
            given[given.index("--frames") + 1] = "10"
        if arguments[0] == "acquire":
            done = cli(*given)
            assert done.returncode == 0, f"{given}: {done.stderr}"
        else:  # which need no process of their own
            assert run(given) == 0, given
    assert seen == {"serve", "acquire", "simulate", "reconstruct", "models", "view"}
    for name in ("run1", "run2"):
        assert read_record(tmp_path / name).frames["missing"] == {}


def test_the_hook_in_a_script_of_ones_own(tmp_path: Path, child_environment: dict[str, str]) -> None:
    (script,) = blocks("python")
    assert "num_time_points=10_000" in script
    start = (
        "import os, mm_test_adapters\n"
        "from pycromanager import Core, start_headless\n"
        "path = mm_test_adapters.device_adapter_path()\n"
        "start_headless(path, os.path.join(path, 'MMConfig_demo.cfg'), python_backend=True, buffer_size_mb=64)\n"
        "Core().set_property('Camera', 'PixelType', '16bit')\n"
        "Core().set_roi(0, 0, 64, 64)\n"
    )
    script = start + script.replace("10_000", "30")
    command = [sys.executable, "-m", "stormlive", "serve", "--out", "runs"]
    address = "tcp://127.0.0.1:5557"
    with killed_at_last(
        subprocess.Popen(command, cwd=tmp_path, env=child_environment, stderr=subprocess.PIPE, text=True)
    ) as server:
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            if "in use" in line:
                pytest.skip(f"{address} is taken on this machine")
            assert address in line
            done = subprocess.run(
                [sys.executable, "-c", script],
                cwd=tmp_path,
                env=child_environment,
                capture_output=True,
                text=True,
                timeout=100,
            )
        finally:
            server.terminate()
            deadline = time.monotonic() + 30
            while server.poll() is None and time.monotonic() < deadline:
                server.stderr.readline() if server.stderr else None
    assert "30 of 30 frames are in the picture." in done.stdout, done.stdout + done.stderr
    assert read_record(tmp_path / "runs" / "cell 1").frames["frames"] == 30
    assert server.returncode == 0
