"""The hook beside an acquisition: what it takes, what it refuses, and that it never disturbs."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fake_engine as fake
from served import FRAME_BYTES, SHAPE, Closed, assert_every_frame_once, make_hook, movie, soon
from stormlive.acquire.hook import StreamHook
from stormlive.ranges import Ranges
from stormlive.server.loop import Server
from stormlive_sim.errors import InputError

pytestmark = pytest.mark.usefixtures("hurry")


def test_pycromanager_sees_two_parameters(server: Server) -> None:
    with make_hook(server.address) as hook:
        assert len(inspect.signature(hook).parameters) == 2


def test_the_very_same_pair_comes_back(server: Server) -> None:
    image, metadata = movie(1)[0], {"Axes": {"time": 0}}
    before = image.copy()
    with make_hook(server.address) as hook:
        returned = hook(image, metadata)
        alone = hook(image)
    assert returned[0] is image
    assert returned[1] is metadata
    assert alone[0] is image
    assert alone[1] is None
    assert metadata == {"Axes": {"time": 0}}
    np.testing.assert_array_equal(image, before)
    assert hook(image, metadata)[0] is image  # closed, and still harmless
    assert hook.report.offered == 2


class Hostile:
    """Raises whatever one asks of it."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("no")

    def __array__(self, *args: object, **kwargs: object) -> object:
        raise RuntimeError("no")


GARBAGE = [
    None,
    "text",
    b"bytes",
    7,
    [],
    [[1, 2], [3]],
    object(),
    Hostile(),
    np.zeros((4, 5, 3), np.uint8),
    np.zeros((0, 5), np.uint16),
    np.zeros(7, np.uint16),
    np.zeros(SHAPE, np.complex64),
    np.zeros(SHAPE, np.int32),
    np.zeros(SHAPE, "datetime64[s]"),
    np.array([["a"]], dtype=object),
    np.zeros((1, 70_000), np.uint8),
]


def test_garbage_never_raises_and_is_counted(server: Server, closed: Closed) -> None:
    frames = movie(len(GARBAGE))
    with make_hook(server.address) as hook:
        for garbage, frame in zip(GARBAGE, frames, strict=True):
            assert hook(garbage, garbage)[0] is garbage
            hook(frame, {"Axes": garbage, 5: garbage})
    report = hook.report
    assert_every_frame_once(report)
    assert report.live == Ranges((2 * n + 1, 2 * n + 1) for n in range(len(GARBAGE)))
    assert isinstance(hook.error, Exception)
    assert closed.runs[0][0].ledger.missing_counts() == {
        reason: ranges.count() for reason, ranges in report.missing.items()
    }


@pytest.mark.parametrize(
    "form",
    [
        lambda f: f,
        lambda f: np.asfortranarray(f),
        lambda f: np.repeat(f, 2, axis=1)[:, ::2],
        lambda f: f.astype(">u2"),
        lambda f: f.astype(np.float32),
        lambda f: f.astype(np.float64),
        lambda f: (f // 4).astype(np.uint8),
        lambda f: np.ma.masked_array(f),
    ],
    ids=["plain", "fortran", "strided", "big-endian", "float32", "float64", "uint8", "masked"],
)
def test_whatever_form_an_image_has_its_numbers_arrive(form: Callable, server: Server, closed: Closed) -> None:
    frames = [form(frame) for frame in movie(5)]
    with make_hook(server.address) as hook:
        for frame in frames:
            hook(frame, None)
    assert hook.report.complete
    assert hook.error is None
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(np.array(frames)), rtol=1e-5)


