"""A user at the real window, as a script: ``window_scenario.py NAME FOLDER``. Each clicks and types, then checks."""

import re
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from uuid import UUID

import numpy as np
from PIL import Image
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt, QTimer
from PySide6.QtGui import QMouseEvent, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialog, QFileDialog, QTextBrowser, QToolBar, QToolButton

from stormlive.output.ome_tiff import read_image
from stormlive.viewer import trouble_bar
from stormlive.viewer.live_window import LiveWindow
from stormlive.viewer.view import LiveView, Picture, Replay, Visible
from stormlive.wire.viewing import Judgement, Status
from stormlive_sim.errors import InputError

User = Generator[Callable[[], bool], None, None]
CANVAS = np.random.default_rng(0).poisson(2, (512, 512)).astype(np.float32)
CANVAS[:, 250:262] += 50
WIDEFIELD = CANVAS.reshape(64, 8, 64, 8).sum((1, 3))
LEFT, PLAIN = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


class Run:
    """What the window fetches: a run that goes on, whose pictures never change."""

    def __init__(self) -> None:
        self.asked: list[Visible] = []
        self.judgement: Judgement | None = None
        self.notice = ""
        self.region: tuple[int, int, int, int] | None = None
        self.refusal = ""
        self.replay: tuple[int, ...] = ()
        self.no_replay = ""

    def __call__(self, visible: Visible) -> LiveView:
        self.asked.append(visible)
        n, frames, no_replay = len(self.asked), self.replay, self.no_replay  # once: the user changes them meanwhile
        report = Status(
            state="running", model="m", device="cpu", run=UUID(int=1), name="<b>cell</b>", live=n, shape=(64, 64),
            upsampling=8, pixel_size_nm=100, frames_per_s=10, notice=self.notice,
            **({} if self.judgement is None else {"judgement": self.judgement}),
            **({} if self.region is None else {"region": self.region}),
        )  # fmt: skip
        last = len(frames) - 1
        at = last if visible.at is None else min(visible.at, last)
        return LiveView(
            widefield=Picture(pixels=WIDEFIELD, pixel_size_nm=100),
            superres=Picture(pixels=CANVAS, pixel_size_nm=12.5),
            field_nm=(6400, 6400),
            status=f"{n} frames",
            report=None if frames or no_replay else report,
            replay=Replay(frames=frames, at=at) if frames else None,
            no_replay=no_replay,
            last=visible.last,
            errors=Picture(pixels=np.eye(64, dtype=np.float32), pixel_size_nm=100) if visible.errors else None,
            judgement=self.judgement,
            canvas=visible.canvas or "",
        )

    def steer(self, region: tuple[int, int, int, int] | None) -> str:
        assert threading.current_thread() is not threading.main_thread()
        if self.refusal:
            raise InputError(self.refusal)
        self.region = region
        return f"computed: {region}"

    def whole(self, canvas: str | None) -> Picture:
        assert threading.current_thread() is not threading.main_thread()
        return Picture(pixels=CANVAS, pixel_size_nm=12.5)


def run(user: Callable[[LiveWindow, Run], User]) -> None:
    """Open the window, and let the user go on as soon as what he waits for is there."""
    followed = Run()
    live = LiveWindow(followed, "test", 10, followed.whole, steer=followed.steer)
    live.window.resize(1300, 720)

    def settled() -> bool:
        # The whole field is in sight, and was asked for as it is: no resizing is to come that would move it.
        scene = live.window.scene
        return scene.shown is not None and scene.visible() == followed.asked[-1]

    drive(live, user(live, followed), settled)


def drive(live: LiveWindow, steps: User, ready: Callable[[], bool], patience_s: float = 30) -> None:
    """Show a window that is `ready` soon, until its user has done all steps."""
    # What was done or failed can be read for as long as the slowest machine takes.
    trouble_bar._DONE_MS = trouble_bar._FAILED_MS = 10**6
    waited: list[Callable[[], bool]] = [lambda: ready() and live.window.isActiveWindow()]
    since, trouble = [time.monotonic()], list[BaseException]()

    def step() -> None:
        try:
            if not live.window.isActiveWindow():
                live.window.activateWindow()  # there is no window manager on the virtual screen
            while waited[0]():
                waited[0], since[0] = next(steps), time.monotonic()
            line = steps.gi_frame.f_lineno
            assert time.monotonic() - since[0] < patience_s, f"it did not happen in time, line {line}"
        except BaseException as error:
            if not isinstance(error, StopIteration):
                trouble.append(error)
            timer.stop()
            live.window.leave()

    timer = QTimer()
    timer.timeout.connect(step)
    timer.start(20)
    live.run()
    if trouble:
        raise trouble[0]


