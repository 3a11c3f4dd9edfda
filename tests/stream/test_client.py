"""The viewer's side of the wire: it looks on, and nothing it does changes the run."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import zmq

import fake_engine as fake
from served import soon
from stormlive.acquire.hook import StreamHook
from stormlive.cli.app import run
from stormlive.server.loop import Server
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.view import Visible
from stormlive.wire import messages
from stormlive.wire.client import LiveClient, status_text
from stormlive.wire.codec import encode
from stormlive.wire.viewing import Status, Viewed
from stormlive_sim.errors import InputError


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(fake.FakeEngine(), bind="tcp://127.0.0.1:*", finish=lambda *_: None) as running:
        yield running


def stream(server: Server, frames: np.ndarray) -> None:
    hook = StreamHook(server.address.removeprefix("tcp://"), calibration=fake.CALIBRATION, name="cells")
    for frame in frames:
        hook(frame)
    assert hook.close().complete


def last_status(client: LiveClient, state: str) -> Status:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status = client.status(1.0)
        if status is not None and status.state == state:
            return status
    raise AssertionError(f"no status {state!r} came")


FRAMES = np.random.default_rng(0).integers(100, 500, (20, 12, 16)).astype(np.uint16)
EVERYTHING = Visible(x_nm=0, y_nm=0, width_nm=1600, height_nm=1200, nm_per_screen_px=50)


def test_before_any_run_there_is_a_status_and_no_picture(server: Server) -> None:
    with LiveClient(server.address) as client:
        assert status_text(last_status(client, "idle")).startswith("waiting for frames")
        assert client.view("canvas") is None


def test_pictures_are_those_of_the_run(server: Server) -> None:
    with LiveClient(server.address) as client:
        stream(server, FRAMES)
        status = last_status(client, "finished")
        assert (status.live, status.shape, status.upsampling) == (20, (12, 16), 2)
        assert "cells: 20 frames" in status_text(status)
        found = client.view("canvas")
        assert found is not None
        assert found[0].live == 20
        assert np.allclose(found[1], fake.direct_canvas(FRAMES))
        part = client.view("canvas", level=1, rectangle=(3, 2, 5, 4))
        assert part is not None
        pooled = fake.direct_canvas(FRAMES).reshape(12, 2, 16, 2).sum((1, 3))
        assert np.allclose(part[1], pooled[2:6, 3:8])


def test_a_client_is_told_of_its_own_run_on_a_server_that_others_use(server: Server) -> None:
    with LiveClient(server.address.removeprefix("tcp://")) as client:
        assert client.status(5.0, uuid4()).state == "idle"  # there is no other either
        hooks = [StreamHook(server.address, calibration=fake.CALIBRATION, name="cells") for _ in range(2)]
        for hook in hooks:
            hook(FRAMES[0])
        for hook in hooks:
            soon(lambda hook=hook: (status := client.status(1.0, hook.run)) is not None and status.run == hook.run)
        assert client.status(0.3, uuid4()) is None
        for hook in hooks:
            hook.close()


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LiveClient, threading.Event]]:
    """A client of a server that computes its first frame until the event is set."""
    engine, begun, goes_on = fake.FakeEngine(), threading.Event(), threading.Event()
    monkeypatch.setattr(engine.gate, "wait", lambda: begun.set() or goes_on.wait(20))
    with (
        Server(engine, bind="tcp://127.0.0.1:*", finish=lambda *_: None) as server,
        LiveClient(server.address) as client,
        StreamHook(server.address, calibration=fake.CALIBRATION) as hook,
    ):
        hook(FRAMES[0])
        assert begun.wait(20)
        yield client, goes_on
        goes_on.set()


def test_a_server_busy_with_a_large_frame_is_waited_for(
    busy: tuple[LiveClient, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, goes_on = busy
    monkeypatch.setattr(client, "_timeout_s", 1.0)
    opens = threading.Timer(2.5, goes_on.set)
    opens.start()
    found = client.view("canvas")
    opens.join()
    assert found is not None
    assert found[0].live == 1
    assert client.status(0.0) is not None, "what was told meanwhile is not lost"


def test_who_leaves_waits_no_longer(busy: tuple[LiveClient, threading.Event]) -> None:
    client, _ = busy
    leaves = threading.Timer(0.2, client.leave)
    leaves.start()
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        client.view("canvas")
    leaves.join()
    assert time.monotonic() - began < 4, "before its patience of five seconds is over"


def test_an_answer_that_was_lost_is_asked_for_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stream(server, FRAMES)
    with LiveClient(server.address) as client:
        lost = [True]
        answer = client._answer

        def lossy(socket: zmq.Socket[bytes], deadline: float) -> tuple[messages.Message, object] | None:
            found = answer(socket, deadline)
            if found is not None and isinstance(found[0], Viewed) and lost:
                lost.pop()
                return None
            return found

        monkeypatch.setattr(client, "_answer", lossy)
        monkeypatch.setattr(client, "_timeout_s", 1.0)
        assert client.view("canvas") is not None
        assert not lost


def test_the_window_gets_a_new_view_only_when_something_changed(server: Server) -> None:
    view = RemoteView(server.address)
    try:
        assert view(EVERYTHING) is None
        stream(server, FRAMES)
        shown = None
        deadline = time.monotonic() + 20
        while shown is None or "finished" not in shown.status:
            assert time.monotonic() < deadline
            shown = view(EVERYTHING) or shown
        assert shown.field_nm == (1200, 1600)
        assert shown.superres.pixel_size_nm * shown.superres.pixels.shape[1] == pytest.approx(1600)
        assert shown.superres.pixels.sum() == pytest.approx(fake.direct_canvas(FRAMES).sum(), rel=1e-5)
        assert shown.widefield.pixels.shape == (12, 16)
        soon(lambda: view(EVERYTHING) is None)  # once the rate that it shows has come to rest
    finally:
        view.close()


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConnectionError, match="is stormlive serve running there"):
        LiveClient("tcp://127.0.0.1:9", timeout_s=0.3)


@pytest.fixture(params=["welcome", "error", "nonsense"])
def other_version(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server of another version, which answers HELLO in its own way."""
    context: zmq.Context[Any] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    answers = {
        "welcome": messages.Welcome(
            version="stormlive-2",
            epoch="e",
            credit_bytes=1,
            max_frame_bytes=1,
            heartbeat_ms=1000,
            clock_ns=0,
            model="m",
            model_pixel_size_nm=100,
            view_port=1,
            status_port=1,
        ),
        "error": messages.Error(code="version", fatal=True, message="this server speaks 'stormlive-2'"),
        "nonsense": messages.Pong(ping_ns=0, clock_ns=0),
    }

    def answer() -> None:
        if router.poll(20_000):
            peer, _hello = router.recv_multipart()
            router.send_multipart([peer, encode(answers[request.param])])

    thread = threading.Thread(target=answer)
    thread.start()
    yield f"tcp://127.0.0.1:{port}"
    thread.join()
    router.close(linger=0)
    context.term()


def test_another_version_is_one_clear_line(
    other_version: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status = run(["acquire", "--headless", "--server", other_version, "--out", str(tmp_path / "run")])
    supposed, line = capsys.readouterr().err.strip().splitlines()
    assert status == 1
    assert "--pixel-size-nm 100" in supposed  # of the simulated camera
    assert line.startswith("error: ")
    assert "stormlive-2" in line or "is it a stormlive server?" in line
    assert not (tmp_path / "run").exists()


def test_remote_addresses_are_refused() -> None:
    with pytest.raises(InputError, match="loopback"):
        LiveClient("tcp://192.0.2.1:5557")
