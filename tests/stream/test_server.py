"""What a server shows of its runs: pictures, accounts, status."""

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
from stormlive.wire.messages import Credit, Drop, End, Error, Final, Ping, Pong, Report
from stormlive.wire.viewing import View, Viewed
from strict import SHAPE, Peer, movie, start_of, statuses, strict_server, view


@pytest.fixture
def server(engine: fake.FakeEngine, closed: Closed) -> Iterator[Server]:
    yield from strict_server(engine, closed)


def test_the_live_canvas_is_the_direct_sum(server: Server) -> None:
    frames = movie(60)
    direct = fake.direct_canvas(frames)
    with make_hook(server.address) as hook:
        for frame in frames:
            hook(frame, None)
        soon(lambda: hook.progress.live == 60)
        header, whole = view(server)
        assert (header.run, header.live, header.picture) == (hook.run, 60, "canvas")
        np.testing.assert_allclose(whole, direct, rtol=1e-4)
        header, part = view(server, run=hook.run, x=5, y=3, w=7, h=4)
        assert (header.x, header.y, header.w, header.h) == (5, 3, 7, 4)
        np.testing.assert_allclose(part, direct[3:7, 5:12], rtol=1e-4)
        for level in (1, 3, 16):
            _, pooled = view(server, level=level)
            assert pooled.shape == tuple(-(-side // 2**level) for side in direct.shape)
            np.testing.assert_allclose(pooled.sum(), direct.sum(), rtol=1e-4)
        photons = (frames - 100.0) * 0.5
        np.testing.assert_allclose(view(server, picture="widefield")[1], photons.mean(0), rtol=1e-4)
        np.testing.assert_allclose(view(server, picture="last", x=2)[1], photons[-1][:, 2:], rtol=1e-4)
    np.testing.assert_allclose(view(server)[1], direct, rtol=1e-4)


def test_views_are_clipped_bounded_or_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert view(server)[0].code == "no-run"
    with make_hook(server.address) as hook:
        hook(movie(1)[0], None)
        soon(lambda: hook.progress.live == 1)
        header, pixels = view(server, x=30, y=1000, w=50, h=50)
        assert (header.x, header.y, header.w, header.h) == (30, 24, 6, 0)
        assert pixels.size == 0
        assert view(server, run=uuid4())[0].code == "no-run"
        assert view(server, picture="last", level=1)[0].code == "bad-view"
        monkeypatch.setattr("stormlive.server.views.MAX_VIEW_BYTES", 100)
        assert view(server)[0].code == "too-large"
        monkeypatch.setattr(fake.FakeReconstruction, "view", lambda *_: 1 / 0)
        assert view(server, w=2, h=2)[0].code == "view-failed"
    assert hook.report.complete


def test_two_runs_at_once_do_not_mix(server: Server, closed: Closed) -> None:
    movies = {name: movie(150, seed) for seed, name in enumerate(["a", "b"])}
    hooks = {name: make_hook(server.address, name=name) for name in movies}

    def acquire(name: str) -> None:
        for frame in movies[name]:
            hooks[name](frame, None)
        hooks[name].close()

    threads = [threading.Thread(target=acquire, args=(name,)) for name in movies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(hook.report.complete for hook in hooks.values())
    assert {run.start.name for run, _ in closed.runs} == {"a", "b"}
    for run, canvas in closed.runs:
        np.testing.assert_allclose(canvas.canvas, fake.direct_canvas(movies[run.start.name]), rtol=1e-4)


def test_a_view_is_answered_while_frames_wait(server: Server, engine: fake.FakeEngine) -> None:
    engine.frame_s = 0.02
    with make_hook(server.address) as hook:
        for frame in movie(300):
            hook(frame, None)
        soon(lambda: hook.progress.live > 0)
        header, _ = view(server)
        engine.frame_s = 0.0
    assert header.live < 300
    assert hook.report.complete


def test_waiting_frames_go_to_the_engine_together_but_not_all_at_once(server: Server, engine: fake.FakeEngine) -> None:
    engine.gate.clear()
    with make_hook(server.address) as hook:
        for frame in movie(100):
            hook(frame, None)
        soon(lambda: statuses(server, lambda s: s.backlog > 10) is not None)
        engine.gate.set()
    assert max(engine.batches) == 8
    assert sum(engine.batches) == 100


def test_status_tells_how_it_goes(server: Server, engine: fake.FakeEngine) -> None:
    idle = statuses(server, lambda status: True)
    assert (idle.state, idle.model, idle.run) == ("idle", "fake", None)
    with make_hook(server.address, name="cell", expected=99) as hook:
        for frame in movie(30):
            hook(frame, None)
        status = statuses(server, lambda status: status.live == 30)
        assert (status.state, status.run, status.name, status.expected) == ("running", hook.run, "cell", 99)
        assert (status.shape, status.upsampling, status.pixel_size_nm) == (SHAPE, 2, 100.0)
        assert (status.received, status.dropped, status.backlog) == (30, 0, 0)
        assert status.frames_per_s > 0
        assert 0 <= status.latency_p50_ms <= status.latency_p99_ms < 60_000
        engine.gate.clear()
        hook(np.zeros((3, 3), np.uint8), None)
        for frame in movie(15):
            hook(frame, None)
        status = statuses(server, lambda status: status.backlog > 0 and status.dropped > 0)
        engine.gate.set()
    assert (status.live, status.dropped) == (30, 1)
    last = statuses(server, lambda status: status.state == "finished")
    assert (last.live, last.dropped, last.exit_status) == (45, 1, "ok")


def test_latency_is_measured_on_the_senders_clock_moved_to_ours(server: Server, engine: fake.FakeEngine) -> None:
    with Peer(server.address) as peer:
        run, frame = uuid4(), movie(1)[0]
        peer.say(start_of(run))
        for seq in range(4):
            peer.frame(run, seq, frame, t_ns=time.perf_counter_ns() - 5_000_000_000)
        peer.hear(Credit)
        peer.say(Ping(clock_ns=77))
        pong = peer.hear(Pong)
        assert pong.ping_ns == 77
        assert abs(pong.clock_ns - time.perf_counter_ns()) < 20e9
        status = statuses(server, lambda status: status.live == 4)
        assert 5_000 <= status.latency_p50_ms < 60_000
        peer.say(End(run=run, n=4, exit_status="ok"))
        peer.hear(Final)


def test_drops_and_what_never_came_are_in_the_account(server: Server, closed: Closed) -> None:
    with Peer(server.address) as peer:
        run, frames = uuid4(), movie(10)
        peer.say(start_of(run))
        for seq in (0, 1, 2, 5, 6):
            peer.frame(run, seq, frames[seq])
        peer.say(Drop(run=run, ranges=((3, 3),), reason="outbox full"))
        peer.say(End(run=run, n=10, exit_status="user stopped"))
        assert peer.hear(Report).missing == ()  # the answer to START
        assert peer.hear(Report).missing == ((3, 4), (7, 9))
        peer.say(Drop(run=run, ranges=((3, 3), (7, 9)), reason="it is gone"))
        peer.frame(run, 4, frames[4], replay=True)
        final = peer.hear(Final)
    assert (final.frames, final.live, final.replayed, final.exit_status) == (10, 5, 1, "user stopped")
    assert final.missing == {"outbox full": 1, "it is gone": 3}
    assert final.sentence == (
        "6 of 10 frames are in the picture (5 live, 1 replayed); 4 are missing: 3 (outbox full), 7-9 (it is gone)."
    )
    assert final.folder == "folder"
    assert closed.runs[0][0].ledger.live == Ranges([(0, 2), (5, 6)])


def test_a_viewers_newer_question_replaces_its_older_one(server: Server, engine: fake.FakeEngine) -> None:
    with make_hook(server.address) as hook:
        hook(movie(1)[0], None)
        soon(lambda: hook.progress.live == 1)
        engine.gate.clear()
        hook(movie(1)[0], None)
        soon(lambda: hook.progress.backlog == 1)
        statuses(server, lambda status: status.received == 2 and status.backlog == 0)  # the engine is in a batch
        with Peer(server.view_address, greet=False) as viewer:
            for request in range(20):
                viewer.say(View(request=request))
            viewer.raw(b"garbage")
            viewer.hear(Error)  # so all views have arrived
            engine.gate.set()
            assert viewer.hear(Viewed).request == 19
