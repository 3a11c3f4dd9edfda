"""The live window: its pixels through EGL in this process, its windows on a virtual screen in others."""

import importlib
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import numpy as np
import pytest

from children import killed_at_last
from stormlive.output.display import auto_contrast, auto_contrasts, scale_bar_nm, sum_pool
from stormlive.viewer import screen
from stormlive.viewer.offscreen import offscreen_scene, render
from stormlive.viewer.view import EVERYTHING, FINEST, LiveView, Picture
from stormlive.viewer.window import run_window
from stormlive.wire.viewing import CONTRAST_PERCENTILES
from stormlive_sim.errors import InputError

SCENARIOS = Path(__file__).with_name("window_scenario.py")
OF_VISPY = "ignore:Function:DeprecationWarning"  # its events ask Qt for `QMouseEvent.pos`
SIZE = (1240, 700)


def skip_or_fail(reason: str) -> NoReturn:
    """Machines without OpenGL may skip; CI sets STORMLIVE_REQUIRE_GL=1, so that it cannot skip unnoticed."""
    if os.environ.get("STORMLIVE_REQUIRE_GL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def view(widefield: np.ndarray, superres: np.ndarray, pixel_size_nm: float = 100.0) -> LiveView:
    upsampling = superres.shape[0] // widefield.shape[0]
    return LiveView(
        widefield=Picture(pixels=widefield, pixel_size_nm=pixel_size_nm),
        superres=Picture(pixels=superres, pixel_size_nm=pixel_size_nm / upsampling),
        field_nm=(widefield.shape[0] * pixel_size_nm, widefield.shape[1] * pixel_size_nm),
        status="17 frames",
    )


def point(shape: tuple[int, int], y: int, x: int) -> np.ndarray:
    image = np.zeros(shape, np.float32)
    image[y, x] = 1
    return image


class Drawn:
    """A scene and the pixels of its two panes, whose places are read off the picture itself."""

    def __init__(self) -> None:
        try:
            self.scene = offscreen_scene(SIZE)
        except InputError as error:
            skip_or_fail(str(error))

    def show(self, shown: LiveView) -> None:
        self.scene.show(shown)
        self.scene.show_whole_field()
        self.scene.refresh()

    def panes(self) -> tuple[np.ndarray, np.ndarray]:
        rgb = render(self.scene)
        assert rgb.shape == (SIZE[1], SIZE[0], 3)
        width = (SIZE[0] - 30) // 2
        return rgb[30:690, 10 : 10 + width], rgb[30:690, 20 + width : 20 + 2 * width]

    def lit_nm(self, pane: np.ndarray) -> tuple[float, float]:
        """Return the centre (x, y) of what is lit in a pane, without the scale bar, in nm in the field."""
        rows, columns = np.nonzero(pane[:560].max(axis=2) > 100)
        part = self.scene.visible()
        return (
            part.x_nm + (columns.mean() + 0.5) * part.nm_per_screen_px,
            part.y_nm + (rows.mean() + 0.5) * part.nm_per_screen_px,
        )


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn()


def test_a_scene_that_knows_no_field_asks_for_everything() -> None:
    assert Drawn().scene.visible() == EVERYTHING


@pytest.mark.parametrize(("y", "x"), [(0, 0), (3, 60), (40, 7), (31, 31)])
def test_both_pictures_show_the_same_place_at_the_same_place(drawn: Drawn, y: int, x: int) -> None:
    fine = np.zeros((512, 512), np.float32)
    fine[8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = 1
    drawn.show(view(point((64, 64), y, x), fine))
    left, right = drawn.panes()
    expected = pytest.approx((100 * (x + 0.5), 100 * (y + 0.5)), abs=drawn.scene.visible().nm_per_screen_px)
    assert drawn.lit_nm(left) == expected
    assert drawn.lit_nm(right) == expected


def test_row_0_is_on_top_and_x_runs_to_the_right(drawn: Drawn) -> None:
    drawn.show(view(point((64, 64), 5, 50), point((512, 512), 40, 400)))
    for pane in drawn.panes():
        rows, columns = np.nonzero(pane[:560].max(axis=2) > 100)
        assert rows.max() < pane.shape[0] / 4
        assert columns.min() > pane.shape[1] / 2


def test_fields_need_not_be_square(drawn: Drawn) -> None:
    drawn.show(view(point((32, 128), 30, 2), point((256, 1024), 8 * 30 + 4, 8 * 2 + 4)))
    left, right = drawn.panes()
    assert drawn.lit_nm(left) == pytest.approx((250, 3050), abs=50)
    assert drawn.lit_nm(right) == pytest.approx((250, 3050), abs=50)


def test_a_part_is_drawn_where_it_lies(drawn: Drawn) -> None:
    part = np.ones((8, 8), np.float32)
    part[0, 0] = 0
    drawn.show(
        LiveView(
            widefield=Picture(pixels=np.zeros((64, 64), np.float32), pixel_size_nm=100),
            superres=Picture(pixels=part, pixel_size_nm=50, x_nm=1000, y_nm=2000),
            field_nm=(6400, 6400),
            status="",
        )
    )
    assert drawn.lit_nm(drawn.panes()[1]) == pytest.approx((1200, 2200), abs=15)


def test_pan_and_zoom_are_shared(drawn: Drawn) -> None:
    fine = np.zeros((512, 512), np.float32)
    fine[80:88, 160:168] = 1
    drawn.show(view(point((64, 64), 10, 20), fine))
    drawn.scene.look_at(1900, 900, 300, 300)
    left, right = drawn.panes()
    assert drawn.scene.visible().nm_per_screen_px == pytest.approx(300 / 605, rel=1e-3)
    for pane in (left, right):
        assert drawn.lit_nm(pane) == pytest.approx((2050, 1050), abs=1)
        assert (pane[:560].max(axis=2) > 100).sum() == pytest.approx((100 * 605 / 300) ** 2, rel=0.02)
    drawn.scene.show_whole_field()
    assert drawn.scene.visible().width_nm == pytest.approx(6400)


def test_zoomed_out_no_localization_is_lost(drawn: Drawn) -> None:
    """Texture sampling alone shows one pixel in twelve of this canvas; the sum shows them all."""
    rng = np.random.default_rng(11)
    canvas = np.zeros((2048, 2048), np.float32)
    rows, columns = rng.integers(0, 1800, 400), rng.integers(0, 2048, 400)
    canvas[rows, columns] = 1
    drawn.show(view(np.zeros((256, 256), np.float32), canvas))
    part = drawn.scene.visible()
    factor = int(np.ceil(part.nm_per_screen_px / 12.5 / FINEST))
    assert factor > 2
    lit = drawn.panes()[1].max(axis=2) > 40
    for row, column in zip(rows // factor, columns // factor, strict=True):
        x = ((column + np.array([0, 1])) * factor * 12.5 - part.x_nm) / part.nm_per_screen_px
        y = ((row + np.array([0, 1])) * factor * 12.5 - part.y_nm) / part.nm_per_screen_px
        assert lit[int(y[0]) : int(np.ceil(y[1])), int(x[0]) : int(np.ceil(x[1]))].any()


def test_zooming_in_brings_back_the_detail(drawn: Drawn) -> None:
    canvas = np.zeros((2048, 2048), np.float32)
    canvas[100, 100] = canvas[100, 102] = 1
    shown = view(np.zeros((256, 256), np.float32), canvas)
    drawn.show(shown)
    drawn.scene.look_at(1200, 1200, 125, 125)
    drawn.scene.refresh()
    lit = (drawn.panes()[1][:560].max(axis=2) > 100).any(axis=0)
    edges = np.flatnonzero(np.diff(lit.astype(int)))
    assert np.diff(edges) == pytest.approx(605 / 10, abs=1.01), "two squares of a pixel, one pixel apart"


@pytest.mark.parametrize("pixel_size_nm", [100.0, 160.0, 37.0])
def test_scale_bars_have_their_length_and_follow_the_zoom(drawn: Drawn, pixel_size_nm: float) -> None:
    drawn.show(view(np.zeros((64, 64), np.float32), np.zeros((512, 512), np.float32), pixel_size_nm))
    lengths = []
    for zoom in (1, 7):
        drawn.scene.look_at(0, 0, 64 * pixel_size_nm / zoom, 64 * pixel_size_nm / zoom)
        nm_per_px = drawn.scene.visible().nm_per_screen_px
        expected_px = scale_bar_nm(605 * nm_per_px / 4) / nm_per_px
        for pane in drawn.panes():
            white = (pane[-30:] > 240).all(axis=2).sum(axis=1)
            assert white.max() == pytest.approx(expected_px, abs=2)
        lengths.append(scale_bar_nm(605 * nm_per_px / 4))
    assert lengths[1] < lengths[0] / 3


def test_contrast_follows_the_data_and_nan_is_black(drawn: Drawn) -> None:
    bright = []
    for scale in (1e-3, 1.0, 1e5):
        canvas = np.zeros((512, 512), np.float32)
        canvas[100:200, 100:200] = scale
        canvas[300:350, 300:350] = np.nan
        drawn.show(view(np.full((64, 64), np.nan, np.float32), canvas))
        left, right = drawn.panes()
        bright.append(int((right[:560].max(axis=2) > 200).sum()))
        assert left[:560].max() < 10
    assert len(set(bright)) == 1
    assert bright[0] == pytest.approx((1250 / drawn.scene.visible().nm_per_screen_px) ** 2, rel=0.02)


def test_a_known_contrast_is_that_of_the_whole_wherever_one_looks(drawn: Drawn) -> None:
    canvas = np.random.default_rng(3).gamma(2.0, size=(512, 512)).astype(np.float32)
    canvas[:, :256] *= 9
    pane, whole = drawn.scene.superres, auto_contrasts(canvas, CONTRAST_PERCENTILES)
    per_um2 = 1 / 0.0125**2
    shown = []
    for x in (0, 256):
        part = Picture(pixels=canvas[:256, x : x + 256], pixel_size_nm=12.5, x_nm=12.5 * x, contrast=whole)
        drawn.show(replace(view(np.zeros((64, 64), np.float32), canvas), superres=part))
        drawn.scene.look_at(12.5 * x, 0, 3200, 3200)
        drawn.scene.refresh()
        shown.append(pane.limits)
    assert shown[0] == shown[1] == pytest.approx([limit * per_um2 for limit in auto_contrast(canvas)])
    pane.look = replace(pane.look, percentile=90.0)
    assert pane.limits == pytest.approx([limit * per_um2 for limit in auto_contrast(canvas, percentile=90.0)])
    pane.look = replace(pane.look, percentile=99.5)
    # Zoomed out, until a coarser picture comes, from what the part becomes; by itself that is nine times darker.
    drawn.scene.look_at(0, 0, 20_000, 20_000)
    drawn.scene.refresh()
    factor = pane._drawn[1]
    assert factor > 1
    assert pane.limits[1] == pytest.approx(auto_contrast(sum_pool(canvas, factor))[1] / factor**2 * per_um2, rel=0.15)


def test_the_user_steps_through_the_canvases_of_a_run(drawn: Drawn) -> None:
    one = view(np.zeros((64, 64), np.float32), np.zeros((512, 512), np.float32))
    several = replace(one, canvases=("channel-A", "channel-B"), canvas="channel-B")
    drawn.show(one)
    alone = render(drawn.scene)[:28]
    assert drawn.scene.visible().canvas is None
    drawn.show(several)
    assert (render(drawn.scene)[:28] != alone).any()
    asked = []
    for _ in range(4):
        drawn.scene.next_canvas()
        asked.append(drawn.scene.visible().canvas)
    assert asked == ["channel-A", "channel-B", None, "channel-A"]
    drawn.show(one)
    assert (render(drawn.scene)[:28] == alone).all()
    drawn.scene.next_canvas()
    assert drawn.scene.visible().canvas is None


def test_one_over_the_other_shows_each_on_its_side_of_the_divider() -> None:
    drawn = Drawn()
    drawn.show(view(np.ones((64, 64), np.float32), np.zeros((512, 512), np.float32)))
    drawn.scene.widefield.look = replace(drawn.scene.widefield.look, limits=(0.0, 1.0))
    drawn.scene.layout = "over"
    for x in (400, 700):
        drawn.scene.swipe_to(x)
        assert drawn.scene.near_divider(x, 300)
        assert not drawn.scene.near_divider(x + 30, 300)
        row = render(drawn.scene)[200].max(axis=1)
        lit = np.flatnonzero(row > 200)
        assert lit.min() == pytest.approx((SIZE[0] - 660) / 2, abs=2), "the whole field, 660 pixels high"
        assert lit.max() == pytest.approx(x, abs=2)
        assert drawn.scene.pane_at(x - 20, 300) is drawn.scene.widefield
        assert drawn.scene.pane_at(x + 20, 300) is drawn.scene.superres
    drawn.scene.swipe_to(SIZE[0])
    for part in ((0, 0, 6400, 6400), (1000, 1000, 3000, 3000)):
        drawn.scene.look_at(*part)
        backing = render(drawn.scene)[SIZE[1] - 56, SIZE[0] - 26]
        assert 15 < backing.max() < 90, "the scale bar's backing is seen on black, and white letters on it on white"
    drawn.scene.show_whole_field()
    drawn.scene.layout = "beside"
    left, right = drawn.panes()
    assert (left[300] > 200).all()
    assert not (right[300] > 200).any()


def test_changing_the_layout_keeps_middle_and_scale(drawn: Drawn) -> None:
    drawn.show(view(np.zeros((64, 64), np.float32), np.zeros((512, 512), np.float32)))
    drawn.scene.zoom(4, 2000, 5000)
    before = drawn.scene.visible()
    for layout in ("over", "beside", "over", "beside"):
        drawn.scene.layout = layout
        part = drawn.scene.visible()
        assert part.nm_per_screen_px == pytest.approx(before.nm_per_screen_px)
        assert part.x_nm + part.width_nm / 2 == pytest.approx(before.x_nm + before.width_nm / 2)
        assert part.y_nm + part.height_nm / 2 == pytest.approx(before.y_nm + before.height_nm / 2)


def test_limits_by_hand_mean_the_same_at_every_zoom(drawn: Drawn) -> None:
    """Half of the white limit is drawn as half, whether a pixel of the screen shows one value or the sum of many."""
    canvas = np.full((2048, 2048), 0.5, np.float32)
    look = drawn.scene.superres.look
    per_um2 = 1 / 0.0125**2
    drawn.scene.superres.look = replace(look, colormap="gray", gamma=1.0, limits=(0.0, per_um2))
    try:
        drawn.show(view(np.zeros((256, 256), np.float32), canvas))
        for width_nm in (25_600, 9000, 300):
            drawn.scene.look_at(5000 if width_nm < 9000 else 0, 5000 if width_nm < 9000 else 0, width_nm, width_nm)
            drawn.scene.refresh()
            assert drawn.panes()[1][200, 300].tolist() == pytest.approx([127, 127, 127], abs=2)
            assert drawn.scene.superres.value_at(5100, 5100) == pytest.approx(0.5 * per_um2)
    finally:
        drawn.scene.superres.look = look


def test_zoom_and_pan_stay_within_reason(drawn: Drawn) -> None:
    drawn.show(view(np.zeros((64, 64), np.float32), np.zeros((512, 512), np.float32)))
    for _ in range(200):
        drawn.scene.zoom(0.5, 0, 0)
    assert drawn.scene.visible().width_nm < 100_000
    for _ in range(200):
        drawn.scene.zoom(2.0, 3000, 3000)
    assert drawn.scene.visible().nm_per_screen_px >= 0.049
    drawn.scene.show_whole_field()
    drawn.scene.pan(1e9, -1e9)
    part = drawn.scene.visible()
    assert part.x_nm + part.width_nm / 2 == pytest.approx(6400)
    assert part.y_nm + part.height_nm / 2 == pytest.approx(0, abs=1)


def test_errors_are_painted_where_they_are_and_only_when_wanted(drawn: Drawn) -> None:
    plain = view(np.zeros((64, 64), np.float32), np.zeros((512, 512), np.float32))
    drawn.show(replace(plain, errors=Picture(pixels=-point((64, 64), 20, 40), pixel_size_nm=100)))
    rows, columns = np.nonzero(drawn.panes()[1][:560, :, 2] > 150)
    part = drawn.scene.visible()
    assert part.x_nm + (columns.mean() + 0.5) * part.nm_per_screen_px == pytest.approx(4050, abs=15)
    assert part.y_nm + (rows.mean() + 0.5) * part.nm_per_screen_px == pytest.approx(2050, abs=15)
    drawn.show(plain)
    assert not (drawn.panes()[1][:560, :, 2] > 150).any()


def test_marks_are_drawn_in_both_pictures(drawn: Drawn) -> None:
    drawn.show(view(np.zeros((64, 64), np.float32), np.zeros((512, 512), np.float32)))
    drawn.scene.mark((1000, 1000, 3000, 2000), (4000, 4000, 5000, 4000))
    part = drawn.scene.visible()
    for pane in drawn.panes():
        rows, columns = np.nonzero(pane[:560].max(axis=2) > 150)
        x = part.x_nm + columns * part.nm_per_screen_px
        y = part.y_nm + rows * part.nm_per_screen_px
        assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((1000, 5000, 1000, 4000), abs=40)
    drawn.scene.mark(None, None)
    assert not any((pane[:560].max(axis=2) > 150).any() for pane in drawn.panes())


def test_nothing_is_drawn_anew_that_has_not_changed(drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Panning must not upload the picture again."""
    shown = view(np.zeros((64, 64), np.float32), point((512, 512), 3, 3))
    drawn.show(shown)
    drawn.scene.zoom(3, 3200, 3200)
    drawn.scene.refresh()
    uploads: list[object] = []
    monkeypatch.setattr(type(drawn.scene.superres._image), "set_data", lambda self, data: uploads.append(data))
    for step in range(20):
        drawn.scene.pan(3.3 * step, 1.7)
        drawn.scene.refresh()
        render(drawn.scene)
    assert not uploads


@pytest.fixture(scope="module")
def virtual_screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a screen of its own, and return its DISPLAY."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("WAYLAND_DISPLAY", raising=False)
            patch.delenv("QT_QPA_PLATFORM", raising=False)
            screen.require_qt()
    except InputError as error:
        skip_or_fail(str(error))
    if sys.platform != "linux" or shutil.which("Xvfb") is None:
        skip_or_fail("no Xvfb; on Debian: apt install xvfb")
    reader, writer = os.pipe()
    log = tmp_path_factory.mktemp("xvfb") / "log"
    with (
        log.open("wb") as stream,
        # Without a reset, which it makes when its last client leaves, and in which it turns away those that come.
        killed_at_last(
            subprocess.Popen(
                ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1400x900x24", "-nolisten", "tcp", "-noreset"],
                pass_fds=[writer],
                stdout=stream,
                stderr=stream,
            )
        ) as server,
    ):
        os.close(writer)
        with os.fdopen(reader) as answer:
            number = answer.readline().strip()
        if not number:
            pytest.fail(f"Xvfb did not start: {log.read_text()}")
        yield f":{number}"
        server.terminate()
        server.wait(20)


PREAMBLE = """
import os, signal, threading
import numpy as np
from stormlive.viewer.screen import has_display
from stormlive.viewer.view import EVERYTHING, LiveView, Picture
from stormlive.viewer.window import run_window

assert has_display()
stop, asked = threading.Event(), []

def shown():
    return LiveView(
        widefield=Picture(pixels=np.ones((64, 64), np.float32), pixel_size_nm=100),
        superres=Picture(pixels=np.ones((512, 512), np.float32), pixel_size_nm=12.5),
        field_nm=(6400, 6400),
        status=f"{len(asked)} frames",
    )
"""


def in_a_window(display: str, code: str) -> subprocess.CompletedProcess[str]:
    return with_screen(display, "-c", PREAMBLE + textwrap.dedent(code))


def with_screen(
    display: str, *arguments: str | Path, settings: Path | None = None, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in {"WAYLAND_DISPLAY", "QT_QPA_PLATFORM"}}
    return subprocess.run(
        [sys.executable, "-W", "error", "-W", OF_VISPY, *map(str, arguments)],
        env={**environment, "DISPLAY": display, "XDG_CONFIG_HOME": str(settings or os.devnull)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_the_window_follows_the_run_and_ends_without_ending_the_process(virtual_screen: str) -> None:
    done = in_a_window(
        virtual_screen,
        """
        def fetch(visible):
            asked.append((visible, threading.current_thread().name))
            if len(asked) == 5:
                return None
            if len(asked) == 8:
                stop.set()
            return shown()

        run_window(fetch, "test", interval_ms=10, stop=stop)
        parts, threads = zip(*asked)
        assert parts[0] == EVERYTHING
        assert abs(parts[-1].width_nm - 6400) < 1, parts[-1]
        assert len(set(threads)) == 1 and threads[0] != "MainThread"
        assert threading.active_count() == 1
        print("still here")
        """,
    )
    assert (done.returncode, done.stdout) == (0, "still here\n"), done.stderr


def test_closing_the_window_waits_for_the_answer_under_way(virtual_screen: str) -> None:
    done = in_a_window(
        virtual_screen,
        """
        import time
        from PySide6.QtCore import QTimer
        from PySide6.QtWidgets import QApplication

        under_way, closed, answered = threading.Event(), threading.Event(), threading.Event()

        def fetch(visible):
            asked.append(visible)
            if len(asked) == 3:
                under_way.set()
                assert closed.wait(30)
                time.sleep(0.2)
                answered.set()
            return shown()

        app = QApplication([])

        def close_as_a_user_does():
            if under_way.is_set():
                for window in app.topLevelWindows():
                    window.close()
                closed.set()

        timer = QTimer()
        timer.timeout.connect(close_as_a_user_does)
        timer.start(20)
        run_window(fetch, "test", interval_ms=10)
        assert answered.is_set() and len(asked) == 3, asked
        print("closed")
        """,
    )
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr


def test_a_failing_fetch_is_shown_and_raised_when_the_window_closes(virtual_screen: str) -> None:
    done = in_a_window(
        virtual_screen,
        """
        import logging

        class Told(logging.Handler):
            def emit(self, record):
                threading.Timer(0.3, stop.set).start()

        logging.getLogger("stormlive.viewer").addHandler(Told())

        def fetch(visible):
            asked.append(visible)
            if len(asked) == 3:
                raise ConnectionError("the server is gone")
            return shown()

        try:
            run_window(fetch, "test", interval_ms=10, stop=stop)
        except ConnectionError as error:
            assert len(asked) == 3
            print("raised:", error)
        """,
    )
    assert (done.returncode, done.stdout) == (0, "raised: the server is gone\n"), done.stderr


def test_ctrl_c_closes_the_window_though_a_run_goes_on(virtual_screen: str) -> None:
    done = in_a_window(
        virtual_screen,
        """
        from stormlive.viewer.runs import RunState

        class Runs:
            models, state = ["model"], RunState(phase="acquiring")

        def fetch(visible):
            asked.append(visible)
            if len(asked) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return shown()

        before = signal.getsignal(signal.SIGINT)
        try:
            run_window(fetch, "test", interval_ms=10, runs=Runs())
        except KeyboardInterrupt:
            assert signal.getsignal(signal.SIGINT) is before
            print("interrupted")
        """,
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@pytest.mark.parametrize("user", ["moves_and_zooms", "measures_and_saves"])
def test_a_user_at_the_window(user: str, virtual_screen: str, tmp_path: Path) -> None:
    done = with_screen(virtual_screen, SCENARIOS, user, tmp_path, settings=tmp_path / "settings")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_the_window_remembers_what_its_user_chose(virtual_screen: str, tmp_path: Path) -> None:
    for user in ("pauses_and_is_told", "finds_his_choices_again"):
        done = with_screen(virtual_screen, SCENARIOS, user, tmp_path, settings=tmp_path / "settings")
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.timeout(300)
def test_a_user_starts_and_stops_runs(virtual_screen: str, tmp_path: Path) -> None:
    scenario = SCENARIOS.with_name("runs_scenario.py")
    done = with_screen(virtual_screen, scenario, tmp_path, settings=tmp_path / "settings", timeout_s=280)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Windows and macOS always have a screen")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"DISPLAY": ""}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"DISPLAY": ":0", "QT_QPA_PLATFORM": "offscreen"}, False),
        ({"DISPLAY": ":0", "QT_QPA_PLATFORM": "minimal:enable_fonts"}, False),
        ({"DISPLAY": ":0", "QT_QPA_PLATFORM": "xcb"}, True),
    ],
)
def test_has_display(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(screen, "_x_server_answers", lambda: True)
    assert screen.has_display() is expected


@pytest.mark.skipif(sys.platform != "linux", reason="Windows and macOS always have a screen")
def test_a_display_where_nobody_answers_is_none(monkeypatch: pytest.MonkeyPatch, virtual_screen: str) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    monkeypatch.setenv("DISPLAY", virtual_screen)
    assert screen.has_display()
    # Libraries try TCP, too, at 6000 and the number: none of the ports that systems give to any program.
    monkeypatch.setenv("DISPLAY", ":59000")
    assert not screen.has_display()


@pytest.mark.skipif(sys.platform != "linux", reason="Windows and macOS always have a screen")
def test_a_display_that_never_answers_is_none_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nothing can interrupt must not hang the command, as a dead tunnel would."""
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    monkeypatch.setattr(screen, "_X_PATIENCE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as dead:
        monkeypatch.setenv("DISPLAY", f"127.0.0.1:{dead.getsockname()[1] - 6000}")
        assert not screen.has_display()
        asked, _ = dead.accept()
        asked.close()
    for thread in threading.enumerate():
        if thread.name == "stormlive-display":
            thread.join(20)


def test_missing_libraries_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without_egl(name: str) -> ModuleType:
        if name.startswith("PySide6"):
            raise ImportError("libEGL.so.1: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(screen.importlib, "import_module", without_egl)
    with pytest.raises(InputError, match=r"libEGL\.so\.1.*--headless") as caught:
        run_window(lambda visible: None, "test")
    assert "\n" not in str(caught.value)
    if sys.platform == "linux":
        assert "apt install libegl1 " in str(caught.value)
        assert "libxcb-cursor0" in str(caught.value)
