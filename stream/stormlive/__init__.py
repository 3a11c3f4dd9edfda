"""The super-resolved STORM/PALM picture while the camera runs.

``import stormlive`` is light on purpose, since the hook lives in other people's acquisition scripts: its
module is imported when ``stormlive.StreamHook`` is first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stormlive.acquire.hook import HookReport, StreamHook
    from stormlive.acquire.stream import FrameStream, stream
    from stormlive.wire.messages import Calibration

    __version__: str

__all__ = ["Calibration", "FrameStream", "HookReport", "StreamHook", "__version__", "stream"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _installed_version()
    if name in ("StreamHook", "HookReport"):
        from stormlive.acquire import hook

        return getattr(hook, name)
    if name in ("stream", "FrameStream"):
        from stormlive.acquire import stream

        return getattr(stream, name)
    if name == "Calibration":
        from stormlive.wire.messages import Calibration

        return Calibration
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("stormlive")
    except PackageNotFoundError:  # run from a source tree that is on the path but was never installed
        return "0+unknown"
