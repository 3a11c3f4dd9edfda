"""Checkpoints: whole or not there; damaged, unwritable, held by another, and what becomes of the run then."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fake_engine as fake
import strict
from served import SHAPE, movie, soon
from stormlive.acquire import sender
from stormlive.acquire.hook import StreamHook
from stormlive.ranges import Ranges
from stormlive.server import checkpoint as checkpoint_module
from stormlive.server import run as run_module
from stormlive.server.canvases import CanvasMoment
from stormlive.server.checkpoint import CHECKPOINT_DIR, Checkpoint, InUseError, Moment
from stormlive.server.ledger import Ledger
from stormlive.server.loop import Server
from stormlive.server.run_table import RunTable
from stormlive.server.shelf import Shelf
from stormlive.wire.messages import PROTOCOL, Credit, Hello, Start, Welcome
from stormlive_sim.errors import InputError

RUN = UUID("12345678-1234-5678-1234-567812345678")
START = Start(run=RUN, name="cell", dtype="uint16", shape=SHAPE, calibration=fake.CALIBRATION)


def moment(n: int, **changes: object) -> Moment:
    ledger = Ledger()
    for seq in range(n):
        ledger.add(seq)
    fields = {
        "start": START,
        "account": ledger.as_dict(),
        "fingerprint": "fake",
        "canvases": [
            CanvasMoment(route=(), name="unnamed", n_frames=n, table={"rows": n, "bytes": 7}, table_trouble=None)
        ],
        "started_at": datetime.now(UTC),
        "seconds": 12.5,
        "notices": [],
        "ending": None,
    }
    return Moment(**{**fields, **changes})


def arrays(n: int) -> dict[str, np.ndarray]:
    """Return what a fake canvas of the first `n` frames keeps."""
    reconstruction = fake.FakeReconstruction(fake.FakeEngine(), SHAPE)
    reconstruction.add(movie(n))
    return {f"0/{name}": array for name, array in reconstruction.snapshot().items()}


def leave_run(out: Path, n: int, **changes: object) -> Path:
    """Leave what a server leaves that was killed after `n` frames; return the checkpoints' folder."""
    place = Checkpoint(out / "cell" / CHECKPOINT_DIR)
    for some in (n // 2, n):
        canvas = CanvasMoment(route=(), name="unnamed", n_frames=some, table=None, table_trouble=None)
        place.write(moment(some, canvases=[canvas], **changes), arrays(some))
    place.release()
    return place.folder


class Served:
    """A server on an output folder, in this process."""

    def __init__(self, out: Path, **options: object) -> None:
        self.shelf = Shelf(out, folder_per_run=True)
        self.engine = fake.FakeEngine()
        settings = {"heartbeat_s": 0.1, "grace_s": 0.2, "checkpoint_s": 0.02, "max_batch": 8}
        self.server = Server(
            self.engine,
            finish=fake.finish_in(self.shelf),
            shelf=self.shelf,
            bind="tcp://127.0.0.1:*",
            **{**settings, **options},
        )

    def __enter__(self) -> Server:
        return self.server.start()

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self.server.raise_if_failed()


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    place = Checkpoint(tmp_path / "c")
    written = moment(5, notices=["a"], ending=("ok", 5))
    place.write(written, arrays(5))
    kept, troubles = place.read()
    assert troubles == []
    assert kept.moment == written
    for name, array in arrays(5).items():
        np.testing.assert_array_equal(kept.arrays[name], array)
    for n in range(6, 12):
        place.write(moment(n), arrays(n))
    assert len(list(place.folder.glob("*.safetensors"))) == 2
    place.release()
    again = Checkpoint(tmp_path / "c")
    assert again.read()[0].moment.account["frames"] == 11
    again.release()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkpoint]:
    place = Checkpoint(tmp_path_factory.mktemp("two") / "c")
    for n in (3, 6):
        place.write(moment(n), arrays(n))
    yield place
    place.release()


def test_an_account_that_was_changed_is_damage_too(tmp_path: Path) -> None:
    place = Checkpoint(tmp_path / "c")
    for n in (3, 6):
        place.write(moment(n), arrays(n))
    newer = max(place.folder.glob("*.safetensors"))
    whole = newer.read_bytes()
    changed = whole.replace(rb"\"live\":[[0,5]]", rb"\"live\":[[0,7]]")
    assert len(changed) == len(whole)
    assert changed != whole
    newer.write_bytes(changed)
    kept, troubles = place.read()
    assert (kept.moment.account["frames"], len(troubles)) == (3, 1)
    place.release()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_anywhere_leads_to_the_generation_before(two: Checkpoint, data: st.DataObject) -> None:
    older, newer = sorted(two.folder.glob("*.safetensors"))
    whole = newer.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "empty", "zeros"]))
    damaged = {
        "flip": whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :],
        "cut": whole[:at],
        "empty": b"",
        "zeros": whole[:at] + bytes(len(whole) - at),
    }[how]
    newer.write_bytes(damaged)
    try:
        kept, troubles = two.read()
        assert kept is not None
        if kept.moment.account["frames"] == 6:  # nothing that matters was damaged, such as a blank in the header
            assert {name: array.tobytes() for name, array in kept.arrays.items()} == {
                name: array.tobytes() for name, array in arrays(6).items()
            }
        else:
            assert kept.moment.account["frames"] == 3
            assert len(troubles) == 1
            assert newer.name in troubles[0]
    finally:
        newer.with_suffix(".damaged").unlink(missing_ok=True)
        newer.write_bytes(whole)
    assert older.exists()


