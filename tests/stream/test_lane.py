"""Frames that a server on the same machine reads from the hook's own memory, and when it does not."""

import contextlib
import errno
import gc
import mmap
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import zmq

import fake_engine as fake
from children import killed_at_last
from served import FRAME_BYTES, SHAPE, assert_every_frame_once, make_hook, movie, soon
from server_process import Servers
from stormlive.acquire import connection
from stormlive.acquire import hook as hook_module
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.sender import Sender
from stormlive.ranges import Ranges
from stormlive.server.limits import Client, Limits
from stormlive.server.loop import Server
from stormlive.server.protocols import Canvas, FinishedRun
from stormlive.server.reception import Reception
from stormlive.server.run import Run
from stormlive.server.runs import Runs
from stormlive.server.worker import Outgoing
from stormlive.wire import segment as segment_module
from stormlive.wire.client import LiveClient
from stormlive.wire.codec import ProtocolError, encode, unpack
from stormlive.wire.curve import ClientKeys, KeyPair
from stormlive.wire.messages import PROTOCOL, Error, FrameHeader, Hello, Message, SegmentOffer, Start, Welcome
from stormlive.wire.segment import HEAD_BYTES, MAX_SEGMENT_BYTES, OwnSegment, PeerSegment, attach
from stormlive.wire.transport import connect_dealer, receive, send
from stormlive_sim.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="it has no memory that can be shared safely")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="about files without a name")

FRAME_MB = 12 * 16 * 2 / 2**20


class Pictures:
    """Takes the place of the writer of files and keeps each run's canvas."""

    def __init__(self) -> None:
        self.of: dict[object, np.ndarray] = {}
        self.runs: dict[object, FinishedRun] = {}

    def __call__(self, run: FinishedRun, canvases: Sequence[Canvas]) -> str:
        self.of[run.start.run] = canvases[0].reconstruction.canvas
        self.runs[run.start.run] = run
        return "folder"


@pytest.fixture
def pictures() -> Pictures:
    return Pictures()


@pytest.fixture
def grace_s() -> float:
    """Return how long the server waits for a sender that was lost; a test may have it otherwise."""
    return 15.0


no_grace = pytest.mark.parametrize("grace_s", [0.3])


@pytest.fixture
def server(engine: fake.FakeEngine, pictures: Pictures, grace_s: float) -> Iterator[Server]:
    with Server(engine, finish=pictures, bind="tcp://127.0.0.1:*", heartbeat_s=0.2, grace_s=grace_s) as running:
        yield running
        engine.gate.set()
    running.raise_if_failed()


class Peer:
    """A sender that says exactly what a test makes it say."""

    def __init__(self, address: str) -> None:
        self.context = zmq.Context()
        self.socket = connect_dealer(self.context, address)
        assert self.socket.poll(10_000, zmq.POLLOUT)

    def say(self, message: Message, *more: bytes) -> None:
        assert send(self.socket, [encode(message), *more])

    def hear(self, kind: type) -> Message:
        while self.socket.poll(20_000):
            message, _ = unpack(receive(self.socket))
            if isinstance(message, kind):
                return message
        raise AssertionError(f"no {kind.__name__} came")

    def start(self, segment: OwnSegment | None = None) -> FrameHeader:
        """Begin a run and return the header of its first frame, without pixels."""
        offer = {} if segment is None else {"segment": segment.offer()}
        self.say(Hello(version=PROTOCOL, **offer))
        assert self.hear(Welcome).lane == ("tcp" if segment is None else "shm")
        run = uuid4()
        self.say(Start(run=run, name="peer", dtype="uint16", shape=SHAPE, calibration=fake.CALIBRATION))
        return FrameHeader(run=run, seq=0, t_ns=0, dtype="uint16", shape=SHAPE, nbytes=FRAME_BYTES)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close(linger=0)
        self.context.term()


def acquire(hook: StreamHook, frames: np.ndarray) -> None:
    """Offer frames as fast as there is room for them."""
    for n, frame in enumerate(frames):
        soon(lambda: hook.has_room)
        hook(frame, {"Axes": {"time": n}})


def lane_of(hook: StreamHook) -> str:
    hook.check()
    return hook.progress.lane


def shown(server: Server) -> Run:
    soon(lambda: bool(server._runs.shown()))
    return server._runs.shown()[0]


