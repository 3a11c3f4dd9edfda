"""Channels, positions and z through a real server: every canvas is of its own frames and of no others."""

import itertools
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest
from ndstorage import NDTiffDataset

import fake_engine as fake
from served import Closed, assert_every_frame_once, make_hook, movie, soon
from server_process import Servers
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.mda import frame_ready
from stormlive.acquire.saved import image_saved
from stormlive.cli.app import run as run_command
from stormlive.output.manifest import read_record
from stormlive.output.ome_tiff import read_image
from stormlive.output.tables import LOCALIZATION
from stormlive.server import run as run_module
from stormlive.server.engine import Engine
from stormlive.server.finish import RunWriter
from stormlive.server.loop import Server
from stormlive.server.reconstruction import Reconstruction
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.view import EVERYTHING
from stormlive.wire.client import LiveClient
from stormlive.wire.messages import Start
from stormlive.wire.viewing import MAX_CANVASES
from stormlive_sim.routes import name_of, route_of

PLACES = [
    {"channel": channel, "position": position, "z": z}
    for channel, position, z in itertools.product(("Cy5", "DAPI"), (0, 1), (0, 1, 2))
]
CALIBRATION = ("--pixel-size-nm", "100", "--baseline-adu", "100", "--photons-per-adu", "0.5", "--exposure-ms", "10")
SMALL = [{"channel": "A"}, {"channel": "B"}, {"channel": "C"}]


def interleaved(n_times: int, places: list[dict] = PLACES) -> list[dict]:
    return [{"time": time, **place} for time in range(n_times) for place in places]


def expected(frames: np.ndarray, axes: list[dict]) -> dict[str, np.ndarray]:
    """Return the canvas of each route's own frames, without any server."""
    routes = list(dict.fromkeys(map(route_of, axes)))
    return {name_of(route): fake.direct_canvas(frames[[route_of(one) == route for one in axes]]) for route in routes}


def offer(hook: StreamHook, frames: np.ndarray, axes: list[dict]) -> None:
    for frame, place in zip(frames, axes, strict=True):
        soon(lambda: hook._outbox.has_room)
        hook(frame, {"Axes": place})


def assert_canvases(closed: Closed, wanted: dict[str, np.ndarray]) -> None:
    (canvases,) = closed.canvases
    assert sorted(canvas.name for canvas in canvases) == sorted(wanted)
    for canvas in canvases:
        np.testing.assert_array_equal(canvas.reconstruction.canvas, wanted[canvas.name])


def test_each_canvas_is_the_sum_of_its_own_frames(server: Server, closed: Closed) -> None:
    axes = interleaved(5)
    frames = movie(len(axes))
    hook = make_hook(server.address)
    offer(hook, frames, axes)
    report = hook.close()
    assert report.complete, report.sentence
    assert len(expected(frames, axes)) == 12
    assert_canvases(closed, expected(frames, axes))
    assert [canvas.n_frames for canvas in closed.canvases[0]] == [5] * 12
    assert sum(server.engine.batches) == 60


def test_channels_that_alternate_come_to_the_engine_together(engine: fake.FakeEngine, closed: Closed) -> None:
    axes = interleaved(24, [*SMALL, {"channel": "D"}])
    frames = movie(len(axes))
    with Server(engine, finish=closed, bind="tcp://127.0.0.1:*", max_batch=8) as server:
        engine.gate.clear()
        hook = make_hook(server.address)
        offer(hook, frames, axes)
        with LiveClient(server.address) as client:
            soon(lambda: (status := client.status(1.0)) is not None and status.received == len(axes))
        engine.gate.set()
        report = hook.close()
    assert report.complete, report.sentence
    assert_canvases(closed, expected(frames, axes))
    assert max(engine.batches) == 8
    assert len(engine.batches) < 30  # 48, were they taken as they come: two of each channel at a time


