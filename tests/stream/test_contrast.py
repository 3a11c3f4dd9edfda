"""The automatic contrast of whole pictures, which viewers of a part of one are told."""

import threading
from functools import partial
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pytest
from msgspec import UNSET

import fake_engine as fake
from served import make_hook, movie, soon
from stormlive.output.display import auto_contrast, auto_contrasts
from stormlive.server import contrast
from stormlive.server.contrast import Contrasts, Sample
from stormlive.server.loop import Server
from stormlive.server.packer import Packer
from stormlive.server.worker import Outgoing
from stormlive.viewer.look import SUPERRES
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.view import LiveView, Visible
from stormlive.wire.client import LiveClient
from stormlive.wire.viewing import CONTRAST_PERCENTILES, Viewed

SHAPE = (300, 400)
FRAMES = movie(3, shape=SHAPE)
FRAMES[:, :100] //= 4  # so that no part is like the whole


def part_of(picture: np.ndarray) -> contrast.Part:
    return lambda x, y, w, h: picture[y : y + h, x : x + w]


def test_the_contrast_of_the_whole_comes_with_every_part(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set[str]()
    measure = Contrasts.measure

    def noted(self: Contrasts, sample: Sample) -> object:
        threads.add(threading.current_thread().name)
        return measure(self, sample)

    monkeypatch.setattr(Contrasts, "measure", noted)
    hook = make_hook(server.address)
    for frame in FRAMES:
        hook(frame)
    assert hook.close().complete
    canvas, photons = fake.direct_canvas(FRAMES), (FRAMES.mean(0) - 100) * 0.5
    with LiveClient(server.address) as client:
        for name, level, whole in (
            ("canvas", 0, canvas),
            ("canvas", 1, canvas.reshape(300, 2, 400, 2).sum((1, 3))),
            ("widefield", 0, photons),
        ):
            for rectangle in ((0, 0, 30, 20), (100, 200, 50, 50), (0, 0, 2000, 2000)):
                header, _ = client.view(name, level=level, rectangle=rectangle, contrast=True)
                np.testing.assert_allclose(header.contrast, auto_contrasts(whole, CONTRAST_PERCENTILES), rtol=1e-5)
            assert client.view(name, level=level)[0].contrast is UNSET
    assert threads == {"stormlive-packer"}, "the engine's thread has better things to do"


def test_the_window_shows_the_same_values_alike_wherever_it_looks(server: Server) -> None:
    hook = make_hook(server.address)
    for frame in FRAMES:
        hook(frame)
    assert hook.close().complete
    view = RemoteView(server.address)
    limits = []
    try:
        for y_nm in (0, 10_000, 24_000):
            seen = Visible(x_nm=0, y_nm=y_nm, width_nm=6000, height_nm=6000, nm_per_screen_px=50.0)
            shown: list[LiveView] = []
            soon(lambda seen=seen, shown=shown: (found := view(seen)) is not None and not shown.append(found))
            picture = shown[0].superres
            assert picture.pixels.size < 0.2 * 4 * FRAMES[0].size
            limits += [SUPERRES.contrast(picture.pixels, 1.0, picture.contrast)]
            assert auto_contrast(picture.pixels) != pytest.approx(limits[0], rel=0.01), "by itself it would differ"
            assert shown[0].widefield.contrast is not None
    finally:
        view.close()
    assert limits[0] == limits[1] == limits[2] == pytest.approx(auto_contrast(fake.direct_canvas(FRAMES)))


def test_it_is_found_anew_only_for_new_frames_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr(contrast, "time", clock)
    picture = np.random.default_rng(0).random((50, 60), np.float32)
    known = Contrasts()
    find = partial(known.find, ("canvas", 0), part=part_of(picture), shape=picture.shape)
    sample = find(1)
    assert isinstance(sample, Sample)
    assert not np.shares_memory(sample.values, picture), "the next batch changes the canvas"
    found = known.measure(sample)
    assert found == auto_contrasts(picture, CONTRAST_PERCENTILES)
    assert isinstance(known.find(("canvas", 1), 1, part_of(picture), picture.shape), Sample)
    clock.now = contrast.RENEW_S - 0.01
    assert find(2) == found
    clock.now = contrast.RENEW_S + 0.01
    assert find(1) == found
    assert isinstance(find(2), Sample)


def test_samples_of_a_large_canvas_take_little_of_the_engines_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr(contrast, "time", clock)
    monkeypatch.setattr(contrast, "SAMPLE_PX", 10_000)
    picture = np.random.default_rng(0).gamma(2.0, size=(700, 900)).astype(np.float32)
    taken = []

    def slow(x: int, y: int, w: int, h: int) -> np.ndarray:
        clock.now += 0.002
        taken.append(h * w)
        return picture[y : y + h, x : x + w]

    known = Contrasts()
    sample = known.find(("canvas", 0), 1, slow, picture.shape)
    assert 5000 < sum(taken) == sample.values.size <= 10_000
    found = known.measure(sample)
    # But for the very brightest.
    np.testing.assert_allclose(found[:-1], auto_contrasts(picture, CONTRAST_PERCENTILES[:-1]), rtol=0.2, atol=0.02)
    seconds = clock.now
    clock.now += 90 * seconds
    assert known.find(("canvas", 0), 2, slow, picture.shape) == found
    clock.now += 20 * seconds
    assert isinstance(known.find(("canvas", 0), 2, slow, picture.shape), Sample)


def test_where_hardly_anything_is_lit_nothing_is_said() -> None:
    picture = np.zeros((50, 60), np.float32)
    picture[1:3] = np.nan
    for lit, said in ((99, False), (100, True)):
        picture.flat[3000 - lit :] = 1
        known = Contrasts()
        found = known.measure(known.find(("canvas", 0), 1, part_of(picture), picture.shape))
        assert (found is not None) is said
        assert known.find(("canvas", 0), 1, part_of(picture), picture.shape) == found


def test_where_too_many_answers_wait_those_that_need_no_packing_go_without() -> None:
    sent: list[Outgoing] = []
    packer = Packer(sent.append)
    pixels = np.zeros((2, 2), np.float32)
    header = Viewed(request=1, run=UUID(int=1), picture="canvas", level=0, x=0, y=0, w=2, h=2, nbytes=16, live=1)
    outgoing = Outgoing(channel="view", peer=b"p", message=header, pixels=pixels)
    for _ in range(8):
        packer.submit(outgoing, UNSET, lambda: ((0.0, 1.0),) * len(CONTRAST_PERCENTILES))
    assert sent == []
    packer.submit(outgoing, "zlib", None)
    assert sent == []
    packer.submit(outgoing, UNSET, lambda: None)
    assert sent == [outgoing]


def test_an_answer_that_cannot_be_got_ready_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Outgoing] = []
    packer = Packer(sent.append)
    pixels = np.zeros((2, 2), np.float32)
    header = Viewed(request=1, run=UUID(int=1), picture="canvas", level=0, x=0, y=0, w=2, h=2, nbytes=16, live=1)
    outgoing = Outgoing(channel="view", peer=b"p", message=header, pixels=pixels)

    def without_memory() -> None:
        raise MemoryError

    packer.submit(outgoing, UNSET, without_memory)
    packer.submit(outgoing, UNSET, lambda: None)
    packer.stop()
    packer.work()
    assert [one.message.request for one in sent] == [1]
    assert "could not be got ready" in caplog.text


def test_a_flat_picture_has_a_contrast() -> None:
    picture = np.ones((2, 2**21), np.float32)
    assert Contrasts().find(("canvas", 0), 1, part_of(picture), picture.shape).values.size > 0