def button(live: LiveWindow, name: str) -> QToolButton:
    (toolbar,) = live.window.findChildren(QToolBar)
    return next(tool for tool in toolbar.findChildren(QToolButton) if tool.text() == name)


def at(live: LiveWindow, x_nm: float, y_nm: float) -> QPoint:
    """Return where a place of the field is in the super-resolved picture."""
    pane = live.window.scene.superres
    (left, top), part = pane._box.pos, pane.visible()
    per_px = part.width_nm / pane._box.size[0]
    return QPoint(round(left + (x_nm - part.x_nm) / per_px), round(top + (y_nm - part.y_nm) / per_px))


def move(live: LiveWindow, place: QPoint, held: Qt.MouseButton = Qt.MouseButton.NoButton) -> None:
    """Move the mouse at once; QTest would let the event come later."""
    native = live.window.scene.canvas.native
    time.sleep(0.02)  # vispy lets go of what comes within 10 ms
    where = QPointF(place), QPointF(native.mapToGlobal(place))
    QApplication.sendEvent(native, QMouseEvent(QEvent.Type.MouseMove, *where, Qt.MouseButton.NoButton, held, PLAIN))


def drag(live: LiveWindow, start: QPoint, end: QPoint) -> None:
    native = live.window.scene.canvas.native
    QTest.mousePress(native, LEFT, PLAIN, start)
    move(live, (start + end) / 2, LEFT)
    move(live, end, LEFT)
    QTest.mouseRelease(native, LEFT, PLAIN, end)