def memory_files() -> tuple[int, int]:
    """Return how many mappings of shared memory this process has, and how many descriptors; as far as can be told."""
    gc.collect()
    if sys.platform != "linux":
        return 0, 0
    descriptors = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            descriptors += "/memfd:stormlive" in str(link.readlink())
    return Path("/proc/self/maps").read_text().count("/memfd:stormlive"), descriptors


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_frames_arrive_as_they_were_and_only_their_places_are_sent(
    dtype: str, server: Server, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    came, sizes = list[np.ndarray](), list[int]()
    add = fake.FakeReconstruction.add

    def keep(self: fake.FakeReconstruction, frames: np.ndarray, *more: object, **part: object) -> None:
        came.extend(frames.copy())
        add(self, frames, *more, **part)

    def weigh(socket: zmq.Socket[bytes], parts: Sequence[bytes]) -> bool:
        sizes.append(sum(map(len, parts)))
        return send(socket, parts)

    monkeypatch.setattr(fake.FakeReconstruction, "add", keep)
    monkeypatch.setattr(connection, "send", weigh)
    frames = (movie(300, shape=(20, 24)) % 256).astype(dtype)
    slots_mb = 20 * frames[0].nbytes / 2**20
    hook = make_hook(server.address, outbox_mb=slots_mb, mode="block")  # every slot is used many times
    assert lane_of(hook) == "shm"
    acquire(hook, frames)
    assert hook.close().live == Ranges([(0, 299)])
    assert [frame.dtype for frame in came] == [frames.dtype] * 300
    np.testing.assert_array_equal(came, frames)
    assert max(sizes) < frames[0].nbytes
    np.testing.assert_array_equal(pictures.of[hook.run], fake.direct_canvas(frames))


def test_status_and_progress_tell_the_lane(server: Server) -> None:
    for lane, expected in (("auto", "shm"), ("tcp", "tcp")):
        hook = make_hook(server.address, lane=lane)
        assert lane_of(hook) == expected
        hook(movie(1)[0])
        with LiveClient(server.address) as client:
            soon(lambda: (s := client.status(5)) is not None and (s.run, s.lane) == (hook.run, expected))  # noqa: B023
        hook.close()
    with pytest.raises(InputError, match="lane"):
        make_hook(server.address, lane="shm")


def changed(offer: SegmentOffer, **fields: object) -> SegmentOffer:
    return SegmentOffer(**{"name": offer.name, "nbytes": offer.nbytes, "nonce": offer.nonce, **fields})


NOT_SEEN = {
    "another nonce": {"nonce": bytes(16)},
    "no such process": {"name": "/proc/4194305/fd/3"},
    "no such section": {"name": "stormlive-" + 32 * "0"},
    "another's descriptor": {"name": f"/proc/{os.getpid()}/fd/0"},
    "a path": {"name": "/etc/passwd"},
    "a path with more": {"name": "/proc/1/fd/1/../../../../etc/passwd"},
    "nothing": {"name": ""},
    "longer than it is": {"nbytes": 2**30},
    "too long": {"nbytes": MAX_SEGMENT_BYTES + 1},
    "too short": {"nbytes": 16},
    "of no length": {"nbytes": 0},
}


@pytest.mark.parametrize("lie", NOT_SEEN)
def test_a_server_that_does_not_see_the_memory_gets_the_frames_over_tcp(
    lie: str, server: Server, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = OwnSegment.offer
    monkeypatch.setattr(OwnSegment, "offer", lambda self: changed(offer(self), **NOT_SEEN[lie]))
    frames = movie(20)
    hook = make_hook(server.address)
    assert lane_of(hook) == "tcp"
    acquire(hook, frames)
    assert hook.close().live == Ranges([(0, 19)])
    np.testing.assert_array_equal(pictures.of[hook.run], fake.direct_canvas(frames))


@on_linux
@pytest.mark.parametrize(
    ("step", "number"),
    [("os.memfd_create", errno.ENOSYS), ("os.posix_fallocate", errno.ENOSPC), ("mmap.mmap", errno.ENOMEM)],
)
def test_where_memory_is_short_or_cannot_be_shared_frames_go_over_tcp(
    step: str, number: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"stormlive.wire.segment.{step}", full)
    before = memory_files()
    assert segment_module.share(2**20) is None
    assert memory_files() == before
    hook = make_hook(server.address)
    assert lane_of(hook) == "tcp"
    acquire(hook, movie(20))
    assert hook.close().complete


@on_linux
def test_memory_that_is_not_free_is_not_even_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[object]()
    monkeypatch.setattr(os, "posix_fallocate", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(segment_module, "_available_bytes", lambda: 2**16)
    assert segment_module.share(2**16) is None
    assert asked == []


@on_linux
def test_a_python_that_does_not_know_memfd_asks_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    own = OwnSegment(1000)
    seen = attach(own.offer())
    assert seen is not None
    assert seen.is_intact()


@on_linux
@pytest.mark.parametrize(("seals", "holes", "taken"), [(True, False, True), (False, False, False), (True, True, False)])
def test_memory_that_could_be_cut_short_or_is_not_all_there_is_not_attached(
    seals: bool, holes: bool, taken: bool
) -> None:
    import fcntl

    nbytes = 4 * mmap.PAGESIZE
    descriptor = os.memfd_create("stormlive", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, nbytes)
        if not holes:
            os.posix_fallocate(descriptor, 0, nbytes)
        if seals:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            with pytest.raises(OSError, match="not permitted"):
                os.ftruncate(descriptor, 100)
        offer = SegmentOffer(name=f"/proc/{os.getpid()}/fd/{descriptor}", nbytes=nbytes, nonce=bytes(16))
        assert (attach(offer) is not None) == taken
    finally:
        os.close(descriptor)


@on_linux
def test_nothing_but_a_senders_memory_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, other = os.pipe()
    (tmp_path / "file").write_bytes(bytes(8192))
    plain = os.open(tmp_path / "file", os.O_RDWR)
    foreign = os.memfd_create("another's", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    opened = list[object]()
    monkeypatch.setattr(os, "open", lambda *arguments, **_: opened.append(arguments))
    try:
        for descriptor in (pipe, other, plain, foreign):
            name = f"/proc/{os.getpid()}/fd/{descriptor}"
            assert attach(SegmentOffer(name=name, nbytes=4096, nonce=bytes(16))) is None
    finally:
        for descriptor in (pipe, other, plain, foreign):
            os.close(descriptor)
    assert opened == []


@on_linux
def test_another_users_memory_is_not_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnSegment(1000)
    assert attach(own.offer()) is not None
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert attach(own.offer()) is None


def test_a_sender_that_is_not_on_loopback_gets_no_lane() -> None:
    limits = Limits(max_sessions=2, credit_bytes=2**20, max_frame_bytes=2**16, max_batch=8, heartbeat_s=1, grace_s=1)
    own = OwnSegment(1000)
    welcome = Welcome(
        version=PROTOCOL,
        epoch="e",
        credit_bytes=1,
        max_frame_bytes=1,
        heartbeat_ms=10,
        clock_ns=0,
        model="fake",
        model_pixel_size_nm=100.0,
        view_port=1,
        status_port=2,
    )
    for address, lane in (("127.0.0.1", "shm"), ("127.8.8.8", "shm"), ("192.0.2.7", "tcp")):
        runs = Runs(max_open=1, max_batch=1)
        reception = Reception(runs, lambda _: welcome, lambda: 0, limits, lambda _, a=address: Client(address=a))
        answer = reception.take(b"peer", [encode(Hello(version=PROTOCOL, segment=own.offer()))], 0.0)
        assert isinstance(answer, Welcome)
        assert answer.lane == lane


def test_memory_is_shared_with_loopback_only_and_not_where_tcp_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = KeyPair.make()
    monkeypatch.setattr(hook_module, "load_client_keys", lambda _: ClientKeys(own=pair, server=pair.public))
    for address, lane, shares in (
        ("tcp://127.0.0.1:9", "auto", True),
        ("tcp://127.0.0.1:9", "tcp", False),
        ("tcp://192.0.2.1:5557", "auto", False),
    ):
        hook = make_hook(address, lane=lane)
        assert (hook._outbox.segment is not None) == shares
        hook.close(timeout_s=0)


@pytest.mark.parametrize("at", [0, HEAD_BYTES - 1, HEAD_BYTES + 4096 - FRAME_BYTES + 1, HEAD_BYTES + 4096, 2**39])
def test_a_frame_outside_of_the_memory_ends_its_own_run_only(at: int, server: Server, pictures: Pictures) -> None:
    frames, own = movie(20), OwnSegment(4096)
    hook = make_hook(server.address)
    acquire(hook, frames[:10])
    with Peer(server.address) as peer:
        header = peer.start(own)
        peer.say(FrameHeader(**{**fields(header), "at": at}), b"")
        error = peer.hear(Error)
        assert (error.code, error.fatal) == ("malformed", True)
        assert "not within the shared memory" in error.message
    soon(lambda: header.run in pictures.runs)
    assert pictures.runs[header.run].exit_status.startswith("protocol error: a frame of")
    acquire(hook, frames[10:])
    assert hook.close().live == Ranges([(0, 19)])
    np.testing.assert_array_equal(pictures.of[hook.run], fake.direct_canvas(frames))


def fields(header: FrameHeader) -> dict[str, object]:
    return {name: getattr(header, name) for name in header.__struct_fields__}


def test_a_place_in_memory_that_was_never_offered_is_an_error(server: Server) -> None:
    with Peer(server.address) as peer:
        header = peer.start()
        peer.say(FrameHeader(**{**fields(header), "at": 64}), b"")
        assert "WELCOME" in peer.hear(Error).message


@no_grace
def test_the_last_bytes_of_the_memory_are_within_it(server: Server, pictures: Pictures) -> None:
    own, frames = OwnSegment(4096), movie(2)
    ends = HEAD_BYTES + 4096
    with Peer(server.address) as peer:
        header = peer.start(own)
        for seq, at in enumerate((HEAD_BYTES + 1, ends - FRAME_BYTES)):  # aligned or not
            own.memory[at - HEAD_BYTES :][:FRAME_BYTES] = frames[seq].reshape(-1).view(np.uint8)
            peer.say(FrameHeader(**{**fields(header), "at": at, "seq": seq}), b"")
        soon(lambda: shown(server).ledger.picture_count() == 2)
    soon(lambda: header.run in pictures.of)
    np.testing.assert_array_equal(pictures.of[header.run], fake.direct_canvas(frames))


def test_a_frame_says_where_its_pixels_are_or_brings_them_but_not_both() -> None:
    header = FrameHeader(run=uuid4(), seq=0, t_ns=0, dtype="uint16", shape=SHAPE, nbytes=FRAME_BYTES, at=64)
    assert unpack([encode(header), b""]) == (header, b"")
    for parts in ([encode(header)], [encode(header), bytes(FRAME_BYTES)], [encode(header), b"", b""]):
        with pytest.raises(ProtocolError):
            unpack(parts)


def test_two_senders_each_have_their_own_memory(server: Server, pictures: Pictures) -> None:
    movies = [movie(200, seed=1), movie(200, seed=2)]
    options = {"outbox_mb": 16 * FRAME_MB, "mode": "block"}
    hooks = [make_hook(server.address, name=f"cell {n}", **options) for n in range(2)]
    assert [lane_of(hook) for hook in hooks] == ["shm", "shm"]
    threads = [threading.Thread(target=acquire, args=pair) for pair in zip(hooks, movies, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for hook, frames in zip(hooks, movies, strict=True):
        assert hook.close().live == Ranges([(0, 199)])
        np.testing.assert_array_equal(pictures.of[hook.run], fake.direct_canvas(frames))


def test_what_moved_to_the_spool_comes_over_tcp_beside_the_lane(
    server: Server, engine: fake.FakeEngine, pictures: Pictures
) -> None:
    frames = movie(120)
    hook = make_hook(server.address, outbox_mb=20 * FRAME_MB)
    engine.gate.clear()
    acquire(hook, frames[:90])  # many more than the outbox holds
    engine.gate.set()
    acquire(hook, frames[90:])
    report = hook.close()
    assert hook.progress.lane == "shm"
    assert report.complete, report.sentence
    assert report.replayed.count() > 0
    assert report.live.count() > 0
    assert_every_frame_once(report)
    np.testing.assert_array_equal(pictures.of[hook.run], fake.direct_canvas(frames))


def test_memory_that_is_used_again_after_a_lost_connection_never_gets_into_the_picture(
    server: Server, engine: fake.FakeEngine, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames lie unread in the server when their sender, which has lost it, moves them and uses their slots again."""
    reconnect, detached = threading.Event(), threading.Event()

    def pause(self: Sender, _seconds: float) -> None:
        detached.set()
        while not reconnect.is_set() and not self._over():
            self._stock.relieve()
            time.sleep(0.001)

    monkeypatch.setattr(Sender, "_pause", pause)
    frames = movie(200)
    hook = make_hook(server.address, outbox_mb=20 * FRAME_MB)
    assert lane_of(hook) == "shm"
    engine.gate.clear()
    acquire(hook, frames[:10])
    soon(lambda: (shown(server).received, len(shown(server).queue)) == (10, 9))  # the engine has the first
    run = shown(server)
    hang_up = Error(code="stopped", fatal=False, message="a connection is lost")
    server._front.post(Outgoing(channel="data", peer=run.owner.peer, message=hang_up))
    assert detached.wait(20)
    acquire(hook, frames[10:])  # all slots are written again and again
    engine.gate.set()
    soon(lambda: not run.queue)
    assert run.ledger.picture_count() <= 1
    reconnect.set()
    report = hook.close(30)
    assert report.complete, report.sentence
    assert_every_frame_once(report)
    np.testing.assert_array_equal(pictures.of[hook.run], fake.direct_canvas(frames))


SENDER = textwrap.dedent(
    """
    import sys, time
    import numpy as np
    from stormlive.acquire.hook import StreamHook
    address, n, end = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    hook = StreamHook(address, pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10, outbox_mb=4)
    hook.check()
    assert hook.progress.lane == "shm", hook.progress
    frames = np.random.default_rng(0).integers(90, 500, (n, 12, 16)).astype(np.uint16)
    for number, frame in enumerate(frames):
        hook(frame, {"Axes": {"time": number}})
    print(hook.run, flush=True)
    if end == "hang":
        time.sleep(600)
    if end == "close":
        assert hook.close().complete
    """
)


def sender(server: Server, n: int, end: str) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "error", "-c", SENDER, server.address, str(n), end]
    return killed_at_last(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))


@on_linux
@no_grace
def test_a_sender_that_is_killed_leaves_its_frames_and_no_memory(
    server: Server, engine: fake.FakeEngine, pictures: Pictures
) -> None:
    before = memory_files()
    engine.gate.clear()
    with sender(server, 50, "hang") as child:
        identity = child.stdout.readline().strip()
        soon(lambda: shown(server).received == 50)
    engine.gate.set()
    soon(lambda: any(str(run) == identity for run in pictures.runs))
    ((identity, run),) = pictures.runs.items()
    assert run.exit_status == "sender lost"
    assert run.ledger.live == Ranges([(0, 49)])
    np.testing.assert_array_equal(pictures.of[identity], fake.direct_canvas(movie(50)))
    soon(lambda: memory_files() == before)
    assert not list(Path("/dev/shm").glob("stormlive*"))


@pytest.mark.parametrize("end", ["close", "leave"])
def test_the_hook_starts_no_process_and_leaves_without_a_warning(end: str, server: Server) -> None:
    with sender(server, 20, end) as child:
        assert child.stdout.readline().strip(), child.stderr.read()
        if sys.platform == "linux" and child.poll() is None:
            children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text()
            assert children == ""
        _, complaints = child.communicate(timeout=60)
    assert (child.returncode, complaints) == (0, "")


def test_the_memory_is_attached_again_after_a_lost_connection_and_by_the_next_server(
    servers: Servers,
) -> None:
    frames = movie(300)
    hook = make_hook(servers.start("in a batch", frame_s=0.002).address, outbox_mb=50 * FRAME_MB)
    assert lane_of(hook) == "shm"
    acquire(hook, frames[:100])
    servers.wait_until_dead()
    servers.start(frame_s=0.002)
    acquire(hook, frames[100:])
    report = hook.close(30)
    assert hook.progress.lane == "shm"
    assert report.complete, report.sentence
    np.testing.assert_array_equal(np.load(Path(report.folder) / "canvas.npy"), fake.direct_canvas(frames))


def test_a_preview_over_the_lane_is_accounted(server: Server, engine: fake.FakeEngine, pictures: Pictures) -> None:
    engine.frame_s = 0.002
    frames = movie(300)
    hook = make_hook(server.address, outbox_mb=8 * FRAME_MB, mode="latest")
    assert lane_of(hook) == "shm"
    for n, frame in enumerate(frames):
        hook(frame, {"Axes": {"time": n}})
    report = hook.close()
    assert_every_frame_once(report)
    there = [n for first, last in report.live for n in range(first, last + 1)]
    np.testing.assert_array_equal(pictures.of[hook.run], fake.direct_canvas(frames[there]))


@on_linux
def test_memory_is_given_back_when_hook_and_server_are_done_with_it(server: Server) -> None:
    before = memory_files()
    hook = make_hook(server.address)
    acquire(hook, movie(5))
    soon(lambda: memory_files()[0] == before[0] + 2)  # the hook's and the server's
    hook.close()
    del hook
    soon(lambda: memory_files() == before)


def test_the_nonce_is_all_that_tells_two_memories_apart() -> None:
    own = OwnSegment(1000)
    seen = PeerSegment(own.offer())
    assert seen.is_intact()
    own.renew()
    assert not seen.is_intact()
    assert attach(own.offer()) is not None
