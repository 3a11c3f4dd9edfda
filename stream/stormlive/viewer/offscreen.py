"""The same drawing without a screen."""

import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stormlive.viewer.screen import DEBIAN_OFFSCREEN_PACKAGES
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.viewer.scene import LiveScene


def offscreen_scene(size: tuple[int, int] = (1240, 700)) -> "LiveScene":
    """Return a scene of `size` (width, height) in pixels that draws through EGL into memory.

    A process draws either into windows or into memory: vispy cannot change over.
    """
    os.environ.setdefault("EGL_PLATFORM", "surfaceless")
    try:
        # Here, because the import itself fails where a library is missing.
        import vispy

        from stormlive.viewer.scene import LiveScene

        vispy.use("egl")
        return LiveScene("offscreen", size)
    except (RuntimeError, OSError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot draw without a screen: {reason}; on Debian: apt install {DEBIAN_OFFSCREEN_PACKAGES}"
        ) from error


def render(live: "LiveScene") -> NDArray[np.uint8]:
    """Return what the scene shows as RGB (y, x, 3)."""
    return np.ascontiguousarray(live.canvas.render(alpha=False), np.uint8)
