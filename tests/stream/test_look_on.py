"""Those who look on: the window's source, the commands `view` and `snapshot`, a finished run's folder."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fake_engine as fake
from fake_engine import FakeEngine
from served import SHAPE, Closed, make_hook, movie, soon
from stormlive.cli.app import run
from stormlive.output import preview
from stormlive.output.ome_tiff import write_image
from stormlive.server.loop import Server
from stormlive.viewer import remote, screen, window
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.saved import SavedView
from stormlive.viewer.view import EVERYTHING, LiveView, Visible
from stormlive.wire import client
from stormlive_sim.errors import InputError

FRAMES = movie(12)


def send(server: Server, frames: np.ndarray = FRAMES) -> None:
    hook = make_hook(server.address, name="cells")
    for frame in frames:
        hook(frame)
    assert hook.close().complete


def until(view: RemoteView, good: Callable[[LiveView], bool], asked: Visible = EVERYTHING) -> LiveView:
    deadline = time.monotonic() + 20
    while True:
        assert time.monotonic() < deadline
        shown = view(asked)
        if shown is not None and good(shown):
            return shown


def test_the_window_is_given_what_it_wants_or_else_what_there_is(server: Server) -> None:
    send(server)
    view = RemoteView(server.address)
    try:
        shown = until(view, lambda _: True)
        photons = (FRAMES.astype(float) - 100) * 0.5
        np.testing.assert_allclose(shown.widefield.pixels, photons.mean(0), rtol=1e-5)
        last = until(view, lambda _: True, replace(EVERYTHING, last=True))
        assert last.last
        np.testing.assert_allclose(last.widefield.pixels, photons[-1], rtol=1e-5)
        # This server judges nothing.
        shown = until(view, lambda _: True, replace(EVERYTHING, errors=True, corrected=True))
        assert (shown.errors, shown.corrected) == (None, False)
        whole = view.whole(None)
        np.testing.assert_allclose(whole.pixels, fake.direct_canvas(FRAMES), rtol=1e-5)
        assert whole.pixel_size_nm == 50
    finally:
        view.close()


def test_a_window_stays_with_its_own_run_or_follows_the_newest(server: Server) -> None:
    """Two cameras share a server."""
    first, second = (make_hook(server.address, name=name) for name in ("one", "two"))
    own = RemoteView(server.address, run=lambda: first.run if first.progress.offered else None)
    newest = RemoteView(server.address)
    try:
        assert own(EVERYTHING) is None
        assert "is ready" in own.waits_for()
        assert "It waits for the run's first frame." in own.waits_for()
        second(FRAMES[0])
        until(newest, lambda shown: shown.report.name == "two")
        assert own(EVERYTHING) is None, "another's run is not its own"
        first(FRAMES[1])
        until(own, lambda shown: shown.report.name == "one" and shown.report.live == 1)
        until(newest, lambda shown: shown.report.name == "one")
        second(FRAMES[2])
        soon(lambda: second.progress.live == 2)
        assert own(replace(EVERYTHING, last=True)).report.name == "one"
        assert first.close().complete
        shown = until(own, lambda shown: shown.report.state == "finished")
        np.testing.assert_allclose(shown.superres.pixels, fake.direct_canvas(FRAMES[1:2]), rtol=1e-5)
        np.testing.assert_allclose(own.whole(None).pixels, fake.direct_canvas(FRAMES[1:2]), rtol=1e-5)
        until(newest, lambda shown: shown.report.name == "two")
    finally:
        own.close()
        newest.close()
        second.close()


def test_view_stays_with_the_run_of_a_name(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    titles = []

    def run_window(view: RemoteView, title: str, **_: object) -> None:
        titles.append(title)
        until(view, lambda shown: shown.report.name == "one")

    monkeypatch.setattr(screen, "has_display", lambda: True)
    monkeypatch.setattr(window, "run_window", run_window)
    monkeypatch.setattr("stormlive.cli.view._LISTEN_S", 0.4)
    hooks = [make_hook(server.address, name=name) for name in ("one", "two")]
    try:
        for hook in hooks:
            hook(FRAMES[0])
            soon(lambda hook=hook: hook.progress.live == 1)
        assert run(["view", server.address, "--run", "one"]) == 0
        assert titles == [f"stormlive – one on {server.address}"]
        capsys.readouterr()
        assert run(["view", server.address, "--run", "three"]) == 1
        assert "got 'three'; the runs there: one, two" in " ".join(capsys.readouterr().err.split())
    finally:
        for hook in hooks:
            hook.close()
    assert run(["view", str(tmp_path), "--run", "one"]) == 1
    assert "leave it out" in capsys.readouterr().err


def test_strips_make_up_the_whole_canvas(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_STRIP_BYTES", 3 * 4 * SHAPE[1] * 2)
    send(server)
    view = RemoteView(server.address)
    try:
        with pytest.raises(InputError, match="no canvas yet"):
            view.whole(None)
        until(view, lambda _: True)
        np.testing.assert_allclose(view.whole(None).pixels, fake.direct_canvas(FRAMES), rtol=1e-5)
    finally:
        view.close()


def test_a_part_is_that_part_of_both_pictures(engine: FakeEngine, closed: Closed) -> None:
    frames = movie(2, shape=(400, 500))
    with Server(engine, finish=closed, bind="tcp://127.0.0.1:*") as server:
        send(server, frames)
        view = RemoteView(server.address)
        try:
            part = replace(EVERYTHING, x_nm=20_000, y_nm=10_000, width_nm=5000, height_nm=4000, nm_per_screen_px=50.0)
            shown = until(view, lambda _: True, part)
            photons = ((frames.astype(float) - 100) * 0.5).mean(0)
            for picture, whole in ((shown.widefield, photons), (shown.superres, fake.direct_canvas(frames))):
                size = picture.pixel_size_nm
                rows, columns = picture.pixels.shape
                top, left = round(picture.y_nm / size), round(picture.x_nm / size)
                assert picture.x_nm <= 20_000
                assert picture.y_nm <= 10_000
                assert picture.x_nm + columns * size >= 25_000
                assert picture.y_nm + rows * size >= 14_000
                assert picture.pixels.size < whole.size / 4
                np.testing.assert_allclose(picture.pixels, whole[top : top + rows, left : left + columns], rtol=1e-5)
        finally:
            view.close()


def test_a_server_that_is_lost_is_told_and_found_again(monkeypatch: pytest.MonkeyPatch, closed: Closed) -> None:
    monkeypatch.setattr(remote, "_SILENCE_S", 1.0)
    monkeypatch.setattr(remote, "_RECONNECT_S", 0.2)
    with Server(FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", heartbeat_s=0.2) as server:
        address = server.address
        send(server)
        view = RemoteView(address)
        before = until(view, lambda shown: "finished" in shown.status)
    try:
        lost = until(view, lambda shown: "does not answer" in shown.status)
        assert lost.report is None
        assert (lost.superres.pixels == before.superres.pixels).all()
        with Server(FakeEngine(), finish=closed, bind=address, heartbeat_s=0.2) as server:
            send(server, FRAMES[:3])
            again = until(view, lambda shown: shown.report is not None)
            assert again.report.live == 3
    finally:
        view.close()


def test_nobody_there_is_told_before_a_window_opens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_SILENCE_S", 0.3)
    monkeypatch.setattr(client, "LiveClient", partial(client.LiveClient, timeout_s=0.3))
    with pytest.raises(ConnectionError, match="is stormlive serve running there"):
        RemoteView("tcp://127.0.0.1:9")(EVERYTHING)
    assert run(["view", "127.0.0.1:9"]) == 1
    assert "is stormlive serve running there" in capsys.readouterr().err


def test_view_needs_a_screen_and_says_what_does_not(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(screen, "has_display", lambda: False)
    assert run(["view", server.address]) == 1
    assert "stormlive snapshot" in capsys.readouterr().err
    assert run(["view", str(tmp_path)]) == 1
    assert "the folder of a finished run" in capsys.readouterr().err


def test_a_snapshot_is_a_picture_of_what_the_server_has(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "view.png"
    said: list[str] = []
    draw = preview.draw_text

    def drawn(picture: Image.Image, x: int, y: int, text: str, *more: object) -> None:
        said.append(text)
        draw(picture, x, y, text, *more)

    monkeypatch.setattr(preview, "draw_text", drawn)
    send(server)
    assert run(["snapshot", server.address, "-o", str(path)]) == 0
    assert "cells: 12 frames" in capsys.readouterr().err
    assert {"12 frames of cells", "50 nm pixels, fake"} <= set(said)
    with make_hook(server.address, name="dyes") as hook:
        for frame, dye in zip(FRAMES, ["Cy3", *["Cy5"] * 11], strict=True):
            hook(frame, {"Axes": {"channel": dye}})
    assert run(["snapshot", server.address, "-o", str(path)]) == 0
    assert {"11 frames of dyes", "50 nm pixels, channel-Cy5, fake"} <= set(said)
    with Image.open(path) as picture:
        assert picture.width > 2 * picture.height * SHAPE[1] / SHAPE[0] * 0.8
        assert np.asarray(picture).max() == 255


@pytest.mark.parametrize(
    ("name", "word"),
    [("view.jpg", "ends in .png"), ("nowhere/view.png", "does not exist"), ("v.png", "no run has begun")],
)
def test_a_snapshot_that_cannot_be_is_one_line(
    name: str,
    word: str,
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stormlive.cli.snapshot._WAIT_S", 0.5)
    assert run(["snapshot", server.address, "-o", str(tmp_path / name)]) == 1
    assert word in " ".join(capsys.readouterr().err.split())


def test_a_finished_runs_folder_is_shown(tmp_path: Path) -> None:
    canvas = np.random.default_rng(4).poisson(1, (800, 1600)).astype(np.float32)
    widefield = canvas.reshape(100, 8, 200, 8).sum((1, 3))
    write_image(tmp_path / "superres.ome.tif", canvas, 12.5, name="a", description="b")
    write_image(tmp_path / "widefield.ome.tif", widefield, 100.0, name="a", description="b")
    (tmp_path / "run.json").write_text('{"summary": "7 frames"}')
    saved = SavedView(tmp_path)
    shown = saved(EVERYTHING)
    assert shown.field_nm == (10_000, 20_000)
    assert shown.superres.pixels.sum() == canvas.sum()
    assert shown.superres.pixels.shape[1] <= 512
    assert "7 frames" in shown.status
    assert saved(EVERYTHING) is None
    part = saved(replace(EVERYTHING, x_nm=5000, y_nm=5000, width_nm=1000, height_nm=1000, nm_per_screen_px=2.0))
    assert part.superres.pixel_size_nm == 12.5
    top, left = round(part.superres.y_nm / 12.5), round(part.superres.x_nm / 12.5)
    rows, columns = part.superres.pixels.shape
    assert (part.superres.pixels == canvas[top : top + rows, left : left + columns]).all()
    assert (saved.whole(None).pixels == canvas).all()
    assert part.replay is None
    assert "older versions" in part.no_replay
    record = {"canvases": [{"files": ["superres.ome.tif"], "replay": [], "no_replay": "too large"}]}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert SavedView(tmp_path)(EVERYTHING).no_replay == "no time slider: too large"
    record["canvases"][0]["replay"] = [3, 7]
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert "no such file" in SavedView(tmp_path)(EVERYTHING).no_replay


def test_the_canvases_of_a_finished_run_are_told_apart(tmp_path: Path) -> None:
    for n, name in enumerate(("channel-A", "channel-B"), 1):
        write_image(
            tmp_path / f"superres_{name}.ome.tif", np.full((16, 16), n, np.float32), 50, name="a", description="b"
        )
        write_image(
            tmp_path / f"widefield_{name}.ome.tif", np.full((8, 8), n, np.float32), 100, name="a", description="b"
        )
    saved = SavedView(tmp_path)
    shown = saved(EVERYTHING)
    assert (shown.canvases, shown.canvas) == (("channel-A", "channel-B"), "channel-B")
    assert saved(replace(EVERYTHING, canvas="channel-A")).superres.pixels.max() == 1
