"""The judge beside a real server: what it says, shows and leaves, and that it never harms a run."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import numpy as np
import pytest
import torch
from msgspec import UNSET

import fake_engine as fake
from served import Closed, assert_every_frame_once, make_hook, movie, soon
from stormlive.acquire.acquisition import AcquisitionProgress
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.stream import stream
from stormlive.cli import session
from stormlive.output.judgement import MOST_POINTS, judgement_record
from stormlive.output.manifest import read_record
from stormlive.output.ome_tiff import read_image
from stormlive.server import beginning
from stormlive.server import judge as judge_module
from stormlive.server.engine import Engine
from stormlive.server.finish import RunWriter
from stormlive.server.judge import Judge
from stormlive.server.judging import Judging
from stormlive.server.look import Look, Part, coarseness
from stormlive.server.loop import Server
from stormlive.server.protocols import Canvas
from stormlive.server.verdicts import overall
from stormlive.server.watch import MOST_JUDGED, Turns, Watch
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.saved import SavedView
from stormlive.viewer.view import EVERYTHING, LiveView
from stormlive.wire.calibration import Calibration
from stormlive.wire.client import LiveClient
from stormlive.wire.viewing import Judgement, Status
from stormlive_models.judge.mismatch import Trained
from stormlive_models.judge.slabs import SLAB_FRAMES
from stormlive_sim.drift import Drift
from stormlive_sim.movie import Scene, SceneSettings

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=20)
ALWAYS_S = 1e-6
SHAPE = (40, 48)


@pytest.fixture
def judged(closed: Closed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that thinks about every batch, whatever it costs."""
    for share in ("_LOOK_SHARE", "_WORK_SHARE", "_COMPARE_SHARE"):
        monkeypatch.setattr(judge_module, share, 1.0)
    monkeypatch.setattr(judge_module, "_NICENESS", 0)  # tests that run beside these would go first
    with Server(
        fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", heartbeat_s=0.2, judge_s=ALWAYS_S
    ) as running:
        yield running
    running.raise_if_failed()


def is_idle(server: Server, n_frames: int) -> bool:
    """Return whether so many frames are in the canvas and the judge is idle, so that it looks at the next batch."""
    (run,) = server._runs.shown() or [None]
    if run is None or run.turns is None or run.canvases is None:
        return False
    return run.canvases.first.n_frames == n_frames and not run.turns.busy


def offer(hook: StreamHook, frames: np.ndarray, axes: list[dict] | None = None) -> None:
    for n, frame in enumerate(frames):
        soon(lambda: hook._outbox.has_room)
        hook(frame, {"Axes": {"time": n} if axes is None else axes[n]})


def test_a_judgement_comes_with_status_and_pictures(judged: Server, closed: Closed) -> None:
    frames = movie(60, shape=SHAPE)
    hook = make_hook(judged.address)
    with LiveClient(judged.address) as client:
        offer(hook, frames)
        seen: list[Status] = []

        def has_come() -> bool:
            status = client.status(0.1)
            seen.extend([] if status is None else [status])
            return status is not None and status.judgement is not UNSET and status.judgement.rsp is not None

        soon(has_come)
        judgement = seen[-1].judgement
        assert isinstance(judgement, Judgement)
        assert 0 < judgement.frames <= 60
        # The fake engine's canvas is the widefield picture itself, and its model has no card.
        assert judgement.rsp > 0.7
        assert judgement.gauge == "unknown"
        assert judgement.converged is False
        assert judgement.canvas == ""
        errors = client.view("errors")
        assert errors is not None
        assert errors[1].shape == SHAPE
        assert 0 < errors[0].live <= 60
        assert np.abs(errors[1]).max() <= 1
        assert client.view("errors", level=1) is None
        assert client.view("corrected") is None
    assert hook.close().complete
    ((run, reconstruction),) = closed.runs
    np.testing.assert_array_equal(reconstruction.canvas, fake.direct_canvas(frames))
    assert run.judgement is not None
    assert run.judgement.final.frames == run.judgement.series["frames"][-1] == 60
    assert closed.canvases[0][0].corrected is None