def test_a_changed_roi_is_a_gap_and_no_more(server: Server) -> None:
    with make_hook(server.address) as hook:
        for frame in [*movie(3), *np.zeros((4, 5, 5), np.uint16), *movie(2), *movie(2).astype(np.uint8)]:
            hook(frame, {})
    report = hook.report
    assert_every_frame_once(report)
    assert report.live == Ranges([(0, 2), (7, 8)])
    assert len(report.missing) == 2
    assert all("differs from the run's first frame" in reason for reason in report.missing)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"address": "tcp://10.0.0.1:5557"}, "loopback"),
        ({"address": "127.0.0.1:"}, "address"),
        ({"calibration": None}, "pixel_size_nm, baseline_adu, photons_per_adu, exposure_ms missing"),
        (
            {"calibration": None, "pixel_size_nm": 100, "baseline_adu": 1, "exposure_ms": 1},
            "photons_per_adu missing",
        ),
        ({"pixel_size_nm": 100}, "not both"),
        ({"name": "../../etc"}, "name"),
        ({"outbox_mb": 0}, "outbox_mb"),
    ],
)
def test_bad_arguments_are_told_before_the_acquisition(options: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        StreamHook(**{"address": "tcp://127.0.0.1:5557", "calibration": fake.CALIBRATION, **options})


def test_the_dataset_is_set_until_the_first_frame(server: Server, closed: Closed, tmp_path: Path) -> None:
    folder = tmp_path / "two  spaces" / "raw_1"
    with make_hook(server.address, dataset="data/cell1_1") as hook:
        assert hook.dataset == str(Path("data/cell1_1").absolute())
        hook.check(20)
        hook.dataset = folder
        with pytest.raises(InputError, match="1000 bytes"):
            hook.dataset = "/" + "x" * 1000
        hook(movie(1)[0], None)
        with pytest.raises(InputError, match="before the acquisition"):
            hook.dataset = None
        assert hook.dataset == str(folder)
    assert closed.runs[0][0].start.dataset == str(folder)


def test_every_frame_of_a_healthy_run_is_in_the_picture(server: Server, closed: Closed) -> None:
    frames = movie(500)
    closed.folder = "my  data/run  1"
    with make_hook(server.address, name="cell 1", expected=500, dataset="/data/x") as hook:
        assert hook.check(20).model == "fake"
        for n, frame in enumerate(frames):
            hook(frame, {"Axes": {"time": n}})
        soon(lambda: hook.progress.live == 500)
        assert hook.progress.backlog == 0
        assert hook.progress.connected
    assert hook.report.complete
    assert hook.report.sentence == "500 of 500 frames are in the picture."
    assert hook.report.folder == "my  data/run  1"
    assert hook.report.failed is None
    ((run, canvas),) = closed.runs
    np.testing.assert_allclose(canvas.canvas, fake.direct_canvas(frames), rtol=1e-4)
    assert run.exit_status == "ok"
    assert run.ledger.live == hook.report.live
    assert (run.start.name, run.start.expected, run.start.dataset) == ("cell 1", 500, "/data/x")
    assert 0 <= run.latency_p50_ms <= run.latency_p99_ms
    assert run.duration_s > 0


def test_a_camera_that_reuses_its_buffer_changes_nothing(server: Server, closed: Closed) -> None:
    frames, buffer = movie(200), np.zeros(SHAPE, np.uint16)
    with make_hook(server.address) as hook:
        for frame in frames:
            buffer[:] = frame
            hook(buffer, None)
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(frames), rtol=1e-4)


def test_large_frames_that_are_not_copied_arrive_whole(closed: Closed) -> None:
    frames = np.random.default_rng(1).integers(90, 500, (40, 300, 300)).astype(np.uint16)
    assert frames[0].nbytes > 128 * 1024
    limits = {"credit_bytes": 3 * frames[0].nbytes, "max_frame_bytes": frames[0].nbytes}
    with (
        Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", **limits) as server,
        make_hook(server.address, outbox_mb=10) as hook,
    ):
        for frame in frames:
            hook(frame, None)
    assert hook.report.complete
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(frames), rtol=1e-4)


def test_a_full_outbox_refuses_the_newest_frames(closed: Closed) -> None:
    engine = fake.FakeEngine()
    engine.gate.clear()
    with Server(engine, finish=closed, bind="tcp://127.0.0.1:*") as server:
        hook = make_hook(server.address, outbox_mb=100 * FRAME_BYTES / 2**20, spool_mb=0)
        for frame in movie(150):
            hook(frame, None)
        assert hook.progress.missing == 50
        engine.gate.set()
        soon(lambda: hook.progress.live == 100)
        for frame in movie(10):
            hook(frame, None)
        report = hook.close()
    assert_every_frame_once(report)
    assert report.missing == {"outbox full": Ranges([(100, 149)])}
    assert report.sentence == "110 of 160 frames are in the picture; 50 are missing: 100-149 (outbox full)."
    assert closed.runs[0][0].ledger.sentence() == report.sentence
