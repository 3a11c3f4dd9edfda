"""The super-resolved STORM/PALM picture while the camera runs.

``import stormlive`` is light on purpose, since the hook lives in other people's acquisition scripts: its
module is imported when ``stormlive.StreamHook`` is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stormlive.acquire.hook import StreamHook
    from stormlive.acquire.report import HookReport
    from stormlive.acquire.stream import FrameStream, stream
    from stormlive.notebook import Image, Reconstructed, SavedRun, read_run, reconstruct
    from stormlive.wire.calibration import Calibration
    from stormlive.wire.client import LiveClient

    __version__: str

__all__ = [
    "Calibration",
    "FrameStream",
    "HookReport",
    "Image",
    "LiveClient",
    "Reconstructed",
    "SavedRun",
    "StreamHook",
    "__version__",
    "read_run",
    "reconstruct",
    "stream",
]

_HOMES = {
    "Calibration": "stormlive.wire.calibration",
    "FrameStream": "stormlive.acquire.stream",
    "HookReport": "stormlive.acquire.report",
    "Image": "stormlive.notebook",
    "LiveClient": "stormlive.wire.client",
    "Reconstructed": "stormlive.notebook",
    "SavedRun": "stormlive.notebook",
    "StreamHook": "stormlive.acquire.hook",
    "read_run": "stormlive.notebook",
    "reconstruct": "stormlive.notebook",
    "stream": "stormlive.acquire.stream",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _installed_version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("stormlive")
    except PackageNotFoundError:  # run from a source tree that is on the path but was never installed
        return "0+unknown"
