"""How runs and servers end, and what is left of them."""

import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pytest

import fake_engine as fake
from served import Closed, make_hook, soon
from stormlive.ranges import Ranges
from stormlive.server.loop import Server
from stormlive.server.run_table import RunTable
from stormlive.wire.messages import (
    Credit,
    End,
    Error,
    Final,
    Ping,
    Pong,
)
from stormlive_sim.errors import InputError
from strict import Peer, movie, start_of, strict_server, view


@pytest.fixture
def server(engine: fake.FakeEngine, closed: Closed) -> Iterator[Server]:
    yield from strict_server(engine, closed)


def test_a_sender_that_comes_back_counts_nothing_twice(server: Server, closed: Closed) -> None:
    run, frames = uuid4(), movie(15)
    with Peer(server.address) as before:
        before.say(start_of(run))
        for seq in range(10):
            before.frame(run, seq, frames[seq])
        before.hear(Credit)
    with Peer(server.address) as after:
        assert after.welcome.epoch == before.welcome.epoch
        after.say(start_of(run))
        for seq in range(15):
            after.frame(run, seq, frames[seq])
        after.say(End(run=run, n=15, exit_status="ok"))
        live = Ranges()
        while live.count() < 15:
            live.merge(Ranges(after.hear(Credit).live))
        assert after.hear(Final).live == 15
    ((finished, canvas),) = closed.runs
    assert finished.ledger.refused_duplicates >= 1
    np.testing.assert_allclose(canvas.canvas, fake.direct_canvas(frames), rtol=1e-4)
    with Peer(server.address) as again:
        again.say(start_of(run))
        again.frame(run, 0, frames[0])
        assert again.hear(Final).live == 15
        assert not again.hear(Error).fatal
    assert len(closed.runs) == 1


def test_a_sender_that_is_lost_leaves_its_picture(server: Server, closed: Closed) -> None:
    run, frames = uuid4(), movie(6)
    with Peer(server.address) as peer:
        peer.say(start_of(run))
        for seq in range(6):
            peer.frame(run, seq, frames[seq])
        peer.hear(Credit)
    soon(lambda: len(closed.runs) == 1)
    finished, canvas = closed.runs[0]
    assert finished.exit_status == "sender lost"
    assert finished.ledger.live == Ranges([(0, 5)])
    assert finished.ledger.sentence().endswith("whether the camera gave more is not known.")
    np.testing.assert_allclose(canvas.canvas, fake.direct_canvas(frames), rtol=1e-4)


def test_a_heartbeat_alone_keeps_a_run_open(server: Server, closed: Closed) -> None:
    run = uuid4()
    with Peer(server.address) as before:
        before.say(start_of(run))
        before.say(Ping(clock_ns=0))
        before.hear(Pong)
    with Peer(server.address) as peer:
        peer.say(start_of(run))  # the silence of the connection before is over
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            peer.say(Ping(clock_ns=0))
            peer.hear(Pong)
            time.sleep(0.05)
        assert closed.runs == []
        peer.say(End(run=run, n=0, exit_status="ok"))
        final = peer.hear(Final)
        assert (final.sentence, final.exit_status) == ("The run has no frames.", "ok")


def test_stop_closes_open_runs_and_waits_until_senders_know(
    engine: fake.FakeEngine, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stormlive.server.front._FAREWELL_S", 20.0)
    run, frames = uuid4(), movie(6)
    with Server(engine, finish=closed, bind="tcp://127.0.0.1:*") as server, Peer(server.address) as peer:
        peer.say(start_of(run))
        for seq in range(6):
            peer.frame(run, seq, frames[seq])
        in_picture = Ranges()
        while in_picture.count() < 6:
            in_picture.merge(Ranges(peer.hear(Credit).live))
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        soon(lambda: len(closed.runs) == 1)
        time.sleep(0.3)  # a server that does not wait would hang up meanwhile, and FINAL would be lost
        final = peer.hear(Final)
        assert (final.exit_status, final.live) == ("server stopped", 6)
        peer.close()
        stopping.join()
        assert server.wait(1)
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(frames), rtol=1e-4)


def test_files_that_cannot_be_written_do_not_cost_the_picture(server: Server, closed: Closed) -> None:
    closed.trouble = OSError(28, "No space left on device")
    with make_hook(server.address) as hook:
        for frame in movie(5):
            hook(frame, None)
    assert hook.report.complete
    assert hook.report.folder is None
    assert hook.report.failed == "the files could not be written: [Errno 28] No space left on device"
    np.testing.assert_allclose(view(server, run=hook.run)[1], fake.direct_canvas(movie(5)), rtol=1e-4)
    closed.trouble = None
    with make_hook(server.address) as hook:
        hook(movie(1)[0], None)
    assert hook.report.folder == "folder"


def test_a_table_that_fails_at_length_still_gets_its_final(engine: fake.FakeEngine, closed: Closed) -> None:
    class FullDisk:
        def close(self, n_frames: int) -> None:
            raise OSError(28, "No space left on device", "x" * 400)

    with (
        Server(engine, finish=closed, bind="tcp://127.0.0.1:*", open_table=lambda *_: RunTable(FullDisk())) as server,
        Peer(server.address) as peer,
    ):
        run = uuid4()
        peer.say(start_of(run))
        peer.say(End(run=run, n=0, exit_status="ok"))
        error = peer.hear(Final).error
    assert error.startswith("the table of localizations is not complete: [Errno 28]")


def test_an_engine_that_fails_for_one_run_goes_on_with_others(
    server: Server, engine: fake.FakeEngine, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = fake.FakeReconstruction.add

    def add(self: fake.FakeReconstruction, frames: np.ndarray, *_: object, **__: object) -> None:
        if frames.max() >= 60_000:
            raise RuntimeError("CUDA out of memory\nTried to allocate 2 GiB")
        healthy(self, frames)

    monkeypatch.setattr(fake.FakeReconstruction, "add", add)
    with make_hook(server.address, name="good") as good, make_hook(server.address, name="bad") as bad:
        for n, frame in enumerate(movie(50)):
            good(frame, None)
            bad(frame if n < 40 else np.full_like(frame, 65_000), None)
    assert good.report.complete
    assert bad.failed == "the server ended the run: engine failed: CUDA out of memory Tried to allocate 2 GiB"
    finished = {run.start.name: run for run, _ in closed.runs}
    assert finished["bad"].ledger.live == bad.report.live
    assert bad.report.live.count() <= 40


def test_what_ends_a_thread_reaches_the_owner(
    engine: fake.FakeEngine, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(engine, finish=closed, bind="tcp://127.0.0.1:*")
    monkeypatch.setattr("stormlive.server.worker.Worker._open", lambda worker, run: 1 / 0)
    server.start()
    with Peer(server.address) as peer:
        peer.say(start_of(uuid4()))
        assert server.wait(20)
    with pytest.raises(RuntimeError, match="division by zero"):
        server.raise_if_failed()


def test_a_port_in_use_is_one_clear_line(server: Server, engine: fake.FakeEngine, closed: Closed) -> None:
    with pytest.raises(InputError, match=r"is in use: is another stormlive serve running\?"):
        Server(engine, finish=closed, bind=server.address).start()


@pytest.mark.parametrize("limits", [{"credit_bytes": 10, "max_frame_bytes": 11}, {"max_batch": 0}])
def test_limits_that_contradict_each_other(limits: dict[str, int], engine: fake.FakeEngine, closed: Closed) -> None:
    with pytest.raises(InputError):
        Server(engine, finish=closed, **limits)
