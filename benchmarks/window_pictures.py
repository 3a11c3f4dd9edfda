"""The guide's pictures of the real window.

``xvfb-run -a -s "-screen 0 1366x768x24" python benchmarks/window_pictures.py``: a simulated run goes through a real
server, as fast as that works; its window is photographed in four states, and once when the run is over. So is that of a
painted canvas of 16384² pixels, and the one that starts runs itself. The red light is made up: its judgement replaces
the server's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
from PIL import Image
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from stormlive.acquire.hook import StreamHook
from stormlive.acquire.stream import FrameStream
from stormlive.cli.cameras import demo_scene
from stormlive.cli.desk import Desk
from stormlive.server.process import ServerProcess, ServerSettings
from stormlive.viewer.acquisition_window import AcquisitionWindow
from stormlive.viewer.live_window import LiveWindow
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.runs import RunsView
from stormlive.viewer.saved import SavedView
from stormlive.viewer.view import LiveView, Visible
from stormlive.wire.calibration import Calibration
from stormlive.wire.viewing import Judgement
from stormlive_sim.movie import Scene

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PAINTED = Path(__file__).with_name("_painted_server.py")
CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=30)
MOST_WAITING = 4
MADE_UP = Judgement(
    gauge="red",
    sentence="the spots are 31 % wider than any that the model was trained on (σ 151 nm, at most 135): "
    "focus again, or check the pixel size",
    psf_sigma_nm=151.0,
    photons=410.0,
    background=24.0,
    density_per_um2=2.2,
    rsp=0.71,
    rse=9.4,
)
Steps = Iterator[Callable[[], bool]]


def photographed(address: str, change: Callable[[LiveView], LiveView], user: Callable[[LiveWindow], Steps]) -> None:
    """Open the window on a server, and let the user do the next thing as soon as what he waits for is there."""
    remote = RemoteView(address)

    def fetch(visible: Visible) -> LiveView | None:
        shown = remote(visible)
        return shown if shown is None or shown.report is None else change(shown)

    live = LiveWindow(fetch, f"stormlive – {address}", 100)
    walked(live, user(live), ready=lambda: live.window.scene.shown is not None)
    remote.close()


def walked(live: LiveWindow, steps: Steps, *, ready: Callable[[], bool]) -> None:
    """Show a window until its user has done all steps."""
    live.window.resize(1366, 748)
    waited: list[Callable[[], bool]] = [ready]

    def step() -> None:
        if waited[0]():
            try:
                waited[0] = next(steps)
            except StopIteration:
                live.window.close()

    timer = QTimer()
    timer.timeout.connect(step)
    timer.start(100)
    live.run()


def photograph(live: LiveWindow, name: str) -> None:
    """Save what the window looks like, in 256 colours."""
    QApplication.processEvents()
    path = IMAGES / f"window_{name}.png"
    live.window.grab().save(str(path))
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB", flush=True)


def frames(live: LiveWindow, n: int) -> Callable[[], bool]:
    """Return whether so many frames are in the picture, and whatever changed since has been drawn."""
    drawn = [0]

    def enough() -> bool:
        shown = live.window.scene.shown
        drawn[0] += 1
        return drawn[0] > 15 and shown is not None and shown.report is not None and shown.report.live >= n

    return enough


def of_a_run(live: LiveWindow, n: int) -> Steps:
    window = live.window
    scene = window.scene
    yield frames(live, n // 2)
    photograph(live, "running")
    yield frames(live, n)
    window.docks["Judgement"].raise_()
    window.actions_by_text["One over the other"].setChecked(True)
    yield frames(live, n)
    photograph(live, "over")
    window.actions_by_text["Side by side"].setChecked(True)
    scene.look_at(2750, 2750, 320, 320)
    yield frames(live, n)
    window.actions_by_text["Profile"].setChecked(True)
    window.measure.band.setValue(60)
    window.mouse.profile = brightest_line(live)
    window.mouse.region = (2770, 2850, 2860, 2920)
    window.mouse.redraw()
    yield frames(live, n)
    photograph(live, "zoomed")


def brightest_line(live: LiveWindow) -> tuple[float, float, float, float]:
    """Return a line across a filament: through the brightest place of where one runs from top left to bottom right."""
    picture, part = live.window.scene.superres.picture, live.window.scene.superres.visible()
    assert picture is not None
    size_nm = picture.pixel_size_nm
    rows = slice(int((part.y_nm + 60 - picture.y_nm) / size_nm), int((part.y_nm + 250 - picture.y_nm) / size_nm))
    columns = slice(int((part.x_nm + 140 - picture.x_nm) / size_nm), int((part.x_nm + 260 - picture.x_nm) / size_nm))
    seen = picture.pixels[rows, columns]
    row, column = divmod(int(seen.argmax()), seen.shape[1])
    x = picture.x_nm + (columns.start + column + 0.5) * size_nm
    y = picture.y_nm + (rows.start + row + 0.5) * size_nm
    return x - 50, y + 90, x + 50, y - 90


def of_a_red_light(live: LiveWindow, n: int) -> Steps:
    live.window.docks["Judgement"].raise_()
    yield frames(live, n)
    photograph(live, "red")


def of_a_large_canvas(live: LiveWindow) -> Steps:
    live.window.docks["Picture"].raise_()
    yield frames(live, 0)
    photograph(live, "16k")


def made_up(shown: LiveView) -> LiveView:
    """Replace the server's judgement by one that is made up."""
    assert shown.report is not None
    known = shown.judgement or Judgement()
    invented = {field: getattr(MADE_UP, field) for field in MADE_UP.__struct_fields__ if getattr(MADE_UP, field)}
    judgement = msgspec.structs.replace(known, **invented)
    report = msgspec.structs.replace(shown.report, judgement=judgement)
    return replace(shown, report=report, judgement=judgement)


