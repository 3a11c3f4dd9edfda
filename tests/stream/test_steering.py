"""The region in which frames are computed: who may choose it, what then grows, and that it is told of every frame."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

import fake_engine as fake
from served import Closed, make_hook, movie, soon
from stormlive.acquire.hook import StreamHook
from stormlive.server import judge, steering
from stormlive.server.checkpoint import CHECKPOINT_DIR
from stormlive.server.ledger import Ledger
from stormlive.server.loop import Server
from stormlive.server.shelf import Shelf
from stormlive.viewer.remote import RemoteView
from stormlive.viewer.view import EVERYTHING
from stormlive.wire.client import LiveClient
from stormlive.wire.region import LEAST_PX, check_inside, computed_region
from stormlive_sim.errors import InputError

SHAPE, TOKEN = (40, 50), b"of the acquisition"
LEFT, RIGHT = (0, 0, 20, 40), (24, 10, 26, 30)


def within(frames: np.ndarray, region: tuple[int, int, int, int] | None) -> np.ndarray:
    """Return the canvas of frames of which only a region is computed, without any server."""
    if region is None:
        return fake.direct_canvas(frames)
    x, y, width, height = region
    canvas = np.zeros((2 * SHAPE[0], 2 * SHAPE[1]), np.float32)
    canvas[2 * y : 2 * (y + height), 2 * x : 2 * (x + width)] = fake.direct_canvas(
        frames[:, y : y + height, x : x + width]
    )
    return canvas


def given_to(hook: StreamHook, frames: np.ndarray, client: LiveClient, n: int) -> None:
    """Hand frames over and wait until `n` of the run are in its picture."""
    for frame in frames:
        soon(lambda: hook._outbox.has_room)
        hook(frame)
    soon(lambda: (status := client.status(0.1)) is not None and status.live == n)


def test_the_owner_moves_the_region_and_every_frame_is_told_where_it_was_computed(
    server: Server, closed: Closed
) -> None:
    frames = movie(40, shape=SHAPE)
    hook = make_hook(server.address, region=(0, 0, 19, 40), token=TOKEN)
    with LiveClient(server.address) as client:
        given_to(hook, frames[:10], client, 10)
        assert client.status(5.0).region == LEFT  # whole pairs of pixels
        for token in (b"", b"of another", TOKEN + b" "):
            with pytest.raises(InputError, match="only the program that runs the acquisition"):
                client.steer(hook.run, RIGHT, token)
        assert client.steer(hook.run, RIGHT, TOKEN) == RIGHT
        given_to(hook, frames[10:20], client, 20)
        assert client.steer(hook.run, None, TOKEN) is None
        given_to(hook, frames[20:30], client, 30)
        assert client.status(5.0).region is UNSET
        client.steer(hook.run, LEFT, TOKEN)
        given_to(hook, frames[30:], client, 40)
        with pytest.raises(InputError, match="16x16"):
            client.steer(hook.run, (48, 0, 100, 100), TOKEN)
        assert hook.close().complete
        soon(lambda: (status := client.status(0.1)) is not None and status.state == "finished")
        with pytest.raises(InputError, match="no such run"):
            client.steer(hook.run, None, TOKEN)
        widefield = client.view("widefield")[1]
    ((run, reconstruction),) = closed.runs
    assert "of 30 of them only a region was computed" in run.ledger.sentence()
    regions = run.ledger.as_dict()["regions"]
    assert regions == [
        {"region": RIGHT, "frames": [[10, 19]]},
        {"region": None, "frames": [[20, 29]]},
        {"region": LEFT, "frames": [[0, 9], [30, 39]]},
    ]
    # What the account says is all that is needed to check the canvas.
    told = sum(within(frames[first : last + 1], one["region"]) for one in regions for first, last in one["frames"])
    np.testing.assert_allclose(reconstruction.canvas, told, rtol=1e-6)
    np.testing.assert_allclose(widefield, (frames.mean(0) - 100) / 2, rtol=1e-4)
    again = Ledger.from_dict(run.ledger.as_dict())
    assert again.as_dict() == run.ledger.as_dict()


def test_a_server_may_let_all_who_look_choose(closed: Closed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "MOST_REGIONS", 2)
    options = {"bind": "tcp://127.0.0.1:*", "heartbeat_s": 0.2, "open_steering": True}
    with Server(fake.FakeEngine(), finish=closed, **options) as server, LiveClient(server.address) as client:
        hook = make_hook(server.address)
        view = RemoteView(server.address)
        with pytest.raises(InputError, match="no run"):
            view.steer(LEFT)
        given_to(hook, movie(2, shape=SHAPE), client, 2)
        soon(lambda: view(EVERYTHING) is not None)
        assert view.steer(RIGHT).startswith("from now on only 26 × 30 camera pixels at 24, 10 are computed")
        assert view.steer(None) == "from now on the whole frames are computed"
        assert "20 × 40 camera pixels at 0, 0" in view.steer((0, 0, 19, 40))
        view.close()
        given_to(hook, movie(2, shape=SHAPE), client, 4)
        with pytest.raises(InputError, match="at most 2 regions"):
            client.steer(hook.run, RIGHT)
        assert hook.close().complete


def test_a_region_that_is_none_of_the_frames_is_refused_before_the_first_frame(server: Server) -> None:
    with pytest.raises(InputError, match=r"\(x, y, width, height\)"):
        make_hook(server.address, region=(0, 0, 10))
    with pytest.raises(InputError, match="token"):
        make_hook(server.address, token=b"")
    hook = make_hook(server.address, region=(60, 0, 20, 20))
    hook(movie(1, shape=SHAPE)[0])
    soon(lambda: hook.failed is not None)
    assert "the region 60,0,20,20 has less than 16x16 pixels in frames of 50x40" in hook.failed
    soon(hook._account.done.is_set)
    hook(movie(1, shape=SHAPE)[0])
    report = hook.close()
    assert list(report.missing) == [hook.failed], "one reason, whole"
    assert report.missing[hook.failed].count() == 2


def test_the_region_and_how_the_canvas_grew_outlive_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for share in ("_LOOK_SHARE", "_WORK_SHARE", "_COMPARE_SHARE"):
        monkeypatch.setattr(judge, share, 1.0)
    frames = movie(30, shape=SHAPE)
    settings = {"bind": "tcp://127.0.0.1:*", "heartbeat_s": 0.2, "checkpoint_s": 0.01, "judge_s": 1e-6}
    shelf = Shelf(tmp_path, folder_per_run=True)
    first = Server(fake.FakeEngine(), finish=fake.finish_in(shelf), shelf=shelf, **settings).start()
    hook = make_hook(first.address, region=LEFT, token=TOKEN)
    with LiveClient(first.address) as client:
        given_to(hook, frames[:10], client, 10)
        client.steer(hook.run, RIGHT, TOKEN)
        given_to(hook, frames[10:], client, 30)
        soon(lambda: client.status(1.0).durable == 30)
        (run,) = first._runs.shown()
        canvas = run.canvases.first
        soon(lambda: canvas.growth is not None and canvas.growth.frames and not run.being_kept)
        run.changed = True
        soon(lambda: not run.changed and not run.being_kept)
    kept = tmp_path / "kill" / "run" / CHECKPOINT_DIR
    kept.mkdir(parents=True)
    for path in (tmp_path / "run" / CHECKPOINT_DIR).glob("*.safetensors"):
        (kept / path.name).write_bytes(path.read_bytes())
    hook.close(timeout_s=5)
    first.stop()
    closed = Closed()
    second = Server(
        fake.FakeEngine(), finish=closed, shelf=Shelf(tmp_path / "kill", folder_per_run=True), grace_s=0, **settings
    )
    with second:
        (again,) = second._runs.shown()
        assert again.region == RIGHT
        assert again.canvases.first.growth.frames[-1] <= 30
        soon(lambda: closed.runs)
    ((_, reconstruction),) = closed.runs
    np.testing.assert_allclose(reconstruction.canvas, within(frames[:10], LEFT) + within(frames[10:], RIGHT), rtol=1e-6)


@given(
    st.tuples(*[st.integers(0, 300)] * 2, *[st.integers(1, 300)] * 2),
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_a_computed_region_holds_what_was_asked_for_and_whole_pixels(
    region: tuple[int, int, int, int], shape: tuple[int, int]
) -> None:
    x, y, width, height = region
    inside = [
        max(0, min(first + length, side) - first)
        for first, length, side in ((x, width, shape[1]), (y, height, shape[0]))
    ]
    try:
        computed = computed_region(region, shape) or (0, 0, shape[1], shape[0])
    except InputError:
        assert min(inside) < LEAST_PX
        return
    if inside == [width, height]:
        check_inside(region, shape)
    else:
        with pytest.raises(InputError, match=f"inside frames of {shape[1]}x{shape[0]} pixels, got {x},{y},"):
            check_inside(region, shape)
    for at, side in ((0, shape[1]), (1, shape[0])):
        first, end = computed[at], computed[at] + computed[at + 2]
        assert 0 <= first <= region[at]
        assert min(region[at] + region[at + 2], side) <= end <= side
        assert first % 2 == 0
        assert end % 2 == 0 or end == side
        assert end - first >= min(LEAST_PX, side)
