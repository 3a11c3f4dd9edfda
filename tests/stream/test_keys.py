"""The keys: files that nobody else reads, that are never overwritten, and one clear line for each that is wrong."""

import os
from pathlib import Path

import pytest

from stormlive.acquire.hook import StreamHook
from stormlive.cli.app import run
from stormlive.wire.curve import ALLOWED, CLIENT_SECRET, SERVER_PUBLIC, SERVER_SECRET, ClientKeys, KeyPair, ServerKeys
from stormlive.wire.transport import bind_address
from stormlive_sim.errors import InputError

CALIBRATION = {"pixel_size_nm": 100, "baseline_adu": 100, "photons_per_adu": 0.5, "exposure_ms": 10}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    assert run(["keys", "--dir", str(folder)]) == 0
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_keys_fit_together(made: Path) -> None:
    server, client = ServerKeys.load(made / "server"), ClientKeys.load(made / "client")
    assert client.server == server.own.public
    assert server.allowed == {client.own.public}
    assert client.own.public != server.own.public


def test_private_keys_are_where_they_belong_and_nowhere_else(made: Path) -> None:
    secrets = {made / "server" / SERVER_SECRET, made / "client" / CLIENT_SECRET}
    for path, data in contents(made).items():
        assert (b"secret-key" in data) == (path in secrets)
    server = ServerKeys.load(made / "server")
    assert server.own.secret.decode() not in repr(server)


@pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions")
def test_only_the_owner_reads_private_keys(made: Path) -> None:
    for path in (made / "server" / SERVER_SECRET, made / "client" / CLIENT_SECRET):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions")
def test_a_private_key_that_others_may_read_is_told(made: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = made / "client" / CLIENT_SECRET
    path.chmod(0o644)
    ClientKeys.load(made / "client")
    assert f"chmod 600 {path}" in caplog.text


def test_nothing_is_overwritten(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(made)
    assert run(["keys", "--dir", str(made)]) == 1
    assert "never overwritten" in capsys.readouterr().err
    assert contents(made) == before


def test_another_client_is_added(made: Path) -> None:
    before = contents(made)
    assert run(["keys", "--dir", str(made), "--client", "microscope 2"]) == 0
    after = contents(made)
    assert {path: after[path] for path in before} == before
    clients = [ClientKeys.load(made / name) for name in ("client", "microscope 2")]
    server = ServerKeys.load(made / "server")
    assert server.allowed == {client.own.public for client in clients}
    assert {client.server for client in clients} == {server.own.public}


@pytest.mark.parametrize("names", [["server"], ["a/b"], ["a", "a"], [".."], [""]])
def test_client_names_that_are_no_folder_of_their_own(names: list[str], tmp_path: Path) -> None:
    options = [word for name in names for word in ("--client", name)]
    assert run(["keys", "--dir", str(tmp_path / "keys"), *options]) == 1
    assert not (tmp_path / "keys").exists()


def test_what_goes_where_is_said(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    run(["keys", "--dir", str(made), "--client", "b"])
    said = capsys.readouterr().out
    for text in (str(made / "server"), str(made / "b"), "stormlive serve --bind", "stormlive acquire --server"):
        assert text in said


GARBAGE = [b"", b"\xff\xfe\x00", b"curve\n", b'curve\n public-key = "short"\n', b'curve\n public-key = "' + b"~" * 40]


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", [CLIENT_SECRET, SERVER_PUBLIC])
def test_a_garbled_key_is_one_clear_line(garbage: bytes, name: str, made: Path) -> None:
    path = made / "client" / name
    path.write_bytes(garbage)
    with pytest.raises(InputError) as caught:
        StreamHook("tcp://127.0.0.1:9", keys=made / "client", **CALIBRATION)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_that_do_not_belong_together(made: Path) -> None:
    path = made / "client" / CLIENT_SECRET
    other = KeyPair.make().secret.decode()
    own = ClientKeys.load(made / "client").own.secret.decode()
    path.write_text(path.read_text().replace(own, other))
    with pytest.raises(InputError, match="do not belong together"):
        ClientKeys.load(made / "client")


def test_a_public_key_is_no_private_one(made: Path) -> None:
    public = (made / "server" / ALLOWED / "client.key").read_text()
    (made / "client" / CLIENT_SECRET).write_text(public)
    with pytest.raises(InputError, match="no private key"):
        ClientKeys.load(made / "client")


def test_the_wrong_folder_is_told(made: Path, tmp_path: Path) -> None:
    for folder in (made, made / "server", tmp_path / "none"):
        with pytest.raises(InputError, match="client's folder"):
            ClientKeys.load(folder)
    for folder in (made, made / "client", tmp_path / "none"):
        with pytest.raises(InputError, match="server's folder"):
            ServerKeys.load(folder)


def test_an_empty_list_of_clients_is_refused(made: Path) -> None:
    (made / "server" / ALLOWED / "client.key").unlink()
    with pytest.raises(InputError, match="no client may connect"):
        ServerKeys.load(made / "server")


@pytest.mark.parametrize("bind", ["0.0.0.0", "192.168.1.7:6000", "tcp://*:5557", "tcp://gpu.lab:5557"])
def test_binding_elsewhere_without_keys_names_the_command(bind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--bind", bind]) == 1
    said = capsys.readouterr().err
    assert "stormlive keys" in said
    assert "stormlive serve --bind tcp://" in said
    assert "--keys stormlive-keys/server" in said
    assert len(said.strip().splitlines()) == 1


def test_with_keys_any_address_is_bound_and_without_loopback_alone(made: Path) -> None:
    keys = ServerKeys.load(made / "server")
    assert bind_address("tcp://0.0.0.0:5557", keys) == "tcp://0.0.0.0:5557"
    assert bind_address("tcp://localhost:5557", None) == "tcp://127.0.0.1:5557"


def test_connecting_elsewhere_without_keys_is_refused() -> None:
    with pytest.raises(InputError, match="takes keys"):
        StreamHook("tcp://192.0.2.1:5557", **CALIBRATION)


def test_keys_without_a_server_are_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["acquire", "--headless", "--keys", str(made / "client")]) == 1
    assert "--server" in capsys.readouterr().err
