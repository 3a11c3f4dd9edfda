"""A model that looks at the frames before and after each one, live: each is computed between its own neighbours."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fake_engine as fake
from cable import Cable
from served import FRAME_BYTES, Closed, Dataset, make_hook, movie, numbers, soon
from server_process import Servers
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.stream import FrameStream
from stormlive.offline.blocks import blocks
from stormlive.output.ome_tiff import read_image
from stormlive.ranges import Ranges
from stormlive.server import neighbours as neighbours_module
from stormlive.server.engine import Engine
from stormlive.server.finish import RunWriter
from stormlive.server.kept_frames import NeighboursMoment, Stretch
from stormlive.server.kept_pixels import KeptPixels
from stormlive.server.loop import Server
from stormlive.server.neighbours import Neighbours
from stormlive.server.protocols import Canvas
from stormlive.server.waiting import Waiting
from stormlive.wire.client import LiveClient
from stormlive.wire.frame import Frame
from stormlive_sim.errors import InputError
from stormlive_sim.movie import Scene, SceneSettings

pytestmark = pytest.mark.usefixtures("hurry")
OUTBOX_OF_2 = 2 * FRAME_BYTES / 2**20


def frame_of(seq: int) -> Frame:
    """Return a frame that tells its own number."""
    return Frame(run=UUID(int=1), seq=seq, t_ns=0, axes={"time": seq}, pixels=np.full((1, 1), seq + 1, np.uint16))


def canvas_of() -> Canvas:
    return Canvas(reconstruction=fake.FakeReconstruction(fake.FakeEngine(), (1, 1)), table=None)


@dataclass
class Files:
    """A dataset of such frames: some of them it names and cannot read, some it does not name."""

    unreadable: frozenset[int] = frozenset()
    unsaved: frozenset[int] = frozenset()

    def has(self, axes: Mapping[str, int | str]) -> bool:
        return axes["time"] not in self.unsaved

    def frame(self, axes: Mapping[str, int | str]) -> np.ndarray | None:
        if axes["time"] in self.unreadable:
            raise InputError("the dataset cannot be read")
        return frame_of(axes["time"]).pixels if self.has(axes) else None


@dataclass
class Seen:
    """What an engine got: of each frame the numbers before and after it, None where there was none."""

    beside: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)

    def give(self, neighbours: Neighbours, canvas: Canvas, *seqs: int) -> list[int]:
        """Give frames of a canvas; return which are computed then."""
        frames = [frame_of(seq) for seq in seqs]
        neighbours.take(canvas, frames, np.stack([frame.pixels for frame in frames]), {})
        return [seq for stretch in neighbours.ready(1000) for seq in self.take(stretch)]

    def settle(self, neighbours: Neighbours, n: int) -> list[int]:
        """Say that nothing more is to come; return which are computed then."""
        neighbours.settle(n)
        return [seq for stretch in neighbours.ready(1000) for seq in self.take(stretch)]

    def take(self, stretch: Stretch) -> list[int]:
        there = [None, *(stretch.pixels[:, 0, 0].astype(int) - 1).tolist(), None]
        for at, kept in enumerate(stretch.frames, stretch.own.start):
            assert there[at + 1] == kept.seq
            assert kept.seq not in self.beside
            self.beside[kept.seq] = there[at], there[at + 2]
        assert stretch.own.stop - stretch.own.start == len(stretch.frames)
        self.alone |= set(stretch.alone)
        return [kept.seq for kept in stretch.frames]


def test_a_frame_is_computed_when_the_next_one_has_come() -> None:
    neighbours, seen, canvas = Neighbours(None, latest=False), Seen(), canvas_of()
    assert seen.give(neighbours, canvas, 0) == []
    assert seen.give(neighbours, canvas, 1) == [0]
    assert seen.give(neighbours, canvas, 2, 3) == [1, 2]
    assert numbers(neighbours.held) == [3]
    assert seen.settle(neighbours, 4) == [3]
    assert seen.beside == {0: (None, 1), 1: (0, 2), 2: (1, 3), 3: (2, None)}
    assert not seen.alone


def test_frames_beside_a_gap_wait_until_it_is_filled() -> None:
    neighbours, seen, canvas = Neighbours(None, latest=False), Seen(), canvas_of()
    assert seen.give(neighbours, canvas, 0, 1, 2) == [0, 1]
    assert seen.give(neighbours, canvas, 4, 5, 6) == [5]
    assert numbers(neighbours.held) == [2, 4, 6]
    assert seen.give(neighbours, canvas, 3) == [2, 3, 4]
    assert seen.settle(neighbours, 0) == [6]
    assert not seen.alone


def test_where_nothing_comes_later_nothing_waits_for_it() -> None:
    neighbours, seen, canvas = Neighbours(None, latest=True), Seen(), canvas_of()
    assert [seen.give(neighbours, canvas, seq) for seq in (0, 5, 6)] == [[], [0], [5]]
    assert seen.settle(neighbours, 9) == [6]
    assert seen.beside == {0: (None, None), 5: (None, 6), 6: (5, None)}
    assert seen.alone == {0, 5, 6}


def right_beside(
    seq: int, places: list[int], came: set[int], lost: set[int]
) -> tuple[tuple[int | None, int | None], bool]:
    """Return which frames are before and after one of those that came, and whether one is lost beside it."""
    mine = [other for other in came if places[other] == places[seq]]
    before = max((other for other in mine if other < seq), default=None)
    after = min((other for other in mine if other > seq), default=None)
    gap_before = any((-1 if before is None else before) < one < seq for one in lost)
    gap_after = any(seq < one < (len(places) if after is None else after) for one in lost)
    return (None if gap_before else before, None if gap_after else after), gap_before or gap_after


@settings(deadline=None)
@given(data=st.data())
def test_every_frame_is_computed_once_between_its_own_neighbours(data: st.DataObject) -> None:
    """In whatever order and batches they come, of several canvases, killed in between, in much memory and in little."""
    n = data.draw(st.integers(1, 24))
    numbered = st.frozensets(st.integers(0, n - 1), max_size=3)
    places = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    lost = data.draw(numbered)
    files = data.draw(st.none() | st.builds(Files, unreadable=numbered, unsaved=numbered))
    most, most_bytes = data.draw(st.integers(1, 8)), data.draw(st.sampled_from([0, 2**20]))
    most_frames = data.draw(st.sampled_from([8, 100]))
    coming = data.draw(st.permutations(sorted(set(range(n)) - lost)))
    killed_at = data.draw(st.integers(0, 12))
    canvases, seen, turn = [canvas_of() for _ in range(3)], Seen(), 0

    def work(neighbours: Neighbours) -> None:
        for stretch in neighbours.ready(most):
            seen.take(stretch)
        while neighbours.busy:
            for stretch in neighbours.ready(most):
                seen.take(stretch)

    neighbours = Neighbours(files, latest=False, most_bytes=most_bytes)
    while coming:
        size = data.draw(st.integers(1, 6))
        batch, coming = coming[:size], coming[size:]
        for place, canvas in enumerate(canvases):
            frames = [frame_of(seq) for seq in batch if places[seq] == place]
            if frames:
                neighbours.take(canvas, frames, np.stack([frame.pixels for frame in frames]), {})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(neighbours_module, "_MOST_FRAMES", most_frames)
            work(neighbours)
        assert len(neighbours._kept) <= most_frames
        assert most_bytes or len(neighbours._pixels.here) <= 12
        assert all(image.base is None for image in neighbours._pixels.here.values())
        turn += 1
        if turn == killed_at:
            moment = msgspec.json.decode(msgspec.json.encode(neighbours.moment(canvases)), type=NeighboursMoment)
            arrays, coming = neighbours.snapshot(), [*coming, *numbers(neighbours.held)]
            neighbours = Neighbours(files, latest=False, most_bytes=most_bytes)
            neighbours.restore(moment, canvases, arrays)
    neighbours.settle(n)
    work(neighbours)
    assert not neighbours.held
    came = set(range(n)) - lost
    unread = came - set(seen.beside)
    assert unread <= (frozenset() if files is None or most_bytes else files.unreadable)
    scarce = most_frames <= n or (not most_bytes and files != Files())
    for seq, got in seen.beside.items():
        right, gap = right_beside(seq, places, came, set(lost))
        if scarce:
            assert all(one in (None, other) for one, other in zip(got, right, strict=True))
            assert seq in seen.alone or got == right
        else:
            assert got == right
            assert (seq in seen.alone) == gap


@settings(deadline=None)
@given(data=st.data())
def test_a_preview_of_several_canvases_waits_for_nothing_and_mistakes_no_neighbour(data: st.DataObject) -> None:
    """Though the frames wait by canvas, and come out of their order."""
    n = data.draw(st.integers(1, 24))
    places = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    lost = data.draw(st.sets(st.integers(0, n - 1), max_size=4))
    coming = [
        Frame(
            run=UUID(int=1), seq=seq, t_ns=0, axes={"time": seq, "position": places[seq]}, pixels=frame_of(seq).pixels
        )
        for seq in range(n)
        if seq not in lost
    ]
    canvases, seen, queue = [canvas_of() for _ in range(3)], Seen(), Waiting[Frame]()
    neighbours = Neighbours(None, latest=True)
    while coming or queue:
        size = data.draw(st.integers(0 if queue else 1, 4))
        queue.extend(coming[:size])
        coming = coming[size:]
        batch = queue.take(data.draw(st.integers(1, 4)))
        for place, canvas in enumerate(canvases):
            frames = [frame for frame in batch if frame.axes["position"] == place]
            if frames:
                neighbours.take(canvas, frames, np.stack([frame.pixels for frame in frames]), {})
        for stretch in neighbours.ready(1000, {frame.seq for frame in queue}):
            seen.take(stretch)
        assert all(len(line) <= 2 for line in neighbours._lines.values())
    seen.settle(neighbours, n)
    assert sorted(seen.beside) == sorted(set(range(n)) - lost)
    for seq, got in seen.beside.items():
        right, gap = right_beside(seq, places, set(seen.beside), lost)
        assert got == right
        assert (seq in seen.alone) == gap


def test_what_was_left_to_the_dataset_is_never_in_memory_at_once() -> None:
    neighbours, seen, canvas, most = Neighbours(Files(), latest=False, most_bytes=20), Seen(), canvas_of(), 0
    for seq in range(0, 400, 2):
        seen.give(neighbours, canvas, seq)
    assert len(neighbours._pixels.here) == 10
    neighbours.settle(400)
    while neighbours.busy:
        computed = 0
        for stretch in neighbours.ready(64):
            computed += len(seen.take(stretch))
            most = max(most, len(neighbours._pixels.here))
        assert computed <= 64
    assert sorted(seen.beside) == list(range(0, 400, 2))
    assert most <= 10 + 16 + 2


def test_pixels_that_were_read_do_not_stay_beyond_the_bound() -> None:
    pixels = KeptPixels(Files(), most_bytes=6)
    for seq in range(5):
        pixels.get(seq, {"time": seq})
    pixels.give_back(least=1)
    assert list(pixels.here) == [2, 3, 4]


def test_what_the_dataset_does_not_have_yet_is_not_left_to_it() -> None:
    files, seen, canvas = Files(unsaved=frozenset(range(40))), Seen(), canvas_of()
    neighbours = Neighbours(files, latest=False, most_bytes=0)
    for seq in range(0, 40, 2):
        seen.give(neighbours, canvas, seq)
    seen.settle(neighbours, 40)
    assert sorted(seen.beside) == list(range(0, 40, 2)) == sorted(seen.alone)


@pytest.fixture
def engine() -> fake.FakeEngine:
    engine = fake.FakeEngine()
    engine.context = 1
    return engine


def offer(hook: StreamHook, frames: np.ndarray, axes: list[dict] | None = None, *, patiently: bool = True) -> None:
    for n, frame in enumerate(frames):
        if patiently:
            soon(lambda: hook.has_room)
        hook(frame, {"Axes": {"time": n} if axes is None else axes[n]})


def canvas_between(*stretches: np.ndarray) -> np.ndarray:
    """Return the canvas of stretches of frames without any server."""
    return sum(fake.direct_canvas(fake.between(frames)) for frames in stretches)


def assert_offline(closed: Closed, *stretches: np.ndarray) -> None:
    ((run, canvas),) = closed.runs
    np.testing.assert_array_equal(canvas.canvas, canvas_between(*stretches))
    assert bool(run.ledger.alone) == (len(stretches) > 1)


@pytest.mark.parametrize("lane", ["auto", "tcp"])
def test_the_live_canvas_is_the_offline_one(lane: str, server: Server, closed: Closed) -> None:
    frames = movie(100)
    hook = make_hook(server.address, lane=lane)
    offer(hook, frames)
    soon(lambda: hook.progress.live == 100)  # the last one too, which waits for another
    assert hook.close().live == Ranges([(0, 99)])
    assert_offline(closed, frames)
    assert closed.runs[0][0].latency_p50_ms is not None


def test_a_stream_that_waits_for_every_frame_is_not_kept_waiting(server: Server, closed: Closed) -> None:
    frames = movie(40)
    with FrameStream(make_hook(server.address, mode="block", outbox_mb=OUTBOX_OF_2, spool_mb=0)) as live:
        for frame in frames:
            live.send(frame)
    assert live.report.live == Ranges([(0, 39)])
    assert_offline(closed, frames)


@pytest.mark.parametrize("alternating", [True, False])
def test_neighbours_are_those_of_the_same_canvas(alternating: bool, server: Server, closed: Closed) -> None:
    """Which takes no room in the outbox, though the last frame of each place waits for the end of the run."""
    axes = [{"time": n // 5, "p": n % 5} if alternating else {"time": n % 12, "p": n // 12} for n in range(60)]
    frames = movie(60)
    hook = make_hook(server.address, outbox_mb=OUTBOX_OF_2, spool_mb=0)
    offer(hook, frames, axes)
    assert hook.close().complete
    (canvases,) = closed.canvases
    assert not closed.runs[0][0].ledger.alone
    for place, canvas in enumerate(canvases):
        mine = frames[[one["p"] == place for one in axes]]
        np.testing.assert_array_equal(canvas.reconstruction.canvas, canvas_between(mine))


@pytest.mark.parametrize("saved", [True, False])
def test_frames_that_come_later_find_their_neighbours(
    saved: bool, server: Server, engine: fake.FakeEngine, closed: Closed, tmp_path: Path
) -> None:
    """From the dataset, or from the spool."""
    frames = movie(300)
    dataset = Dataset(tmp_path)
    dataset.write(frames)
    dataset.finish()
    hook = make_hook(server.address, dataset=str(dataset.path) if saved else None, outbox_mb=20 * FRAME_BYTES / 2**20)
    engine.gate.clear()
    offer(hook, frames[:100], patiently=not saved)
    engine.gate.set()
    for n, frame in enumerate(frames[100:], 100):
        engine.frame_s = 0.0002 * (n % 7)
        soon(lambda: saved or hook.has_room)
        hook(frame, {"Axes": {"time": n}})
    report = hook.close(30)
    assert report.complete, report.sentence
    assert report.replayed.count() > 30
    assert_offline(closed, frames)


def test_of_a_frame_that_never_comes_its_neighbours_are_told(server: Server, closed: Closed) -> None:
    frames = movie(30)
    hook = make_hook(server.address)
    for n, frame in enumerate(frames):
        hook(frame if n != 7 else np.zeros((3, 3), np.uint16), None)
    hook.close()
    assert_offline(closed, frames[:7], frames[8:])
    ledger = closed.runs[0][0].ledger
    assert ledger.alone == Ranges([(6, 6), (8, 8)]) == Ranges(ledger.as_dict()["alone"])
    assert "; 2 of them were computed without a frame that belongs beside them." in ledger.sentence()


def test_a_viewer_waits_for_a_batch_of_them_not_for_all(
    server: Server, engine: fake.FakeEngine, closed: Closed
) -> None:
    hook = make_hook(server.address)
    for n, frame in enumerate(movie(40)):
        hook(frame if n % 2 == 0 else np.zeros((3, 3), np.uint16), None)
    soon(lambda: hook.progress.live == 20)  # acknowledged, though none is in the picture
    with LiveClient(server.address) as client, ThreadPoolExecutor(1) as pool:
        soon(lambda: (status := client.status(0.2)) is not None and (status.live, status.backlog) == (0, 20))
        engine.frame_s = 0.05
        report = pool.submit(hook.close)
        soon(lambda: engine.batches)
        assert client.view("canvas")[0].live < 20
        assert report.result().live.count() == 20
    run = closed.runs[0][0]
    assert run.frames_per_s > 0
    assert run.latency_p99_ms is not None


def test_a_preview_is_not_kept_waiting(server: Server, engine: fake.FakeEngine, closed: Closed) -> None:
    frames = movie(60)
    hook = make_hook(server.address, mode="latest", outbox_mb=OUTBOX_OF_2)
    for n, frame in enumerate(frames[:12]):
        hook(frame, None)
        soon(lambda n=n: hook.progress.live > n)  # as soon as it is there, though it is not yet in the picture
    engine.gate.clear()
    offer(hook, frames[12:], patiently=False)
    engine.gate.set()
    report = hook.close()
    assert list(report.missing) == ["a newer frame came"]
    assert {11, 59} <= set(numbers(report.live))
    assert_offline(closed, *(frames[first : last + 1] for first, last in report.live))


def test_an_engine_that_fails_leaves_no_frame_unaccounted(
    server: Server, engine: fake.FakeEngine, closed: Closed
) -> None:
    hook = make_hook(server.address)
    offer(hook, movie(5))
    soon(lambda: hook.progress.live == 5)
    engine.broken = True
    report = hook.close()
    ledger = closed.runs[0][0].ledger
    assert ledger.in_picture() == report.live == Ranges([(0, 3)])
    assert Ranges([(4, 4)]) in ledger.missing.values()
    assert "engine failed" in report.failed


def test_a_connection_that_is_lost_costs_no_neighbour(server: Server, closed: Closed) -> None:
    frames, cable = movie(80), Cable(server.address)
    try:
        hook = make_hook(cable.address, outbox_mb=20 * FRAME_BYTES / 2**20)
        offer(hook, frames[:40])
        cable.cut()
        for n, frame in enumerate(frames[40:], 40):
            soon(lambda: hook.has_room)
            hook(frame, {"Axes": {"time": n}})
        assert hook.close(20).complete
    finally:
        cable.close()
    assert_offline(closed, frames)


def test_killed_and_started_again_the_canvas_is_the_offline_one(servers: Servers) -> None:
    frames, point = movie(200), "checkpoint written"
    hook = make_hook(servers.start(point, frame_s=0.002, context=1).address, outbox_mb=50 * FRAME_BYTES / 2**20)
    offer(hook, frames)
    servers.wait_until_dead()
    servers.start(context=1)
    report = hook.close(30)
    assert report.complete, report.sentence
    np.testing.assert_array_equal(np.load(Path(report.folder) / "canvas.npy"), canvas_between(frames))


def test_the_shipped_model_live_is_the_shipped_model_offline(tmp_path: Path) -> None:
    scene = Scene(SceneSettings(shape=(24, 32), density_per_um2=2.0))
    frames = np.stack([image.numpy() for image, _ in scene.frames(24, 30.0)])
    engine, shape = Engine("livenet-context", "cpu:torch"), (24, 32)
    writer = RunWriter(engine, tmp_path / "run", folder_per_run=False, localizations=Path("t.csv"))
    with Server(engine, bind="tcp://127.0.0.1:*", finish=writer, open_table=writer.open_table) as server:
        hook = make_hook(server.address)
        offer(hook, frames)
        assert hook.close(30).complete
    whole, each_alone = engine.open(shape, fake.CALIBRATION), engine.open(shape, fake.CALIBRATION)
    rows: list[np.ndarray] = []
    for block in blocks(frames, whole.context):
        found: list[np.ndarray] = []
        whole.add(block.frames, found.append, block.own)
        rows += [np.sort(part["frame"] + block.first + 1) for part in found]
    for frame in frames:
        each_alone.add(frame[None])
    canvas = read_image(tmp_path / "run" / "superres.ome.tif")[0]
    np.testing.assert_allclose(canvas, whole.canvas(), rtol=1e-4, atol=1e-5)
    assert np.abs(canvas - each_alone.canvas()).max() > 0.1
    table = np.genfromtxt(tmp_path / "run" / "t.csv", delimiter=",", skip_header=1)
    np.testing.assert_array_equal(np.sort(table[:, 1]), np.concatenate(rows))
