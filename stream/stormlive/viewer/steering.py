"""The user chooses in which part of the camera's frames the network computes, while the run goes on."""

from collections.abc import Callable

from stormlive.viewer.measure import camera_region
from stormlive.viewer.mouse import Mouse
from stormlive.viewer.scene import LiveScene
from stormlive.wire.fields import Region

Request = Callable[[Region | None], None]


class SteeringKeys:
    """What the keys for it do.

    Parameters
    ----------
    failed : callable
        Told in words why something cannot be done.

    Attributes
    ----------
    request : callable or None
        Called with the region of the camera that is wanted, None for all of it; None where nobody can be asked.
    """

    def __init__(self, scene: LiveScene, mouse: Mouse, failed: Callable[[str], None]) -> None:
        self._scene, self._mouse, self._failed = scene, mouse, failed
        self.request: Request | None = None

    def only_region(self) -> None:
        """Have only what the user's rectangle holds computed."""
        shown, box = self._scene.shown, self._mouse.region
        if box is None:
            self._failed("draw the region first: choose Region (G) and drag a box over a picture")
        elif shown is not None:
            self._ask(camera_region(box, shown.field_nm, shown.widefield.pixel_size_nm))

    def everything(self) -> None:
        """Have the whole frames computed again."""
        self._ask(None)

    def _ask(self, region: Region | None) -> None:
        shown = self._scene.shown
        if self.request is None or shown is None or shown.report is None:
            self._failed("there is no run that goes on, so nothing is computed")
        else:
            self.request(region)
