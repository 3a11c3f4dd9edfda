"""A software camera behind Micro-Manager's real core.

The DemoCamera gives timing, region, binning, the circular buffer and its overflow; only the pixels are
replaced, where frames leave the core for Python.
"""

from collections.abc import Callable
from typing import Any

from stormlive_sim.camera import Camera


class SimulatedCore:
    """Renders a camera's frames into those that a pymmcore core hands out, in sequences and in snaps.

    Parameters
    ----------
    core
        Core with ``pop_next_tagged_image`` and ``get_tagged_image`` of its own, as mmpycorex makes it.
    camera
        Rendered on the thread that fetches the frames, the acquisition engine's.

    Attributes
    ----------
    frames : int
        Frames handed out so far; the number of the next one, over sequences and snaps.
    failure : Exception or None
        Why the camera could not render. The engine swallows what these methods raise, and in snap mode it
        tries again for ever: whoever runs the acquisition sets `on_failure` to its abort and reads this.
    """

    def __init__(self, core: Any, camera: Camera) -> None:  # noqa: ANN401 - a class made at run time
        self._core = core
        self._camera = camera
        self._label = core.get_camera_device()
        self._pop = core.pop_next_tagged_image
        self._get = core.get_tagged_image
        self.frames = 0
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] | None = None
        core.pop_next_tagged_image = self._pop_next_tagged_image
        core.get_tagged_image = self._get_tagged_image

    def _pop_next_tagged_image(self) -> Any:  # noqa: ANN401
        # Raises while the buffer is empty, which is how the engine waits.
        return self._rendered(self._pop())

    def _get_tagged_image(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        return self._rendered(self._get(*args, **options))

    def _rendered(self, tagged: Any) -> Any:  # noqa: ANN401
        try:
            if self.failure is not None:
                raise self.failure
            x, y, w, h = self._core.get_roi()
            binning = int(self._core.get_property(self._label, "Binning"))
            self._camera.render(self.frames, x, y, w, h, binning, self._core.get_exposure(), tagged.pix)
        except Exception as error:
            if self.failure is None:
                self.failure = error
                if self.on_failure is not None:
                    self.on_failure()
            raise
        self.frames += 1
        return tagged
