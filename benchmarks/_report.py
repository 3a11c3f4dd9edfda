"""A benchmark's table on the terminal and its figures as JSON beside the script."""

import datetime
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

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
    columns = list(rows[0])
    cells = [[_text(row[column]) for column in columns] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    for line in (columns, ["-" * width for width in widths], *cells):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
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