def test_frames_that_differ_in_other_axes_share_one_canvas(server: Server, closed: Closed) -> None:
    frames = movie(30)
    hook = make_hook(server.address)
    offer(hook, frames, [{"time": i // 2, "img": i % 2, "channel": "Cy5"} for i in range(30)])
    assert hook.close().complete
    assert_canvases(closed, {"channel-Cy5": fake.direct_canvas(frames)})
    with LiveClient(server.address) as client:
        soon(lambda: (status := client.status(1.0)) is not None and status.state == "finished" and not status.canvases)
        assert not client.view("canvas")[0].canvas


def test_indices_of_useq_separate(server: Server, closed: Closed) -> None:
    axes = [{"t": t, "p": p, "c": c, "z": z} for t in range(2) for p in range(2) for c in range(2) for z in range(3)]
    frames = movie(len(axes))
    hook = make_hook(server.address)
    take = frame_ready(hook)
    for frame, index in zip(frames, axes, strict=True):
        take(frame, SimpleNamespace(index=index), {})
    assert hook.close().complete
    assert_canvases(closed, expected(frames, axes))


def test_numbers_of_any_kind_on_an_axis_of_the_users_own_separate(server: Server, closed: Closed) -> None:
    places = [{"focus": z} for z in (np.int64(0), 0.25, np.float32(0.5), 2**70)]
    axes, frames = interleaved(3, places), movie(12)
    hook = make_hook(server.address)
    offer(hook, frames, axes)
    assert hook.close().complete
    assert_canvases(closed, expected(frames, axes))
    assert [canvas.n_frames for canvas in closed.canvases[0]] == [3] * 4


def test_frames_that_are_read_from_the_dataset_are_dealt_out_too(
    tmp_path: Path, server: Server, closed: Closed
) -> None:
    axes = interleaved(4)
    frames = movie(len(axes))
    hook = make_hook(server.address)
    dataset = NDTiffDataset(str(tmp_path), name="raw", writable=True)
    dataset.initialize({})
    saved = image_saved(hook)
    for frame, place in zip(frames, axes, strict=True):
        dataset.put_image(place, frame, {})
        saved(place, dataset)
    _finish(dataset)
    report = hook.close()
    assert report.complete, report.sentence
    assert_canvases(closed, expected(frames, axes))


def test_frames_that_the_dataset_never_gets_are_given_up_together(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "DATASET_PATIENCE_S", 1.0)
    dataset = NDTiffDataset(str(tmp_path), name="raw", writable=True)
    dataset.initialize({})
    dataset.put_image({"time": 0}, movie(1)[0], {})
    hook = make_hook(server.address)
    for n in range(100):
        hook.refer({"time": n}, dataset=str(dataset.path), read=lambda: movie(1)[0])
    _finish(dataset)
    began = time.monotonic()
    report = hook.close()
    assert time.monotonic() - began < 50  # each after the others would take a second for each
    assert report.live.count() == 1
    assert report.missing["not in the dataset"].count() == 99


def _finish(dataset: NDTiffDataset) -> None:
    writer = dataset.current_writer
    dataset.finish()
    dataset.close()
    writer.reader.close()  # ndstorage forgets it


def test_a_recording_of_several_channels_is_watched(
    tmp_path: Path, server: Server, closed: Closed, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = interleaved(3)
    frames = movie(len(axes))
    dataset = NDTiffDataset(str(tmp_path / "raw"), writable=True, summary_metadata={})
    for frame, place in zip(frames, axes, strict=True):
        dataset.put_image(place, frame, {})
    _finish(dataset)
    folder = next(tmp_path.rglob("NDTiff.index")).parent
    assert run_command(["watch", str(folder), "--headless", "--server", server.address, *CALIBRATION]) == 0
    assert_canvases(closed, expected(frames, axes))
    assert "36" in capsys.readouterr().err


def test_viewers_choose_and_see_the_newest_otherwise(server: Server) -> None:
    axes = interleaved(2, SMALL)
    frames = movie(len(axes))
    hook = make_hook(server.address)
    wanted = expected(frames, axes)
    with LiveClient(server.address) as client:
        offer(hook, frames, axes)
        assert hook.close().complete
        soon(lambda: (status := client.status(1.0)) is not None and status.canvases == tuple(wanted))
        for name in wanted:
            viewed, pixels = client.view("canvas", canvas=name)
            assert (viewed.canvas, viewed.live) == (name, 2)
            np.testing.assert_allclose(pixels, wanted[name], rtol=1e-6)
            assert client.view("widefield", canvas=name)[0].canvas == name
        assert client.view("canvas")[0].canvas == "channel-C"
        assert client.view("canvas", canvas="channel-D") is None
    view = RemoteView(server.address)
    try:
        shown = None
        deadline = time.monotonic() + 20
        while shown is None:
            assert time.monotonic() < deadline
            shown = view(EVERYTHING)
        assert (shown.canvas, shown.canvases) == ("channel-C", tuple(wanted))
        shown = view(replace(EVERYTHING, canvas="channel-A"))
        assert shown.canvas == "channel-A"
        assert shown.superres.pixels.sum() == pytest.approx(wanted["channel-A"].sum(), rel=1e-5)
        shown = view(replace(EVERYTHING, canvas="of another run"))
        assert shown.canvas == "channel-C"
    finally:
        view.close()


def test_a_client_that_invents_routes_gets_so_many_and_no_more(server: Server, closed: Closed) -> None:
    n = 1000
    frames = movie(n)
    hook = make_hook(server.address)
    offer(hook, frames, [{"channel": f"{'é/' * 200}{i}"} for i in range(n)])
    with LiveClient(server.address) as client:
        soon(lambda: (status := client.status(1.0)) is not None and len(status.canvases or ()) == MAX_CANVASES)
    report = hook.close()
    assert_every_frame_once(report)
    assert report.live.count() == MAX_CANVASES
    ((reason, missing),) = report.missing.items()
    assert reason == (
        f"no canvas for one more channel: a run has {MAX_CANVASES}, and frames are summed along time, t or frame only"
    )
    assert missing.count() == n - MAX_CANVASES
    ((finished, _),) = closed.runs
    assert finished.exit_status == "ok"
    assert finished.notices == (reason,)
    assert len(closed.canvases[0]) == MAX_CANVASES
    for canvas, frame in zip(closed.canvases[0], frames, strict=False):
        np.testing.assert_array_equal(canvas.reconstruction.canvas, fake.direct_canvas(frame[None]))


def test_frames_without_memory_for_their_canvas_are_missing_and_the_others_are_not(
    server: Server, closed: Closed
) -> None:
    server.engine.most_canvases = 2
    axes = interleaved(4, SMALL)
    frames = movie(len(axes))
    hook = make_hook(server.address)
    offer(hook, frames, axes)
    report = hook.close()
    assert_every_frame_once(report)
    ((reason, missing),) = report.missing.items()
    assert reason.startswith("no canvas for one more channel: ")
    assert "there is less free" in reason
    assert [n for n in range(12) if n in missing] == [2, 5, 8, 11]
    wanted = expected(frames, axes)
    assert_canvases(closed, {name: wanted[name] for name in ("channel-A", "channel-B")})


def test_an_engine_that_fails_between_two_canvases_leaves_the_account_right(server: Server, closed: Closed) -> None:
    engine = server.engine
    add = fake.FakeReconstruction.add

    def fail_at_the_fourth(self: fake.FakeReconstruction, *given: object, **named: object) -> None:
        if len(engine.batches) >= 3:
            raise RuntimeError("CUDA out of memory")
        add(self, *given, **named)

    axes = interleaved(4, SMALL)
    frames = movie(len(axes))
    hook = make_hook(server.address)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake.FakeReconstruction, "add", fail_at_the_fourth)
        offer(hook, frames, axes)
        hook.close()
    ((finished, _),) = closed.runs
    live = [n for n in range(12) if n in finished.ledger]
    assert live
    assert sum(canvas.n_frames for canvas in closed.canvases[0]) == len(live)
    kept = expected(frames[live], [axes[n] for n in live])
    assert_canvases(closed, kept)


# Kill -9 and recovery.


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("point", ["in a batch", "before a batch", "before the files"])
def test_killed_and_started_again_every_canvas_is_the_offline_one(point: str, servers: Servers) -> None:
    axes = interleaved(12, PLACES[:6])
    frames = movie(len(axes))
    hook = make_hook(servers.start(point, frame_s=0.002).address, name="cell")
    offer(hook, frames, axes)
    closing = threading.Thread(target=hook.close, args=(30,))
    closing.start()
    servers.wait_until_dead()
    servers.start()
    closing.join(60)
    report = hook.report
    assert report.complete, report.sentence
    assert_every_frame_once(report)
    wanted = expected(frames, axes)
    folder = Path(report.folder)
    assert {path.stem for path in folder.glob("canvas*.npy")} == {f"canvas_{name}" for name in wanted}
    for name, canvas in wanted.items():
        np.testing.assert_array_equal(np.load(folder / f"canvas_{name}.npy"), canvas)
    assert json.loads((folder / "run.json").read_text())["frames"]["frames"] == len(axes)


# The files of the real engine.


@pytest.fixture(scope="module")
def livenet() -> Engine:
    return Engine("livenet", "cpu")


def run_with_files(livenet: Engine, out: Path, table: str | None, axes: list[dict], frames: np.ndarray) -> Path:
    writer = RunWriter(livenet, out, folder_per_run=True, localizations=None if table is None else Path(table))
    options = {"finish": writer, "open_table": writer.open_table, "shelf": writer.shelf}
    with Server(livenet, bind="tcp://127.0.0.1:*", **options) as server:
        hook = make_hook(server.address, name="cell")
        offer(hook, frames, axes)
        report = hook.close()
    assert report.complete, report.sentence
    assert report.failed is None
    return Path(report.folder)


def spots(n: int) -> np.ndarray:
    """Return frames with one bright emitter each."""
    y, x = np.mgrid[:24, :32]
    at = np.random.default_rng(1).uniform(8, 16, (n, 2))
    light = [2000 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 3) for a, b in at]
    return (np.random.default_rng(2).poisson(np.array(light) + 5) + 100).astype(np.uint16)


@pytest.mark.parametrize("table", [None, "t.csv", "t.hdf5"])
def test_each_canvas_has_files_of_its_own(table: str | None, livenet: Engine, tmp_path: Path) -> None:
    axes = interleaved(4, SMALL[:2])
    frames = spots(len(axes))
    folder = run_with_files(livenet, tmp_path / "runs", table, axes, frames)
    tables = {None: [], "t.csv": ["t_{}.csv"], "t.hdf5": ["t_{}.hdf5", "t_{}.yaml"]}[table]
    kinds = ["superres_{}.ome.tif", "widefield_{}.ome.tif", "preview_{}.png", *tables]
    record = read_record(folder)
    names = [[kind.format(name) for kind in kinds] for name in ("channel-A", "channel-B")]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names[0], *names[1], "run.json"])
    assert [one.files for one in record.canvases] == names
    assert [one.axes for one in record.canvases] == [[("channel", "A")], [("channel", "B")]]
    assert [one.frames for one in record.canvases] == [4, 4]
    assert record.canvas.sum == pytest.approx(sum(one.sum for one in record.canvases))
    for first, name in enumerate(("channel-A", "channel-B")):
        alone = livenet.open((24, 32), fake.CALIBRATION)
        alone.add(frames[first::2])
        image, _ = read_image(folder / f"superres_{name}.ome.tif")
        np.testing.assert_allclose(image, alone.canvas(), rtol=1e-4, atol=1e-4)
        if table == "t.csv":
            rows = np.genfromtxt(folder / f"t_{name}.csv", delimiter=",", skip_header=1, ndmin=2)
            assert set(rows[:, 1]) == set(range(first + 1, 9, 2))


