"""A network that is cut for some seconds costs no frame: a real one, in a network namespace of Linux."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("network_scenario.py")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has network namespaces")
@pytest.mark.parametrize("lane", ["tcp", "auto"])
def test_all_frames_arrive_after_a_cut(lane: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), lane, "1.5"],
        # One thread, which `unshare` asks for where the user is not root.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(f"a network namespace is not permitted here: {done.stdout.strip()}")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    sentence = told.pop("sentence")
    assert told == {
        "cut": True,
        "in the picture": 300,
        "missing": 0,
        "agreed": True,
        "equal": True,
        "exit": "ok",
    }, sentence