def test_one_server_at_a_time(tmp_path: Path) -> None:
    place = Checkpoint(tmp_path / "c")
    with pytest.raises(InUseError, match="another server"):
        Checkpoint(tmp_path / "c")
    place.release()
    Checkpoint(tmp_path / "c").release()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Checkpoint(tmp_path / "c")
    place.write(moment(3), arrays(3))

    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "save_file", full)
    with pytest.raises(InputError, match="No space left"):
        place.write(moment(4), arrays(4))
    assert place.read()[0].moment.account["frames"] == 3
    assert sorted(path.suffix for path in place.folder.iterdir()) == ["", ".safetensors"]
    place.release()


def test_a_run_whose_sender_is_gone_too_is_closed_with_what_there_is(tmp_path: Path) -> None:
    leave_run(tmp_path, 10)
    with Served(tmp_path) as server:
        soon(lambda: (tmp_path / "cell" / "run.json").exists())
        soon(lambda: not (tmp_path / "cell" / CHECKPOINT_DIR).exists())
        assert server.engine.batches == []
    record = record_of(tmp_path / "cell")
    assert record["exit_status"] == "sender lost"
    assert record["frames"]["live"] == [[0, 9]]
    assert record["seconds"] >= 12.5
    assert record["frames"]["notices"] == ["taken up again after the server was lost, with 10 frames"]
    np.testing.assert_array_equal(np.load(tmp_path / "cell" / "canvas.npy"), fake.direct_canvas(movie(10)))


def test_a_run_that_had_ended_gets_its_files_and_its_own_ending(tmp_path: Path) -> None:
    leave_run(tmp_path, 10, ending=("ok", 10))
    with Served(tmp_path, grace_s=60):
        soon(lambda: (tmp_path / "cell" / "run.json").exists())
    assert record_of(tmp_path / "cell")["exit_status"] == "ok"


