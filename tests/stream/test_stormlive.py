import subprocess
import sys

import pytest

import stormlive

HEAVY = ("torch", "scipy", "tifffile", "vispy", "PySide6", "pycromanager", "mmpycorex", "stormlive_models")


@pytest.mark.parametrize("statement", ["import stormlive", "from stormlive import StreamHook, Calibration"])
def test_import_pulls_in_nothing_heavy(statement: str) -> None:
    code = f"import sys\n{statement}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_import_alone_does_not_even_load_the_sockets() -> None:
    code = "import sys, stormlive; print('zmq' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_exports_and_version() -> None:
    assert callable(stormlive.StreamHook)
    assert isinstance(stormlive.__version__, str)
    with pytest.raises(AttributeError, match="nonsense"):
        stormlive.nonsense  # noqa: B018


def test_version_without_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata as metadata

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert stormlive.__version__ == "0+unknown"