@pytest.mark.parametrize("table", ["t.csv", "t.hdf5"])
def test_a_recording_of_several_channels_is_reconstructed_as_it_was_live(
    table: str, livenet: Engine, tmp_path: Path
) -> None:
    axes, frames = interleaved(4, SMALL[:2]), spots(8)
    live = run_with_files(livenet, tmp_path / "runs", table, axes, frames)
    dataset = NDTiffDataset(str(tmp_path), name="raw", writable=True)
    dataset.initialize({})
    for place, frame in zip(axes, frames, strict=True):
        dataset.put_image(place, frame, {})
    _finish(dataset)
    asked = ["reconstruct", str(dataset.path), "-o", str(tmp_path / "x.ome.tif"), "--device", "cpu", *CALIBRATION]
    assert run_command([*asked, "--localizations", str(tmp_path / table)]) == 0
    for name in ("channel-A", "channel-B"):
        offline, pixel_nm = read_image(tmp_path / f"x_{name}.ome.tif")
        image, live_pixel_nm = read_image(live / f"superres_{name}.ome.tif")
        np.testing.assert_allclose(image, offline, rtol=1e-4, atol=1e-4)
        assert pixel_nm == live_pixel_nm
        assert (tmp_path / f"x_{name}.png").exists()
        assert (tmp_path / f"t_{name}{Path(table).suffix}").exists()
    assert not (tmp_path / "x.ome.tif").exists()
    assert run_command([*asked, "--localizations", str(tmp_path / table)]) == 1  # those are there already