def simulated_run(n: int) -> None:
    scene = Scene(demo_scene((64, 64), CALIBRATION, seed=0))
    with tempfile.TemporaryDirectory() as folder:
        settings = ServerSettings(
            bind="tcp://127.0.0.1:0", model="livenet", device="auto", out=Path(folder) / "run", folder_per_run=False
        )
        with ServerProcess(settings) as server:
            hook = StreamHook(server.address, calibration=CALIBRATION, mode="block", name="microtubules")
            over = threading.Event()

            def send() -> None:
                with FrameStream(hook) as live:
                    for frame, _truth in scene.frames(n, CALIBRATION.exposure_ms):
                        live.send(frame.numpy())
                        while hook.progress.backlog > MOST_WAITING:
                            time.sleep(0.02)
                    over.wait()

            thread = threading.Thread(target=send)
            thread.start()
            try:
                photographed(server.address, lambda shown: shown, lambda live: of_a_run(live, n))
                photographed(server.address, made_up, lambda live: of_a_red_light(live, n))
            finally:
                over.set()
                thread.join()
        replayed(Path(folder) / "run")


def replayed(folder: Path) -> None:
    with closing(SavedView(folder)) as saved:
        live = LiveWindow(saved, f"stormlive – {folder}", 100)
        walked(live, of_a_replay(live), ready=lambda: live.window.scene.shown is not None)


def of_a_replay(live: LiveWindow) -> Steps:
    window = live.window
    place = window.replay.slider.maximum() // 4
    window.docks["Picture"].raise_()
    window.replay.slider.setValue(place)
    for _ in range(5):
        yield lambda: window.scene.shown is not None and window.scene.shown.replay is not None
    photograph(live, "replay")


def of_an_acquisition(live: LiveWindow, n: int) -> Steps:
    window = live.window
    assert isinstance(window, AcquisitionWindow)
    form = window.acquisition.form
    form.folder.text, form.name.text, form.frames.text, form.exposure.text = "~/stormlive", "cell", "2000", "100"
    window.actions_by_text["Start"].trigger()
    yield frames(live, n)
    photograph(live, "acquisition")
    window.actions_by_text["Stop"].trigger()
    yield lambda: not window.acquisition.busy


def acquisition(n: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        desk = Desk("auto")
        view = RunsView(desk)
        live = LiveWindow(view, "stormlive", 100, view.whole, desk)
        try:
            walked(live, of_an_acquisition(live, n), ready=lambda: True)
        finally:
            view.close()
            desk.close()


def large_canvas() -> None:
    with subprocess.Popen(
        [sys.executable, PAINTED, "2048", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        try:
            photographed(address, lambda shown: shown, of_a_large_canvas)
        finally:
            server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1500)
    parser.add_argument("--only", choices=["acquisition", "run", "16k"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as settings:
        os.environ["XDG_CONFIG_HOME"] = settings  # the window as it is at first, whatever was chosen in it here
        if options.only in (None, "acquisition"):
            acquisition(options.frames // 5)
        if options.only in (None, "run"):
            simulated_run(options.frames)
        if options.only in (None, "16k"):
            large_canvas()


if __name__ == "__main__":
    main()
