"""A server that is absent, suspended, given up or dead costs the hook what nobody can hold, and no more."""

import socket

import numpy as np
import pytest
import zmq

import fake_engine as fake
from served import FRAME_BYTES, Closed, assert_every_frame_once, make_hook, movie, soon
from server_process import ServerProcess
from stormlive.acquire import outage, sender
from stormlive.ranges import Ranges
from stormlive.server.loop import Server
from stormlive.wire.codec import encode, unpack
from stormlive.wire.messages import Welcome
from stormlive.wire.transport import connect_dealer, receive, send
from stormlive.wire.viewing import View, Viewed

pytestmark = pytest.mark.usefixtures("hurry")


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def seen_canvas(address: str, welcome: Welcome) -> np.ndarray:
    context = zmq.Context()
    dealer = connect_dealer(context, f"tcp://127.0.0.1:{welcome.view_port}", max_part_bytes=2**20)
    try:
        assert dealer.poll(10_000, zmq.POLLOUT)
        send(dealer, [encode(View(request=1))])
        assert dealer.poll(10_000)
        header, pixels = unpack(receive(dealer))
        assert isinstance(header, Viewed)
        return np.frombuffer(pixels, "<f4").reshape(header.h, header.w).copy()
    finally:
        dealer.close(linger=0)
        context.term()


def test_without_a_server_everything_is_accounted_and_close_does_not_hang() -> None:
    address = free_address()
    hook = make_hook(address, outbox_mb=100 * FRAME_BYTES / 2**20)
    with pytest.raises(ConnectionError, match="is stormlive serve running"):
        hook.check(0.1)
    for frame in movie(150):
        hook(frame, None)
    report = hook.close(timeout_s=0.3)
    assert_every_frame_once(report)
    assert report.missing == {"no server": Ranges([(0, 99)]), "outbox full": Ranges([(100, 149)])}
    assert report.folder is None
    assert not hook.progress.connected


def test_a_server_that_appears_late_gets_what_waited(closed: Closed) -> None:
    address, frames = free_address(), movie(80)
    hook = make_hook(address)
    for frame in frames[:50]:
        hook(frame, None)
    with Server(fake.FakeEngine(), finish=closed, bind=address):
        hook.check(20)
        for frame in frames[50:]:
            hook(frame, None)
        report = hook.close(20)
    assert report.complete
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(frames), rtol=1e-4)


def test_a_script_hears_once_that_there_is_no_server_once_that_there_is_and_once_that_it_ended_the_run(
    closed: Closed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Python prints warnings on stderr where nobody has set up logging."""
    monkeypatch.setattr(outage, "TELL_AFTER_S", 0.1)
    monkeypatch.setattr(sender, "CONNECT_S", 0.1)
    caplog.set_level("INFO", "stormlive.acquire")
    address = free_address()
    hook = make_hook(address)
    hook(movie(1)[0], None)
    soon(lambda: caplog.text.count("no connection: ") > 5)
    with Server(fake.FakeEngine(), finish=closed, bind=address, heartbeat_s=0.2):
        soon(lambda: hook.progress.live == 1)
    soon(lambda: hook.failed is not None)
    hook.close()
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.levelname != "INFO"]
    assert told == [
        (
            "WARNING",
            f"no live picture for now: no answer from {address}: is stormlive serve running there?",
        ),
        ("WARNING", f"the server at {address} answers now"),
        (
            "WARNING",
            "no live picture of this run any more, the acquisition is not affected: the server ended the run: server "
            "stopped",
        ),
    ]


def test_a_suspended_server_costs_what_the_outbox_cannot_hold() -> None:
    with ServerProcess() as server:
        hook = make_hook(server.address, outbox_mb=200 * FRAME_BYTES / 2**20, spool_mb=0)
        hook.check(20)
        for frame in movie(10):
            hook(frame, None)
        soon(lambda: hook.progress.live == 10)
        server.suspend()
        for frame in movie(1000):
            hook(frame, None)
        assert hook.progress.offered == 1010
        assert hook.progress.missing >= 800
        server.resume()
        report = hook.close(20)
    assert_every_frame_once(report)
    assert list(report.missing) == ["outbox full"]
    assert report.live.count() >= 210
    assert report.folder == "folder"


def test_a_server_given_up_and_found_again_counts_nothing_twice() -> None:
    frames = movie(300)
    with ServerProcess(frame_s=0.001) as server:
        hook = make_hook(server.address)
        welcome = hook.check(20)
        for frame in frames[:100]:
            hook(frame, None)
        soon(lambda: hook.progress.live > 0)
        server.suspend()
        for frame in frames[100:200]:
            hook(frame, None)
        soon(lambda: not hook.progress.connected)
        server.resume()
        soon(lambda: hook.progress.connected)
        for frame in frames[200:]:
            hook(frame, None)
        report = hook.close(20)
        assert report.complete
        canvas = seen_canvas(server.address, welcome)
    np.testing.assert_allclose(canvas, fake.direct_canvas(frames), rtol=1e-4)


def test_a_server_that_dies_takes_what_it_had_not_acknowledged() -> None:
    with ServerProcess() as server:
        hook = make_hook(server.address)
        for frame in movie(30):
            hook(frame, None)
        soon(lambda: hook.progress.live == 30)
        server.suspend()
        for frame in movie(30):
            hook(frame, None)
        server.kill()
        soon(lambda: not hook.progress.connected)
        for frame in movie(5):
            hook(frame, None)
        report = hook.close(timeout_s=0.5)
    assert_every_frame_once(report)
    assert report.live == Ranges([(0, 29)])
    assert report.missing == {"server lost": Ranges([(30, 64)])}
    assert report.folder is None


def test_the_picture_of_a_dead_server_is_not_claimed_for_its_successor(closed: Closed) -> None:
    frames = movie(100)
    with ServerProcess() as first:
        hook = make_hook(first.address)
        for frame in frames[:60]:
            hook(frame, None)
        soon(lambda: hook.progress.live == 60)
        first.kill()
        for frame in frames[60:]:
            hook(frame, None)
        with Server(fake.FakeEngine(), finish=closed, bind=first.address, heartbeat_s=0.2):
            soon(lambda: hook.progress.live == 40)
            report = hook.close(20)
    assert_every_frame_once(report)
    assert report.missing == {"server lost": Ranges([(0, 59)])}
    assert closed.runs[0][0].ledger.sentence() == report.sentence
    np.testing.assert_allclose(closed.runs[0][1].canvas, fake.direct_canvas(frames[60:]), rtol=1e-4)