def test_one_route_has_the_names_of_one_canvas(livenet: Engine, tmp_path: Path) -> None:
    frames = spots(3)
    folder = run_with_files(livenet, tmp_path, "t.csv", [{"time": i, "channel": "A"} for i in range(3)], frames)
    names = ["superres.ome.tif", "widefield.ome.tif", "preview.png", "t.csv"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "run.json"])
    (canvas,) = read_record(folder).canvases
    assert (canvas.axes, canvas.frames, canvas.files) == ([("channel", "A")], 3, names)


def test_a_table_that_cannot_be_made_costs_no_picture(livenet: Engine, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    (tmp_path / "t_channel-B.csv").write_text("of an earlier run")
    writer = RunWriter(livenet, tmp_path / "run", folder_per_run=False, localizations=table)
    with Server(livenet, bind="tcp://127.0.0.1:*", finish=writer, open_table=writer.open_table) as server:
        hook = make_hook(server.address)
        offer(hook, spots(4), interleaved(2, SMALL[:2]))
        report = hook.close()
    assert report.complete
    assert "there is no table of localizations of channel-B" in report.failed
    assert len(read_record(tmp_path / "run").canvases) == 2
    assert (tmp_path / "t_channel-B.csv").read_text() == "of an earlier run"
    assert (tmp_path / "t_channel-A.csv").exists()


@pytest.mark.parametrize("table", ["t.csv", "t.hdf5"])
def test_a_table_that_was_begun_after_the_last_checkpoint_is_begun_anew(
    table: str, livenet: Engine, tmp_path: Path
) -> None:
    start = Start(run=uuid4(), name="cell", dtype="uint16", shape=(24, 32), calibration=fake.CALIBRATION)
    rows = np.zeros(3, LOCALIZATION)
    killed = RunWriter(livenet, tmp_path, folder_per_run=True, localizations=Path(table))
    first = killed.open_table(start)
    first.sink([0])(rows.copy())
    mark = first.mark()
    second = killed.open_table(start, "channel-B")
    for lost in (first, second):
        lost.sink([1])(rows.copy())
        lost.close(2)
    writer = RunWriter(livenet, tmp_path, folder_per_run=True, localizations=Path(table))
    writer.shelf.take_up(start, tmp_path / "cell")
    again = [writer.open_table(start, "channel-A", mark), writer.open_table(start, "channel-B")]
    assert [one.mark()["rows"] for one in again] == [3, 0]
    assert [one.path.stem for one in again] == ["t", "t_channel-B"]
    for one in again:
        one.close(2)


def test_killed_after_the_tables_got_their_names_the_next_server_writes_the_files(
    livenet: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes, frames = interleaved(2, SMALL[:2]), spots(4)
    options = {"folder_per_run": True, "localizations": Path("t.csv")}
    writer = RunWriter(livenet, tmp_path, **options)
    whole = Reconstruction.widefield

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Reconstruction, "widefield", full)
    served: dict = {"finish": writer, "open_table": writer.open_table, "shelf": writer.shelf}
    with Server(livenet, bind="tcp://127.0.0.1:*", **served) as server:
        hook = make_hook(server.address, name="cell")
        offer(hook, frames, axes)
        assert "No space left" in hook.close().failed
    assert (tmp_path / "cell" / "t_channel-A.csv").exists()
    monkeypatch.setattr(Reconstruction, "widefield", whole)
    again = RunWriter(livenet, tmp_path, **options)
    served = {"finish": again, "open_table": again.open_table, "shelf": again.shelf}
    with Server(livenet, bind="tcp://127.0.0.1:*", **served):
        soon(lambda: (tmp_path / "cell" / "run.json").exists())
    record = read_record(tmp_path / "cell")
    assert record.exit_status == "ok"
    assert [one.frames for one in record.canvases] == [2, 2]
    assert {"t_channel-A.csv", "t_channel-B.csv"} <= {file.name for file in record.files}
    assert not list(tmp_path.glob("*-2"))
