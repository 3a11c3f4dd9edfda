"""A benchmark's table on the terminal and its figures as JSON beside the script."""

import datetime
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "numpy",
    "torch",
    "openvino",
    "tensorflow_cpu",
    "pyzmq",
    "pycromanager",
    "mmpycorex",
    "pymmcore",
    "ndstorage",
)


def report(name: str, rows: list[dict[str, Any]], notes: dict[str, Any]) -> None:
    """Print `rows` as a table and write them with `notes` and the machine to ``results/NAME.json``."""
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(_text, row.values()))
    Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False).print(table)
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "notes": notes,
        "rows": rows,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {path}")


def machine() -> dict[str, Any]:
    """Return what the figures were measured with."""
    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "cores of this run": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"  # a GPU machine may have what its benchmarks need, and no more


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
