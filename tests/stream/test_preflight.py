"""``stormlive preflight``: the rates that it measures and what it makes of them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import fake_engine as fake
from stormlive.acquire.rates import measure_rate
from stormlive.cli import preflight
from stormlive.cli.advice import Asked, Way, advise, per_second, size, span
from stormlive.cli.app import run
from stormlive.cli.link import link_server
from stormlive.server.loop import Server
from stormlive.wire.curve import ServerKeys
from stormlive_sim.errors import InputError


@contextlib.contextmanager
def slow_server(frame_s: float) -> Iterator[Server]:
    with Server(
        fake.FakeEngine(frame_s), finish=lambda run, canvas: "folder", bind="tcp://127.0.0.1:*", heartbeat_s=0.2
    ) as running:
        yield running


def test_the_rate_is_that_of_the_engine_and_nothing_is_left_behind() -> None:
    with slow_server(0.01) as server:
        rate = measure_rate(server.address, (16, 24), fake.CALIBRATION, 0.5)
        assert sum(server.engine.batches) >= 0.4 * rate  # the burst that counts lasted for half a second
    assert 10 < rate <= 101  # a busy machine is slower than its engine, never faster


def test_the_link_alone_carries_more_than_a_slow_engine_takes() -> None:
    with link_server() as address:
        assert measure_rate(address, (16, 24), fake.CALIBRATION, 0.2) > 50


def test_a_camera_that_the_model_does_not_take_is_told() -> None:
    with slow_server(0.0) as server, pytest.raises(InputError, match="100 nm"):
        measure_rate(
            server.address,
            (16, 24),
            type(fake.CALIBRATION)(pixel_size_nm=55, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10),
            0.2,
        )


def told(
    rate: float, *, link: float = 5000.0, ways: tuple[Way, ...] = (), free: float = 1e12, hours: float = 0.1
) -> str:
    asked = Asked(shape=(512, 512), fps=100, seconds=3600 * hours)
    return " ".join(
        advise(
            asked,
            link=link,
            engine=rate,
            ways=ways,
            outbox_bytes=256 * 2**20,
            spool_bytes=2048 * 2**20,
            free_disk_bytes=int(free),
        )
    )


def test_what_keeps_up_is_said_to_and_nothing_else_is_advised() -> None:
    assert told(150).startswith("It keeps up: 150 frames/s measured, 100 asked for.")
    assert "reconstruct" not in told(150)
    assert told(110).startswith("It just keeps up")
    assert "close to its limit" in told(110, link=110)
    assert "too many" in told(50, link=60)


def test_the_backlog_is_arithmetic() -> None:
    # 100 - 60 frames/s of 2 * 512² bytes for 360 s, worked off at 60 frames/s.
    text = told(60)
    assert "21600 of 36000 frames are in the picture and 14400 wait, 7.5 GB" in text
    assert "4 min after the camera has stopped" in text
    # 2304 MiB at 40 frames/s.
    assert "are full after 2 min" in text or "are full after 115 s" in text
    assert "spool_mb=6944" in text
    assert "do not hold it" in told(60, free=1e9)
    assert "They fit" in told(60, hours=0.01)
    assert "10 min of computing" in text


def test_the_route_names_only_what_was_measured_to_keep_up() -> None:
    ways = (Way(what="a region of 256x256", rate=240), Way(what="--model small", rate=90))
    text = told(60, ways=ways)
    assert "run it with a region of 256x256 (240 frames/s)." in text
    assert "small" not in text
    assert "No way that was measured keeps up (--model small: 90 frames/s)" in told(60, ways=ways[1:])


def test_words_for_numbers() -> None:
    assert [span(s) for s in (3, 99, 100, 5999, 7200)] == ["3 s", "99 s", "2 min", "100 min", "2.0 h"]
    assert [per_second(rate) for rate in (305.4, 39.2, 3.04, 0.138)] == ["305", "39", "3.0", "0.14"]
    assert [size(n) for n in (2e6, 1.94e9)] == ["2 MB", "1.9 GB"]


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @contextlib.contextmanager
    def server(model: str, device: str, folder: Path) -> Iterator[tuple[str, str]]:
        with slow_server(0.02) as running:
            yield running.address, "cpu"

    @contextlib.contextmanager
    def link() -> Iterator[str]:
        with slow_server(0.0) as running:
            yield running.address

    monkeypatch.setattr(preflight, "_server", server)
    monkeypatch.setattr("stormlive.cli.link.link_server", link)
    monkeypatch.setattr(preflight, "_other_models", lambda model, nm: [])
    assert run(["preflight", "--roi", "128x128", "--fps", "500", "--seconds", "0.2"]) == 0
    said = capsys.readouterr().out
    assert "the link alone" in said
    assert "a region of 64x64" in said
    assert "32x32" not in said
    assert "Live is an exposure of" in said
    assert "It does not keep up" in said
    for roi, word in (("64", "WIDTHxHEIGHT"), ("64x8", "sides of 16 to 4096")):
        assert run(["preflight", "--roi", roi, "--fps", "500"]) == 1
        assert word in " ".join(capsys.readouterr().err.split())


def test_a_server_elsewhere_is_measured_through_its_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "--dir", str(tmp_path / "keys"), "--client", "me"]) == 0
    keys = ServerKeys.load(tmp_path / "keys" / "server")
    engine = fake.FakeEngine(0.02)
    with Server(engine, finish=lambda run, canvases: None, bind="tcp://127.0.0.1:*", keys=keys) as server:
        asked = ["preflight", "--roi", "64x64", "--fps", "500", "--seconds", "0.2", "--server", server.address]
        assert run([*asked, "--keys", str(tmp_path / "keys" / "me")]) == 0
        said = capsys.readouterr().out
        assert engine.batches
        assert run(asked) == 1
        assert run(["preflight", "--roi", "64x64", "--fps", "500", "--keys", str(tmp_path / "keys" / "me")]) == 1
    assert f"fake on cpu at 127.0.0.1:{server.address.rpartition(':')[2]}" in said
    assert "It does not keep up" in said
    assert "the link alone" not in said


def test_other_models_are_those_that_take_the_camera() -> None:
    assert preflight._other_models("livenet", 100.0) == [
        name for name in preflight._other_models("none", 100.0) if name != "livenet"
    ]
    assert preflight._other_models("none", 5000.0) == []
