"""``stormlive window``: everything by mouse, from the camera to the picture."""

from stormlive.cli import options
from stormlive.cli.terminal import note
from stormlive_sim.errors import InputError


def window(device: options.Device = "auto") -> None:
    """Open the window with a form for runs: choose a camera, press Start, watch the picture, press Stop.

    The camera is a simulated one, a recorded movie that a simulated one plays, or that of a Micro-Manager
    configuration. Each run gets a folder of its own. F1 in the window lists the keys.
    """
    from stormlive.viewer.runs import RunsView
    from stormlive.viewer.screen import has_display
    from stormlive.viewer.window import run_window

    if not has_display():
        raise InputError("there is no screen for a window; `stormlive acquire --headless` needs none")
    note("the window opens …")
    from stormlive.cli.desk import Desk

    desk = Desk(device)
    view = RunsView(desk)
    try:
        run_window(
            view,
            "stormlive",
            whole=view.whole,
            steer=view.steer,
            waits_for=view.waits_for,
            runs=desk,
            leave=view.leave,
        )
    except KeyboardInterrupt:
        note("stopped by Ctrl-C")
    finally:
        view.close()
        if desk.state.phase != "idle":
            note("the run is stopped and its files are written …")
        desk.close()
