"""Who may connect changes while the server runs, as the files of the keys do."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

import fake_engine as fake
from served import Closed, make_hook, movie, numbers, soon
from stormlive.acquire import sender
from stormlive.cli.keys import keys as make_keys
from stormlive.server import auth
from stormlive.server.loop import Server
from stormlive.wire.client import LiveClient
from stormlive.wire.codec import encode
from stormlive.wire.curve import ClientKeys, KeyPair, ServerKeys
from stormlive.wire.transport import connect_dealer, send
from stormlive.wire.viewing import View
from stormlive_sim.errors import InputError


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_LOOK_S", 0.05)
    monkeypatch.setattr(sender, "LONGEST_PAUSE_S", 0.3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys", ["stays", "leaves"])
    return tmp_path / "keys"


@pytest.fixture
def locked(folder: Path, closed: Closed) -> Iterator[Server]:
    keys = ServerKeys.load(folder / "server")
    limits = {"heartbeat_s": 0.2, "grace_s": 0.5}
    with Server(fake.FakeEngine(), finish=closed, bind="tcp://127.0.0.1:*", keys=keys, **limits) as running:
        yield running
    running.raise_if_failed()


def may_look(server: Server, folder: Path) -> bool:
    try:
        with LiveClient(server.address, 2.0, keys=ClientKeys.load(folder)) as look:
            return look.status(5.0) is not None
    except ConnectionError:
        return False


def test_a_key_that_is_added_counts_without_a_restart(locked: Server, folder: Path) -> None:
    make_keys(folder, ["new"])
    soon(lambda: may_look(locked, folder / "new"))
    assert may_look(locked, folder / "stays")


def test_a_key_that_is_taken_away_ends_its_connections_and_no_others(
    locked: Server, closed: Closed, folder: Path
) -> None:
    frames = movie(60)
    leaves = make_hook(locked.address, keys=folder / "leaves", name="leaves")
    stays = make_hook(locked.address, keys=folder / "stays", name="stays")
    context = zmq.Context()
    silent = [
        connect_dealer(context, locked.view_address, max_part_bytes=2**20, keys=ClientKeys.load(folder / name))
        for name in ("leaves", "stays")
    ]
    for dealer in silent:
        assert dealer.poll(10_000, zmq.POLLOUT)
    with (
        LiveClient(locked.address, 1.0, keys=ClientKeys.load(folder / "leaves")) as out,
        LiveClient(locked.address, keys=ClientKeys.load(folder / "stays")) as looker,
        LiveClient(locked.own_address, keys=locked.own_keys) as own,
    ):
        for frame in frames[:30]:
            leaves(frame)
            stays(frame)
        soon(lambda: stays.progress.live == leaves.progress.live == 30)
        assert out.view("canvas") is not None
        (folder / "server" / "allowed" / "leaves.key").unlink()
        soon(lambda: not leaves.progress.connected)
        for frame in frames[30:]:
            leaves(frame)
            stays(frame)
        soon(lambda: stays.progress.live == 60)
        soon(lambda: out.status(0.5) is None)
        for dealer in silent:  # that nobody knew whose they were
            assert send(dealer, [encode(View(request=1))])
        soon(lambda: not silent[0].poll(0, zmq.POLLOUT))
        assert not silent[0].poll(0)
        assert silent[1].poll(10_000)
        with pytest.raises(ConnectionError):
            out.view("canvas")
        for client in (looker, own):
            soon(lambda client=client: client.status(1.0) is not None)  # it connects anew by itself
        assert looker.view("canvas") is not None
        soon(lambda: len(closed.runs) == 1)
    for dealer in silent:
        dealer.close(linger=0)
    context.term()
    assert not may_look(locked, folder / "leaves")
    ((run, _),) = closed.runs
    assert (run.start.name, run.exit_status) == ("leaves", "sender lost")
    assert numbers(run.ledger.in_picture()) == [*range(30)]
    assert stays.close().complete
    leaves.close(timeout_s=0.5)


def test_a_damaged_file_allows_nobody_and_disturbs_nobody(
    locked: Server, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    allowed = folder / "server" / "allowed"
    whole = (allowed / "leaves.key").read_bytes()
    (allowed / "leaves.key").write_bytes(whole[: len(whole) // 2])
    soon(lambda: not may_look(locked, folder / "leaves"))
    assert may_look(locked, folder / "stays")
    assert caplog.text.count("holds no key") + caplog.text.count("is damaged") == 1  # looked at many times by now
    (allowed / "leaves.key").write_bytes(whole)
    soon(lambda: may_look(locked, folder / "leaves"))


def test_a_file_that_cannot_be_read_for_a_moment_counts_again(
    locked: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise InputError(f"cannot read the key {path}: Too many open files")

    with monkeypatch.context() as context:
        context.setattr(auth, "read_public", refuse)
        make_keys(folder, ["new"])  # has all of them read again
        soon(lambda: not may_look(locked, folder / "stays"))
    soon(lambda: may_look(locked, folder / "stays") and may_look(locked, folder / "new"))


@pytest.mark.skipif(os.name != "posix", reason="Windows lets administrators alone make links")
def test_a_link_to_nowhere_disturbs_nobody(locked: Server, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    allowed = folder / "server" / "allowed"
    (allowed / "gone.key").symlink_to(folder / "nowhere")
    KeyPair.make().save_public(allowed / "new.key")
    soon(lambda: "1 more and 0 fewer" in caplog.text)
    assert may_look(locked, folder / "stays")


def test_no_file_means_nobody_but_the_server_itself(locked: Server, folder: Path) -> None:
    for file in (folder / "server" / "allowed").iterdir():
        file.unlink()
    (folder / "server" / "allowed").rmdir()
    soon(lambda: not may_look(locked, folder / "stays"))
    with LiveClient(locked.own_address, keys=locked.own_keys) as own:
        assert own.status(5.0) is not None
