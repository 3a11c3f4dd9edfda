"""Whether there is a screen, and whether Qt can open a window on it.

Qt ends the whole process where a library or the screen is missing; asking first turns that into one line.
"""

import ctypes
import importlib
import os
import sys
import threading
from pathlib import Path

from stormlive_sim.errors import InputError

DEBIAN_OFFSCREEN_PACKAGES = "libegl1 libgl1 libgl1-mesa-dri libfontconfig1"
DEBIAN_PACKAGES = (
    f"{DEBIAN_OFFSCREEN_PACKAGES} libglib2.0-0 libdbus-1-3 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 "
    "libxcb-keysyms1 libxcb-shape0"
)
_X_PATIENCE_S = 5.0


def has_display() -> bool:
    """Tell whether a window would be seen by anyone."""
    if os.environ.get("QT_QPA_PLATFORM", "").split(":")[0] in {"offscreen", "minimal", "vnc"}:
        return False
    if sys.platform in {"win32", "darwin"}:
        return True
    if os.environ.get("WAYLAND_DISPLAY"):
        return True
    return bool(os.environ.get("DISPLAY")) and _x_server_answers()


def require_qt() -> None:
    """Raise an InputError that says what to install where Qt could not open a window."""
    try:
        importlib.import_module("vispy.scene")
        importlib.import_module("PySide6.QtOpenGLWidgets")
        if _qt_talks_to_x():
            _load_xcb_plugin()
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        advice = f"on Debian: apt install {DEBIAN_PACKAGES}" if sys.platform == "linux" else "pip install PySide6"
        raise InputError(f"cannot open a window: {reason}; {advice}; or use --headless") from error


def _qt_talks_to_x() -> bool:
    chosen = os.environ.get("QT_QPA_PLATFORM", "").split(":")[0]
    return sys.platform == "linux" and (chosen == "xcb" or (not chosen and not os.environ.get("WAYLAND_DISPLAY")))


def _load_xcb_plugin() -> None:
    """Load what Qt would load to talk to an X server; an OSError names the library that is missing."""
    package = importlib.import_module("PySide6")
    ctypes.CDLL(str(Path(package.__path__[0]) / "Qt" / "plugins" / "platforms" / "libqxcb.so"))


def _x_server_answers() -> bool:
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError:
        # Not for us to say then: `require_qt` tells what to install.
        return True
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connect.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    xcb.xcb_connection_has_error.argtypes = [ctypes.c_void_p]
    xcb.xcb_disconnect.argtypes = [ctypes.c_void_p]
    answered: list[bool] = []

    def ask() -> None:
        connection = xcb.xcb_connect(None, None)
        answered.append(xcb.xcb_connection_has_error(connection) == 0)
        xcb.xcb_disconnect(connection)

    # Nothing interrupts it where a server takes the connection and then says nothing, as at the end of a dead tunnel.
    asking = threading.Thread(target=ask, name="stormlive-display", daemon=True)
    asking.start()
    asking.join(_X_PATIENCE_S)
    return answered == [True]