def wheel(live: LiveWindow, place: QPoint, notches: int) -> None:
    native = live.window.scene.canvas.native
    event = QWheelEvent(
        QPointF(place), QPointF(native.mapToGlobal(place)), QPoint(), QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton, PLAIN, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(native, event)


def moves_and_zooms(live: LiveWindow, followed: Run, _folder: Path) -> User:
    scene = live.window.scene
    before = scene.visible()
    wheel(live, at(live, 3200, 1600), 4)
    after = scene.visible()
    assert abs(after.width_nm - before.width_nm / 1.25**4) < 1
    assert at(live, 3200, 1600) == at(live, 3200, 1600)
    share = (3200 - before.x_nm) / before.width_nm
    assert abs((3200 - after.x_nm) / after.width_nm - share) < 0.01, "the place under the mouse stays there"
    yield lambda: abs(followed.asked[-1].width_nm - after.width_nm) < 1
    drag(live, at(live, 3000, 1500), at(live, 3400, 1900))
    moved = scene.visible()
    assert abs(after.x_nm - moved.x_nm - 400) < 10
    assert abs(after.y_nm - moved.y_nm - 400) < 10
    assert abs(scene.widefield.visible().x_nm - moved.x_nm) < 1, "both pictures move"
    move(live, at(live, 3190, 1600))
    yield lambda: live.window.strip.place.text().startswith(("x 3.19", "x 3.18"))
    QTest.keyClick(live.window, Qt.Key.Key_R)
    assert abs(scene.visible().width_nm - before.width_nm) < 1
    button(live, "Over").click()
    yield lambda: scene.layout == "over"
    middle = scene._divider_x()
    drag(live, QPoint(round(middle), 300), QPoint(300, 300))
    assert abs(scene._divider_x() - 300) < 2
    assert scene.pane_at(200, 300) is scene.widefield
    assert scene.pane_at(400, 300) is scene.superres
    QTest.keyClick(live.window, Qt.Key.Key_L)
    yield lambda: followed.asked[-1].last
    QTest.keyClick(live.window, Qt.Key.Key_E)
    yield lambda: followed.asked[-1].errors and scene.shown.errors is not None
    QTest.keyClick(live.window, Qt.Key.Key_D)
    yield lambda: followed.asked[-1].corrected
    QTest.keyClick(live.window, Qt.Key.Key_F1)
    dialogs = live.window.findChildren(QDialog)
    yield lambda: any(dialog.isVisible() and dialog.windowHandle().isExposed() for dialog in dialogs)
    (sheet,) = live.window.findChildren(QTextBrowser)
    assert "Keys and mouse" in sheet.toPlainText()
    bars = sheet.horizontalScrollBar(), sheet.verticalScrollBar()
    assert not any(bar.maximum() for bar in bars), "all of its text is in sight"


def measures_and_saves(live: LiveWindow, followed: Run, folder: Path) -> User:
    window = live.window
    button(live, "Region").click()
    drag(live, at(live, 1000, 1000), at(live, 2000, 3000))
    x0, y0, x1, y1 = window.mouse.region
    assert max(abs(x0 - 1000), abs(y0 - 1000), abs(x1 - 2000), abs(y1 - 3000)) < 15, window.mouse.region
    yield lambda: "µm²" in window.measure.region.text()
    told = window.measure.region.text()
    assert re.search(r"at <b>(9|10), (9|10)</b> of this picture", told), told
    assert not re.search(r"--roi \d", told), "nobody knows where the picture begins on the sensor"
    window.measure.origin = 500, 400
    yield lambda: re.search(r"--roi (509|510),(409|410),1\d,2\d<", window.measure.region.text())
    button(live, "Profile").click()
    drag(live, at(live, 2400, 3000), at(live, 4000, 3000))
    yield lambda: "FWHM 15" in window.measure.profile.text() or "FWHM 14" in window.measure.profile.text()
    QTest.keyClick(window, Qt.Key.Key_Escape)
    assert window.mouse.region is None
    window.scene.look_at(2000, 2000, 1000, 1000)
    yield lambda: abs(window.scene._pooled_for - window.scene.visible().nm_per_screen_px) < 1e-9
    answers = iter([folder / "view", folder / "part.ome.tif", folder / "whole.ome.tif", folder / "no" / "x.png"])
    QFileDialog.getSaveFileName = lambda *_: (str(next(answers)), "")
    button(live, "Save view").click()
    yield lambda: (folder / "view.png").exists()
    seen = np.asarray(Image.open(folder / "view.png"))
    assert seen.shape[:2] == window.scene.canvas.physical_size[::-1]
    assert (seen[-40:] > 240).all(axis=2).sum() > 50, "with its scale bar"
    window.actions_by_text["Save what is visible…"].trigger()
    yield lambda: (folder / "part.ome.tif").exists()
    part, size_nm = read_image(folder / "part.ome.tif")
    visible = window.scene.visible()
    left, top = int(visible.x_nm // 12.5), int(visible.y_nm // 12.5)
    assert size_nm == 12.5
    assert (part == CANVAS[top : top + len(part), left : left + part.shape[1]]).all()
    assert abs(part.shape[1] * 12.5 - visible.width_nm) < 25
    window.actions_by_text["Save whole canvas…"].trigger()
    yield lambda: window.trouble.text() == f"saved {folder / 'whole.ome.tif'}"
    assert (read_image(folder / "whole.ome.tif")[0] == CANVAS).all()
    button(live, "Save view").click()
    yield lambda: "not saved" in window.trouble.text()
    n = len(followed.asked)
    yield lambda: len(followed.asked) > n + 5
    assert window.trouble.isVisible(), "it can be read, although the run has nothing to complain of"
    assert "not saved" in window.trouble.text()


def pauses_and_is_told(live: LiveWindow, followed: Run, _folder: Path) -> User:
    window = live.window
    assert "<b>cell</b>" not in window.strip.name.text(), "a run's name is no markup"
    QTest.keyClick(window, Qt.Key.Key_Space)
    assert window.paused
    still, n = window.scene.shown, len(followed.asked)
    yield lambda: len(followed.asked) > n + 5
    assert window.scene.shown is still
    assert not window.strip.cells["frames"].text().endswith(f" {still.report.live}"), "the numbers go on"
    button(live, "Pause").click()
    yield lambda: window.scene.shown is not still
    assert not window.trouble.isVisible()
    size = window.scene.canvas.size
    followed.notice = "the disk is full"
    yield lambda: window.trouble.isVisible() and window.trouble.text() == "the disk is full"
    assert window.scene.canvas.size == size, "the pictures do not jump"
    bar = window.trouble.geometry()
    assert bar.bottom() == window.trouble.parentWidget().rect().bottom()
    assert bar.top() >= window.scene.canvas.native.geometry().bottom(), "and are not covered by one line"
    followed.notice = ""
    followed.judgement = Judgement(frames=10, gauge="red", sentence="<i>too dense</i>", frc_nm=50.0)
    yield lambda: window.trouble.text() == "<i>too dense</i>" and "trust" in window.judgement.verdict.text()
    assert window.judgement.sentence.textFormat() is Qt.TextFormat.PlainText
    editor = window.editors["superres"]
    assert editor.automatic.isChecked()
    assert abs(editor.high.value() - window.scene.superres.limits[1]) < 0.01
    editor.high.setFocus()
    editor.high.selectAll()
    QTest.keyClicks(editor.high, "12345")
    QTest.keyClick(editor.high, Qt.Key.Key_Return)
    assert window.scene.superres.look.limits[1] == 12345
    assert not editor.automatic.isChecked()
    yield lambda: abs(window.scene.superres.limits[1] - 12345) < 1
    editor.colormap.setCurrentText("viridis")
    editor.gamma.setValue(100)
    button(live, "Over").click()
    yield lambda: True


def finds_his_choices_again(live: LiveWindow, followed: Run, _folder: Path) -> User:
    look = live.window.scene.superres.look
    assert (look.colormap, look.gamma, look.limits) == ("viridis", 1.0, None), look
    assert live.window.scene.layout == "over"
    yield from steers(live, followed)
    yield from replays(live, followed)


def steers(live: LiveWindow, followed: Run) -> User:
    window, control = live.window, Qt.KeyboardModifier.ControlModifier
    button(live, "Beside").click()
    QTest.keyClick(window, Qt.Key.Key_G, control)
    assert "draw the region first" in window.trouble.text()
    button(live, "Region").click()
    drag(live, at(live, 1000, 1000), at(live, 3000, 4000))
    QTest.keyClick(window, Qt.Key.Key_G, control)
    yield lambda: followed.region is not None and window.trouble.text() == f"computed: {followed.region}"
    assert np.abs(np.array(followed.region) - (10, 10, 20, 30)).max() <= 2, followed.region
    yield lambda: window.scene.superres._computed.visible and window.scene.widefield._computed.visible
    followed.refusal = "only its owner may"
    QTest.keyClick(window, Qt.Key.Key_G, control | Qt.KeyboardModifier.ShiftModifier)
    yield lambda: window.trouble.text() == "only its owner may"
    assert followed.region is not None
    followed.refusal = ""
    QTest.keyClick(window, Qt.Key.Key_G, control | Qt.KeyboardModifier.ShiftModifier)
    yield lambda: followed.region is None and not window.scene.superres._computed.visible


def replays(live: LiveWindow, followed: Run) -> User:
    window, bar = live.window, live.window.replay
    assert not bar.isVisible(), "a run that goes on has no replay"
    followed.no_replay = "no time slider: too large"
    yield lambda: bar.isVisible() and bar.label.text() == "no time slider: too large"
    assert not bar.slider.isVisible()
    followed.replay, followed.no_replay = (100, 200, 300, 400), ""
    yield lambda: bar.slider.isVisible() and bar.label.text() == "400 of 400 frames"
    QTest.keyClick(window, Qt.Key.Key_Comma)
    yield lambda: followed.asked[-1].at == 2 and window.scene.shown.replay.at == 2
    assert bar.label.text() == "300 of 400 frames"
    QTest.keyClick(window, Qt.Key.Key_Period)
    yield lambda: window.scene.shown.replay.at == 3
    before = len(followed.asked)
    QTest.keyClick(window, Qt.Key.Key_K)
    assert bar.play.isChecked()
    yield lambda: not bar.play.isChecked() and window.scene.shown.replay.at == 3
    assert {visible.at for visible in followed.asked[before:]} >= {0, 1, 2, 3}, "every place was shown"
    bar._timer.setInterval(10**6)  # from now on by the test's clock: it must not be at the end already
    bar.play.click()
    yield lambda: window.scene.shown.replay.at == 0
    bar._advance()
    yield lambda: window.scene.shown.replay.at == 1
    bar.play.click()
    assert not bar.play.isChecked()
    assert bar.slider.value() == 1, "it stops where it is"
    bar.slider.setValue(0)
    yield lambda: window.scene.shown.replay.at == 0
    with_title = window.scene.superres._title.text
    assert "the first 100 frames" in with_title, with_title
    window.scene.want_canvas("z-1")
    yield lambda: window.scene.shown.canvas == "z-1" and window.scene.shown.replay.at == 3
    assert bar.slider.value() == 3, "another canvas is shown as it ended"
    followed.replay = ()
    yield lambda: not bar.isVisible()


if __name__ == "__main__":
    scenario, where = globals()[sys.argv[1]], Path(sys.argv[2])
    run(lambda live, followed: scenario(live, followed, where))
    print("done")