def test_the_corrected_canvas_is_viewed_like_the_canvas(judged: Server, closed: Closed) -> None:
    """The same structure in all frames, later one camera pixel to the right."""
    generator = np.random.default_rng(0)
    scene = generator.random((40, 60)) ** 8 * 1000
    frames = [scene[:, 2 - step : 50 - step] for step in (0, 1, 1)]
    movie = np.concatenate([np.repeat(frame[None], SLAB_FRAMES, 0) for frame in frames]).astype(np.uint16) + 100
    hook = make_hook(judged.address)
    with LiveClient(judged.address) as client:
        for number, part in enumerate(np.split(movie, 12), 1):
            offer(hook, part)
            soon(partial(is_idle, judged, number * len(part)))
        assert hook.close().complete
        viewed = client.view("corrected")
        assert viewed is not None
        info, corrected = viewed
        assert corrected.shape == (80, 96)
        assert info.live == 3 * SLAB_FRAMES
        for level in (1, 3):
            _, pooled = client.view("corrected", level=level)
            assert pooled.shape == (80 // 2**level, 96 // 2**level)
            np.testing.assert_allclose(
                pooled, corrected.reshape(80 // 2**level, 2**level, -1, 2**level).sum((1, 3)), rtol=1e-4
            )
        _, piece = client.view("corrected", rectangle=(10, 20, 30, 5))
        np.testing.assert_array_equal(piece, corrected[20:25, 10:40])
    ((run, _),) = closed.runs
    assert run.judgement.final.drift_nm == pytest.approx((100, 0), abs=10)
    np.testing.assert_array_equal(closed.canvases[0][0].corrected, corrected)


def shown_by(address: str, canvas: str) -> LiveView:
    """Return what a window shows whose user wants that canvas."""
    view, seen = RemoteView(address), list[LiveView]()

    def has_come() -> bool:
        one = view(replace(EVERYTHING, canvas=canvas))
        seen.extend([] if one is None else [one])
        return bool(seen) and seen[-1].canvas == canvas

    soon(has_come)
    view.close()
    return seen[-1]


def test_each_canvas_is_judged_and_the_ninth_is_not(judged: Server, closed: Closed) -> None:
    letters = "ABCDEFGHI"
    assert len(letters) == MOST_JUDGED + 1
    axes = [{"time": n // 9, "channel": letters[n % 9]} for n in range(45)]
    frames = movie(45, shape=SHAPE)
    hook = make_hook(judged.address)
    with LiveClient(judged.address) as client:
        offer(hook, frames, axes)
        assert hook.close().complete
        for number, letter in enumerate(letters):
            name, is_judged = f"channel-{letter}", number < MOST_JUDGED
            about, _ = client.view("canvas", canvas=name)
            errors = client.view("errors", canvas=name)
            assert (errors is not None) is bool(about.judgement) is is_judged
            if is_judged:
                assert (about.judgement.canvas, about.judgement.frames) == (name, 5)
                assert (errors[0].canvas, errors[0].live) == (name, 5)
        assert client.view("errors") is None, "of the newest, as every picture is"
    assert shown_by(judged.address, "channel-B").judgement.canvas == "channel-B"
    assert shown_by(judged.address, "channel-I").judgement is None
    ((run, _),) = closed.runs
    (canvases,) = closed.canvases
    assert [canvas.judgement.final.canvas for canvas in canvases[:-1]] == [f"channel-{one}" for one in letters[:-1]]
    assert canvases[-1].judgement is None
    assert "first 8 canvases" in canvases[-1].no_growth
    assert run.judgement.final.converged is False


def test_what_is_said_of_a_run_is_the_worst_of_its_canvases() -> None:
    good = Judgement(canvas="A", gauge="green", sentence="like the training", converged=True)
    doubtful = Judgement(canvas="B", gauge="amber", sentence="dense", converged=True, calibration="the gain is 2")
    unknown = Judgement(canvas="C", sentence="", converged=False)
    bad = Judgement(canvas="D", gauge="red", sentence="too dense", converged=True)
    assert overall([]) is None
    assert overall([None, None]) is None
    assert overall([good]) is good, "of one canvas all stays as it is"
    assert overall([good, None]).converged is False, "nobody knows of the other one"
    both = overall([good, doubtful])
    assert (both.canvas, both.gauge, both.converged, both.sentence) == ("B", "amber", True, "B: dense")
    assert overall([good, unknown]).canvas == "C"
    assert overall([good, unknown]).sentence == ""
    worst = overall([good, doubtful, unknown, bad])
    assert (worst.canvas, worst.gauge, worst.converged, worst.calibration) == ("D", "red", False, "the gain is 2")


def test_the_canvases_of_a_run_take_turns_and_share_the_memory_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, run = watched(monkeypatch, (60, 70), whole=True)
    judge._every_s = 0.0
    others = [Canvas(reconstruction=run.canvases.first.reconstruction, table=None, name=name) for name in "BC"]
    run.canvases.all = (run.canvases.first, *others)
    frames = np.full((4, 60, 70), 300, np.uint16)
    run.canvases.first.reconstruction.add(frames)
    looked_at, compared = [], []
    for turn in range(12):
        for canvas in run.canvases.all[: 2 if turn > 8 else 3]:
            canvas.n_frames += 4
        for canvas in run.canvases.all:
            run.turns = run.turns or Turns()
            run.turns.busy = canvas is not run.canvases.all[-1]
            # Whose frames came last does not matter.
            judge.saw(run, canvas, frames)
        assert judge._looks.qsize() == 1, "one at a time, however many canvases"
        _, _, canvas, look = judge._looks.get_nowait()
        looked_at.append(canvas.name)
        compared += [canvas.name] if look.widefield is not None else []
        judge._think(run, canvas, look)
        # Comparisons are dear: every second turn has one.
        run.turns.compare_at = 0.0 if turn % 2 else time.monotonic() + 3600
        run.turns.due_at = 0.0
    assert sorted(looked_at[:3]) == sorted(looked_at[3:6]) == ["", "B", "C"]
    assert {"", "B", "C"} == set(compared)
    assert set(looked_at[10:]) == {"", "B"}, "of what does not grow a look tells nothing new"
    slabs = [canvas.watch.judging._slabs._most_bytes for canvas in run.canvases.all]
    assert slabs == [judge_module.SLAB_BYTES // 3] * 3
    assert [canvas.growth._most_bytes for canvas in run.canvases.all] == [judge_module.MOST_BYTES // 3] * 3


def test_a_judge_that_fails_costs_the_run_nothing_but_its_judgement(
    judged: Server, closed: Closed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_self: Judging, _look: Look) -> None:
        raise ZeroDivisionError("of no use")

    monkeypatch.setattr(Judging, "take", fails)
    frames = movie(50)
    hook = make_hook(judged.address)
    offer(hook, frames)
    report = hook.close()
    assert_every_frame_once(report)
    assert report.complete
    ((run, reconstruction),) = closed.runs
    np.testing.assert_array_equal(reconstruction.canvas, fake.direct_canvas(frames))
    assert any("not judged any more: of no use" in notice for notice in run.notices)
    assert len([record for record in caplog.records if "the judge failed" in record.message]) == 1


def test_a_copy_that_fails_costs_no_frame(
    judged: Server, closed: Closed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(fake.FakeReconstruction, "widefield", fails)
    hook = make_hook(judged.address)
    offer(hook, movie(20))
    assert hook.close().complete
    ((run, _),) = closed.runs
    assert run.judgement is None or run.judgement.series["frames"] == []
    assert any("not judged any more: MemoryError" in notice for notice in run.notices)
    assert len([record for record in caplog.records if "the judge failed" in record.message]) == 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (9, 200)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_frames_of_any_shape_and_type_are_judged_without_trouble(
    judged: Server, closed: Closed, shape: tuple[int, int], dtype: type
) -> None:
    frames = movie(30, shape=shape).clip(0, 255).astype(dtype)
    hook = make_hook(judged.address)
    offer(hook, frames)
    assert hook.close().complete
    ((run, _),) = closed.runs
    assert run.notices == ()
    assert run.judgement.final.frames == 30


def test_a_server_that_does_not_judge_says_so(server: Server, closed: Closed) -> None:
    hook = make_hook(server.address)
    offer(hook, movie(5))
    assert hook.close().complete
    with LiveClient(server.address) as client:
        soon(lambda: (status := client.status(0.1)) is not None and status.state == "finished")
        assert client.view("canvas") is not None
        assert client.view("errors") is None
        assert client.view("corrected") is None
    assert closed.runs[0][0].judgement is None


def watched(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], *, whole: bool) -> tuple[Judge, SimpleNamespace]:
    """Return a judge whose thread does not run, and a run of a canvas that it may or may not copy whole."""
    if not whole:
        monkeypatch.setattr(beginning, "WHOLE_PX", 0)
    monkeypatch.setattr(beginning, "PART_PX", 32)
    engine = fake.FakeEngine()
    reconstruction = fake.FakeReconstruction(engine, shape)
    canvas = Canvas(reconstruction=reconstruction, table=None)
    start = SimpleNamespace(shape=shape, calibration=CALIBRATION, name="r")
    run = SimpleNamespace(
        start=start,
        canvases=SimpleNamespace(first=canvas, all=(canvas,), names=()),
        turns=None,
        region=None,
        notice=lambda _: None,
    )
    return Judge(threading.Condition(), 3600.0), run


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_looked_at_is_where_the_structure_is(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    judge, run = watched(monkeypatch, (60, 70), whole=whole)
    canvas = run.canvases.first
    frames = np.full((4, 60, 70), 100, np.uint16)
    canvas.reconstruction.add(frames)
    judge.saw(run, canvas, frames)
    assert canvas.watch.judging is None  # nothing there yet
    frames[:, 30:36, 50:60] = 300
    canvas.reconstruction.add(frames)
    canvas.n_frames = 8
    canvas.watch.due_at = 0.0
    judge.saw(run, canvas, frames)
    part = canvas.watch.judging.part
    assert (part.height, part.width) == (16, 16)
    assert part.row <= 30 < 36 <= part.row + 16
    assert part.column <= 50 < 60 <= part.column + 16
    canvas.watch.due_at = 0.0
    judge.saw(run, canvas, frames)
    _, _, _, look = judge._looks.get_nowait()
    assert canvas.watch.judging.is_whole is whole
    expected = canvas.reconstruction.canvas
    np.testing.assert_array_equal(look.canvas, expected if whole else expected[part.on_canvas])
    assert look.canvas.base is None
    assert (look.coarse is None) is whole
    np.testing.assert_array_equal(look.raw, frames[(slice(None), *part.on_camera)].repeat(2, 0)[:8])
    canvas.watch.judging.take(look)
    assert canvas.watch.judging.errors[0].error.shape == (60, 70)


def test_drift_that_is_not_taken_out_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for whole, told in ((True, 0), (False, 1)):
        judge, run = watched(monkeypatch, (60, 70), whole=whole)
        run.notices = []
        run.notice = run.notices.append
        canvas = run.canvases.first
        frames = np.full((4, 60, 70), 300, np.uint16)
        canvas.reconstruction.add(frames)
        canvas.n_frames = 4
        judge.saw(run, canvas, frames)
        monkeypatch.setattr(Judging, "drift_shows", property(lambda _self: True))
        look = judge_module._look(run, canvas, canvas.watch, canvas.watch.judging, compare=False)
        for _ in range(2):
            judge._looks.put((run, run.turns, canvas, look))
        judge.stop()
        judge.work()
        assert not run.turns.trouble
        assert [notice for notice in run.notices if "its drift is told, but not taken out" in notice] == run.notices
        assert len(run.notices) == told
        assert (canvas.growth is None) is bool(told)
        assert ("too large" in canvas.no_growth) is bool(told)


@pytest.mark.parametrize(
    ("side", "beside", "there", "whole"),
    [
        (512, 0, 2**30, True),
        (512, 0, 2**27, False),
        (512, 7, 2**30, False),
        (8192, 0, 8 * 2**30, True),
        (8192, 1, 8 * 2**30, True),
        (8192, 3, 8 * 2**30, False),
        (8192, 0, 2 * 2**30, False),
        (16385, 0, None, False),
    ],
)
def test_a_canvas_is_copied_whole_where_the_memory_has_room_for_it(
    monkeypatch: pytest.MonkeyPatch, side: int, beside: int, there: int | None, whole: bool
) -> None:
    monkeypatch.setattr(beginning, "available_bytes", lambda _device: there)
    assert beginning._has_room_for(side * side, beside) is whole


def test_a_region_elsewhere_has_the_judge_look_there(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, run = watched(monkeypatch, (60, 70), whole=True)
    canvas = run.canvases.first
    frames = np.full((4, 60, 70), 100, np.uint16)
    frames[:, 5:10, 5:10] = 300
    canvas.reconstruction.add(frames)
    canvas.n_frames = 4
    judge.saw(run, canvas, frames)
    before = canvas.watch.judging
    assert before.part.meets((0, 0, 16, 16))
    run.region = (40, 30, 30, 30)
    frames[:, 40:44, 50:54] = 150
    canvas.reconstruction.add(frames)
    canvas.watch.due_at, run.turns.busy = 0.0, True
    judge.saw(run, canvas, frames)
    assert canvas.watch.judging is before, "not while it thinks"
    run.turns.busy = False
    judge.saw(run, canvas, frames)
    part = canvas.watch.judging.part
    assert canvas.watch.judging is not before
    assert part.meets(run.region)
    assert part.row <= 40 < 44 <= part.row + part.height
    look = judge_module._look(run, canvas, canvas.watch, canvas.watch.judging, compare=True)
    canvas.watch.judging.take(look)
    excess = canvas.watch.judging.errors[0].excess
    assert excess.shape == (60, 70)
    assert not excess[:30].any()
    assert not excess[:, :40].any()
    assert excess.any()


def test_no_look_while_busy_or_before_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, run = watched(monkeypatch, (20, 20), whole=True)
    canvas = run.canvases.first
    frames = movie(2, shape=(20, 20))
    for n in range(50):
        canvas.reconstruction.add(frames)
        canvas.n_frames += 2
        if n == 20:
            canvas.watch.due_at, run.turns.busy = 0.0, True
        judge.saw(run, canvas, frames)
        assert judge._looks.empty()
        assert len(canvas.watch.raw) <= 16
    run.turns.busy = False
    judge.saw(run, canvas, frames)
    assert judge._looks.qsize() == 1
    judge.saw(run, canvas, frames)
    assert judge._looks.qsize() == 1
    assert canvas.watch.due_at > time.monotonic() + 3000


def looked_at(n: int, drift_nm: float, density: float = 1.0) -> tuple[Judging, np.ndarray]:
    """Return a judging of a simulated run with the truth as its canvas, and that canvas."""
    shape, u = (40, 40), 8
    trained = Trained(psf_sigma_nm=(95, 145), photons=(250, 6000), background=(0.5, 100), density_per_um2=(0.2, 12))
    seconds = n * CALIBRATION.exposure_ms / 1000
    scene = Scene(
        SceneSettings(shape=shape, density_per_um2=density, drift=Drift(x_nm_per_s=drift_nm / seconds), seed=1)
    )
    part = Part(row=0, column=0, height=40, width=40, upsampling=u)
    judging = Judging(CALIBRATION, part, (40 * u, 40 * u), trained, counts=True, most_slabs=8)
    canvas = np.zeros((40 * u, 40 * u), np.float32)
    generator = np.random.default_rng(0)
    total, frames = np.zeros(shape), []
    step = n // 12
    for k in range(12):
        numbers = range(k * step, (k + 1) * step)
        for number in numbers:
            table = scene.truth(number, CALIBRATION.exposure_ms)
            # Localized to 12 nm.
            column, row = (
                (along_nm.numpy() + generator.normal(0, 12, len(along_nm))) / 12.5
                for along_nm in (table.x_nm, table.y_nm)
            )
            column, row = (along.astype(int).clip(0, len(canvas) - 1) for along in (column, row))
            np.add.at(canvas, (row, column), 1)
        few = [
            scene.expose(scene.photons(number, 20.0), number, 20.0).numpy().astype(np.uint16) for number in numbers[:8]
        ]
        frames += few
        total = np.mean(frames, 0)
        look = Look(
            n_frames=(k + 1) * step,
            canvas=canvas.copy(),
            coarse=None,
            widefield=((total - 100) * 0.5).astype(np.float32),
            raw=np.stack(few),
        )
        judging.take(look)
    return judging, canvas


def test_a_whole_simulated_run() -> None:
    judging, canvas = looked_at(12 * SLAB_FRAMES, drift_nm=80.0, density=0.5)
    judgement = judging.judgement
    assert judgement is not None
    assert judgement.gauge == "green"
    assert judgement.psf_sigma_nm == pytest.approx(115, rel=0.05)
    assert judgement.background == pytest.approx(13.4, rel=0.1)
    assert 0.5 < judgement.density_per_um2 < 3  # that of the densest part
    assert judgement.rsp > 0.8
    assert judgement.frc_nm == pytest.approx(48, rel=0.1)  # of the same sample at rest too
    assert judgement.converged is False
    assert judgement.gain_percent_per_1000 > 0
    # From the middle of the first slab to the middle of the last.
    assert judgement.drift_nm == pytest.approx((80 * 11 / 12, 0), abs=6)
    assert judging.drift_shows
    assert judgement.calibration == ""  # what was given is right
    judging.finish()
    corrected, n_frames = judging.corrected
    assert n_frames == 12 * SLAB_FRAMES
    assert corrected.sum() == pytest.approx(canvas.sum(), rel=0.05)
    record = judging.record()
    assert record.series["frames"] == [SLAB_FRAMES * (k + 1) for k in range(12)]
    assert record.series["gauge"][-1] == "green"
    assert len(record.drift) == 8  # of 12 slabs, the most that are kept


LIGHT = 30 + 1500 * np.add.outer(np.sin(np.linspace(0, 9, 40)) ** 2, np.sin(np.linspace(0, 7, 40)) ** 2)
"""Photons (Y, X) of what shines steadily."""


def storm(n: int = 128, **settings: object) -> np.ndarray:
    scene = Scene(SceneSettings(shape=(40, 40), seed=3, **settings))
    return torch.stack([frame for frame, _ in scene.frames(n, 20.0)]).numpy()


def counted(light: np.ndarray, n: int = 128) -> np.ndarray:
    """Return ADU of photons (Y, X) or (T, Y, X)."""
    photons = np.random.default_rng(0).poisson(np.broadcast_to(light, (n, *light.shape[-2:])))
    return (100 + 2 * photons).astype(np.uint16)


def moving() -> np.ndarray:
    """Return the photons of small things that swim through a bright field."""
    rows, columns = np.mgrid[:40, :40]
    return np.stack([2000 - 900 * np.exp(-((columns - t % 40) ** 2 + (rows - 20) ** 2) / 4) for t in range(128)])


@pytest.fixture(scope="module")
def small() -> Engine:
    return Engine("small", "cpu:torch")


def judged_stream(engine: Engine, frames: np.ndarray, calibration: Calibration = CALIBRATION) -> Judgement:
    """Return the last judgement of a stream, by looks at all of its frames."""
    reconstruction = engine.open((40, 40), calibration)
    trained = Trained.from_card(reconstruction.model.card.training, calibration.pixel_size_nm)
    u = reconstruction.upsampling
    judging = Judging(
        calibration, Part(row=0, column=0, height=40, width=40, upsampling=u), (40 * u, 40 * u), trained, counts=True
    )
    for first in range(0, len(frames), 16):
        few = frames[first : first + 16]
        reconstruction.add(few)
        last = first + 16 == len(frames)
        judging.take(
            Look(
                n_frames=first + 16,
                canvas=reconstruction.canvas().copy(),
                coarse=None,
                widefield=reconstruction.widefield() if last else None,
                raw=few,
            )
        )
    assert judging.judgement is not None
    return judging.judgement


@pytest.mark.parametrize("density", [0.5, 5.0])
def test_a_good_stream_is_green_sparse_or_dense(small: Engine, density: float) -> None:
    judgement = judged_stream(small, storm(density_per_um2=density))
    assert judgement.gauge == "green", judgement.sentence
    assert judgement.psf_sigma_nm == pytest.approx(115, rel=0.1)
    assert judgement.photons == pytest.approx(1000, rel=0.4)
    assert judgement.background == pytest.approx(13.4, rel=0.35)
    assert judgement.rsp > 0.85
    assert judgement.calibration == ""


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (partial(counted, LIGHT), "Nothing blinks in these frames"),
        (partial(counted, np.full((40, 40), 20.0)), "Nothing stands out of the noise"),
        (lambda: counted(moving()), "Background"),
        (partial(storm, density_per_um2=3.0, psf_sigma_nm=220.0), "PSF width 2"),
        (partial(storm, density_per_um2=0.2, psf_sigma_nm=220.0), "PSF width 2"),
    ],
    ids=["steady", "noise", "brightfield", "wrong PSF, dense", "wrong PSF, sparse"],
)
def test_a_stream_that_the_model_cannot_know_is_red(
    small: Engine, frames: Callable[[], np.ndarray], words: str
) -> None:
    judgement = judged_stream(small, frames()[:80])
    assert judgement.gauge == "red", judgement
    assert judgement.sentence.startswith(words)
    assert judgement.sentence.endswith(".")
    assert judgement.calibration == ""


def test_the_series_of_a_long_run_is_bounded_and_keeps_its_end() -> None:
    series = [Judgement(frames=n) for n in range(1, 1301)]
    record = judgement_record(series, [])
    assert len(record.series["frames"]) <= MOST_POINTS
    assert record.series["frames"][-1] == 1300
    assert record.final.frames == 1300
    assert "sentence" not in record.series


def test_run_json_and_the_corrected_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real engine's small network, on a movie that drifts."""
    monkeypatch.setattr(judge_module, "_WORK_SHARE", 1.0)
    monkeypatch.setattr(judge_module, "_LOOK_SHARE", 1.0)
    monkeypatch.setattr("stormlive_models.judge.slabs.SLAB_FRAMES", 40)
    n = 160
    scene = Scene(SceneSettings(shape=(24, 24), drift=Drift(x_nm_per_s=100 / (n * 0.02)), seed=2))
    frames = [frame.to(torch.uint16).numpy() for frame, _ in scene.frames(n, 20.0)]
    engine = Engine("small", "cpu:torch")
    writer = RunWriter(engine, tmp_path / "out", folder_per_run=False)
    with (
        Server(engine, finish=writer, bind="tcp://127.0.0.1:*", max_batch=8, judge_s=ALWAYS_S) as server,
        stream(server.address, name="r", calibration=CALIBRATION) as run,
    ):
        for number, frame in enumerate(frames, 1):
            run.send(frame)
            if number % 20 == 0:
                soon(partial(is_idle, server, number))
    server.raise_if_failed()
    record = read_record(tmp_path / "out")
    judgement = record.judgement
    assert judgement is not None
    assert judgement.final.frames == n
    assert judgement.final.rsp > 0.8
    assert judgement.final.density_per_um2 is not None
    assert judgement.series["rsp"][-1] == judgement.final.rsp
    assert len(judgement.series["frames"]) == len(judgement.series["frc_nm"]) <= MOST_POINTS
    (corrected,) = [file for file in record.files if "drift_corrected" in file.name]
    assert corrected.name == "superres_drift_corrected.ome.tif"
    assert corrected.name in record.canvases[0].files
    assert record.canvases[0].judgement is UNSET, "of the only one it is the run's"
    image, pixel_size_nm = read_image(tmp_path / "out" / corrected.name)
    assert pixel_size_nm == pytest.approx(12.5)
    plain, _ = read_image(tmp_path / "out" / "superres.ome.tif")
    assert image.shape == plain.shape
    assert image.sum() == pytest.approx(plain.sum(), rel=0.1)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["judgement"]["final"]["frames"] == n

    saved = SavedView(tmp_path / "out")
    places = {at: saved(replace(EVERYTHING, at=at)) for at in (None, 0, 3)}
    shown = places[None].replay
    assert shown.frames == tuple(record.canvases[0].replay)
    assert shown.frames[-1] == n
    assert len(shown.frames) == shown.at + 1 > 5
    sums = [places[at].superres.pixels.sum() for at in (0, 3, None)]
    assert 0 < sums[0] < sums[1] < sums[2]
    assert (places[None].superres.pixels == plain).all()
    assert (saved(replace(EVERYTHING, corrected=True)).superres.pixels == image).all()
    saved.close()


def test_each_canvas_has_its_judgement_and_its_replay(
    small: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_module, "_WORK_SHARE", 1.0)
    monkeypatch.setattr(judge_module, "_LOOK_SHARE", 1.0)
    writer = RunWriter(small, tmp_path / "out", folder_per_run=False)
    with (
        Server(small, finish=writer, bind="tcp://127.0.0.1:*", judge_s=ALWAYS_S) as server,
        stream(server.address, name="r", calibration=CALIBRATION) as run,
    ):
        for number, frame in enumerate(storm(24).astype(np.uint16)):
            run.send(frame, {"time": number // 2, "channel": "AB"[number % 2]})
            if number % 2:
                soon(partial(is_idle, server, number // 2 + 1))
    server.raise_if_failed()
    record = read_record(tmp_path / "out")
    saved = SavedView(tmp_path / "out")
    names = ["channel-A", "channel-B"]
    for name, route in zip(names, record.canvases, strict=True):
        assert f"replay_{name}.ome.tif" in route.files
        assert route.judgement.final.canvas == name
        assert route.judgement.final.frames == route.replay[-1] == 12
        first, last = (saved(replace(EVERYTHING, canvas=name, at=at)) for at in (0, None))
        assert first.replay.frames == last.replay.frames == tuple(route.replay)
        assert 0 < first.superres.pixels.sum() < last.superres.pixels.sum()
        assert last.judgement == route.judgement.final
    assert record.judgement.final.canvas in names
    assert record.judgement.final.sentence.startswith(record.judgement.final.canvas)
    saved.close()
    # What version 0.4 left: the judgement of the first canvas is the run's.
    path = tmp_path / "out" / "run.json"
    old = json.loads(path.read_text())
    old["judgement"]["final"] |= {"canvas": "channel-A", "sentence": "as the training"}
    for route in old["canvases"]:
        del route["judgement"]
    path.write_text(json.dumps(old))
    assert read_record(path).canvases[0].judgement is UNSET
    saved = SavedView(tmp_path / "out")
    assert saved(replace(EVERYTHING, canvas="channel-A")).judgement.sentence == "as the training"
    assert saved(replace(EVERYTHING, canvas="channel-B")).judgement is None
    saved.close()


def test_an_acquisition_stops_when_its_own_run_has_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = uuid4(), uuid4()

    def status(run: UUID, converged: bool | None) -> Status:
        judgement = UNSET if converged is None else Judgement(converged=converged)
        return Status(state="running", model="m", device="d", name="cell", run=run, judgement=judgement)

    course = [status(mine, converged) for converged in (None, False, True, True)]
    stopped: list[int] = []

    class Acquisition:
        progress = AcquisitionProgress(hook=SimpleNamespace(run=mine))

        def run(self, on_progress: Callable[[AcquisitionProgress], None]) -> str:
            on_progress(AcquisitionProgress())  # before there is a hook
            for _ in course[1:]:
                on_progress(self.progress)
            return "report"

        def stop(self) -> None:
            stopped.append(len(shown))

    shown: list[Status] = []
    said: list[str] = []
    monkeypatch.setattr(session, "note", said.append)
    monkeypatch.setattr(session.StatusLine, "show", lambda _self, one: shown.append(one))
    for until, stops in ((None, []), ("cell", [3])):
        shown.clear()
        said.clear()
        stopped.clear()
        # A run of the same name has converged on the server that both share.
        client = SimpleNamespace(status=lambda _, run: status(other, True) if run is None else course[len(shown)])
        assert session._follow(Acquisition(), client, until) == "report"
        assert shown == course
        assert stopped == stops
        assert bool(said) is bool(stops)


def test_the_comparison_is_on_half_pixels_where_that_is_not_too_much() -> None:
    assert coarseness((64, 64), 8) == 2
    assert coarseness((64, 64), 3) == 1
    assert coarseness((2048, 2048), 8) == 1


def test_a_watch_that_never_looked_has_no_record() -> None:
    judge = Judge(threading.Condition(), 1.0)
    canvas = Canvas(reconstruction=SimpleNamespace(), table=None, watch=Watch())
    for turns in (None, Turns()):
        judge.close(SimpleNamespace(turns=turns, canvases=SimpleNamespace(all=(canvas,), names=())))
        assert canvas.judgement is canvas.corrected is None