def test_a_damaged_checkpoint_is_told_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    folder = leave_run(tmp_path, 10)
    newest = max(folder.glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    with Served(tmp_path):
        soon(lambda: (tmp_path / "cell" / "run.json").exists())
    record = record_of(tmp_path / "cell")
    assert record["frames"]["live"] == [[0, 4]]
    assert "is damaged" in record["frames"]["notices"][0]
    np.testing.assert_array_equal(np.load(tmp_path / "cell" / "canvas.npy"), fake.direct_canvas(movie(5)))


@pytest.mark.parametrize("trouble", ["damaged", "another model"])
def test_a_run_that_cannot_be_taken_up_begins_anew_and_says_so(trouble: str, tmp_path: Path) -> None:
    folder = leave_run(tmp_path, 10, **({"fingerprint": "deepstorm"} if trouble == "another model" else {}))
    if trouble == "damaged":
        for path in folder.glob("*.safetensors"):
            path.write_bytes(b"nonsense")
    frames = movie(30)
    with Served(tmp_path) as server:
        hook = StreamHook(server.address, calibration=fake.CALIBRATION, name="cell", outbox_mb=1)
        for frame in frames:
            hook(frame, None)
        report = hook.close()
    assert report.complete
    assert Path(report.folder) == tmp_path / "cell-2"
    np.testing.assert_array_equal(np.load(tmp_path / "cell-2" / "canvas.npy"), fake.direct_canvas(frames))
    (notice,) = record_of(tmp_path / "cell-2")["frames"]["notices"]
    assert "the run in cell cannot be taken up and begins anew" in notice
    assert trouble in notice


def test_an_interrupted_run_without_a_checkpoint_leaves_no_trace(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "cell" / CHECKPOINT_DIR).release()
    with Served(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_checkpoints_and_never_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, full = checkpoint_module.save_file, [True]

    def save(*args: object) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        whole(*args)

    monkeypatch.setattr(checkpoint_module, "save_file", save)
    frames = movie(200)
    with Served(tmp_path) as server:
        # Nothing becomes durable: what is kept for a lost server must not keep new frames out.
        hook = StreamHook(
            server.address, calibration=fake.CALIBRATION, name="cell", outbox_mb=20 * 384 / 2**20, spool_mb=0
        )
        for frame in frames[:100]:
            soon(lambda: hook._outbox.has_room)
            hook(frame, None)
        soon(lambda: hook.progress.live == 100)
        (run,) = server._runs.shown()
        soon(lambda: any("No space left" in notice for notice in run.notices))
        assert not run.durable
        full[0] = False
        for frame in frames[100:]:
            soon(lambda: hook._outbox.has_room)
            hook(frame, None)
        soon(lambda: run.durable.count() == 200)
        report = hook.close()
    assert report.complete
    assert any("the run goes on without" in notice for notice in record_of(Path(report.folder))["frames"]["notices"])
    np.testing.assert_array_equal(np.load(Path(report.folder) / "canvas.npy"), fake.direct_canvas(frames))


def test_files_that_cannot_be_written_are_written_by_the_next_server(tmp_path: Path) -> None:
    frames = movie(30)
    served = Served(tmp_path)
    served.server._finish = lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    with served as server:
        hook = StreamHook(server.address, calibration=fake.CALIBRATION, name="cell", outbox_mb=1)
        for frame in frames:
            hook(frame, None)
        report = hook.close()
    assert report.complete
    assert "is kept in" in report.failed
    with Served(tmp_path):
        soon(lambda: (tmp_path / "cell" / "run.json").exists())
    assert record_of(tmp_path / "cell")["exit_status"] == "ok"
    np.testing.assert_array_equal(np.load(tmp_path / "cell" / "canvas.npy"), fake.direct_canvas(frames))


def test_setting_the_clock_does_not_change_how_long_a_run_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Backwards(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(1970, 1, 1, tzinfo=tz)

    with Served(tmp_path) as server:
        hook = StreamHook(server.address, calibration=fake.CALIBRATION, name="cell", outbox_mb=1)
        hook(movie(1)[0], None)
        soon(lambda: hook.progress.live == 1)
        monkeypatch.setattr(run_module, "datetime", Backwards)
        report = hook.close()
    assert 0 < record_of(Path(report.folder))["seconds"] < 60


def test_what_is_durable_is_told_and_need_not_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "LONGEST_PAUSE_S", 0.3)
    frames = movie(50)
    with Served(tmp_path) as server:
        hook = StreamHook(server.address, calibration=fake.CALIBRATION, name="cell", outbox_mb=1)
        for frame in frames:
            hook(frame, None)
        soon(lambda: hook.progress.live == 50)
        soon(lambda: not hook._sender._stock._kept)
        assert server._runs.have(hook.run) == Ranges([(0, 49)])
        assert server._runs.have(UUID(int=5)) == server._runs.have(None) == Ranges()
        assert hook.close().complete


def test_welcome_names_what_is_in_a_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    """Who comes back to a server that lives must keep the rest: it may be killed yet."""
    images = strict.movie(10)
    with Served(tmp_path, checkpoint_s=3600, heartbeat_s=5) as server:
        with strict.Peer(server.address) as peer:
            peer.say(strict.start_of(RUN))
            peer.frame(RUN, 0, images[0])
            while not (durable := peer.hear(Credit).durable):
                pass
            assert durable == ((0, 0),)
            for seq in range(1, 10):
                peer.frame(RUN, seq, images[seq])
            while server._runs.shown()[0].ledger.picture_count() < 10:
                peer.hear(Credit)
        with strict.Peer(server.address, greet=False) as again:
            again.say(Hello(version=PROTOCOL, run=RUN))
            assert again.hear(Welcome).have == ((0, 0),)


class NotedTable:
    """A table that notes when it is flushed, and may lie on a full disk."""

    def __init__(self, done: list[str], *, full: bool) -> None:
        self.done, self.full = done, full

    def append(self, rows: object) -> None:
        pass

    def mark(self) -> dict[str, int]:
        return {"rows": 0, "bytes": 0}

    def sync(self) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.done.append("table")

    def close(self, n_frames: int) -> None:
        pass


@pytest.mark.parametrize("full", [False, True])
def test_a_checkpoint_counts_on_no_rows_that_a_power_cut_would_take(
    full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    write, add = Checkpoint.write, fake.FakeReconstruction.add

    def noted(self: Checkpoint, *what: object) -> None:
        done.append("checkpoint")
        write(self, *what)

    monkeypatch.setattr(Checkpoint, "write", noted)
    monkeypatch.setattr(fake.FakeReconstruction, "add", lambda self, frames, sink, own, region: add(self, frames))
    with Served(tmp_path, open_table=lambda *_: RunTable(NotedTable(done, full=full))) as server:
        hook = StreamHook(server.address, calibration=fake.CALIBRATION, name="cell", outbox_mb=1)
        for frame in movie(20):
            hook(frame, None)
        report = hook.close()
    assert report.complete
    assert done == ([] if full else ["table", "checkpoint"] * (len(done) // 2))
    assert bool(done) is not full
    assert ("No space left" in (Path(report.folder) / "run.json").read_text()) is full


def test_a_folder_that_cannot_be_made_costs_checkpoints_and_not_the_picture(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("a file where the folder should be")
    with Served(out) as server:
        hook = StreamHook(server.address, calibration=fake.CALIBRATION, name="cell", outbox_mb=1)
        for frame in movie(10):
            hook(frame, None)
        soon(lambda: hook.progress.live == 10)
        (run,) = server._runs.shown()
        assert "no checkpoints, the run goes on without" in run.notices[0]
        report = hook.close()
    assert report.complete
    assert "the files could not be written" in report.failed
