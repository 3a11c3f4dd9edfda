"""``stormlive bench`` in a terminal: figures that add up, and errors that say what is wrong."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stormlive.cli import bench, engine_times
from stormlive.cli.advice import RESERVE, keeps_up
from stormlive.cli.app import run
from stormlive.cli.engine_times import EngineTimes
from stormlive_models import peak
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.peak import network_macs
from stormlive_sim.errors import InputError


@pytest.fixture(autouse=True)
def _few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked here is whether there are figures, not whether they are good."""
    monkeypatch.setattr(peak, "_ROUNDS", 1)
    monkeypatch.setattr(engine_times, "_BATCH", 2)


def test_the_parts_of_a_frame_make_up_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    arguments = ["--model", "small", "--device", "cpu:torch", "--sides", "32,64", "--seconds", "0.05"]
    assert run(["bench", *arguments, "--json", str(path)]) == 0
    record = json.loads(path.read_text())
    assert [row["side"] for row in record["rows"]] == [32, 64]
    assert record["device"] == "cpu (torch)"
    assert record["peak_gmac_per_s"] > 0
    for row in record["rows"]:
        assert row["frames_per_s"] > 0
        assert 0 < row["latency_p50_ms"] <= row["latency_p99_ms"]
        assert row["network_ms"] > 0
        assert row["rendering_ms"] > 0
        assert row["peak_share"] > 0
    out = capsys.readouterr().out
    assert "32²" in out
    assert "GMAC/s" in out


def test_cel0_has_no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_times, "_BATCH", 1)
    path = tmp_path / "bench.json"
    assert (
        run(["bench", "--model", "cel0", "--device", "cpu", "--sides", "16", "--seconds", "0.05", "--json", str(path)])
        == 0
    )
    (row,) = json.loads(path.read_text())["rows"]
    assert row["network_ms"] is None
    assert row["frames_per_s"] > 0


def test_what_is_too_large_or_takes_too_long_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "_MOST_S", 0.0)
    measured: list[int] = []

    def measure(engine: object, side: int, seconds: float, peak: object) -> EngineTimes:
        measured.append(side)
        if side == 48:
            raise InputError("there is not enough memory")
        return times(side, 1e-3)

    monkeypatch.setattr(engine_times, "measure", measure)
    arguments = ["--model", "small", "--device", "cpu:torch", "--seconds", "0.05"]
    assert run(["bench", *arguments, "--sides", "32,48,64,4096"]) == 0
    assert measured == [32, 48, 64]
    out = " ".join(capsys.readouterr().out.split())
    assert "48² was left out: there is not enough memory." in out
    assert "4096² was left out: it would take" in out
    assert "64²" in out
    assert run(["bench", *arguments, "--sides", "48"]) == 1


def test_a_share_beyond_the_peak_is_told_to_be_none_and_each_size_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "--model", "small", "--device", "cpu:torch", "--sides", "32,64"]
    monkeypatch.setattr(peak, "Peak", lambda *_: SimpleNamespace(measure=lambda: None, macs_per_s=1e9))
    for macs_per_s, doubtful in ((0.9e9, False), (1.1e9, True)):
        monkeypatch.setattr(engine_times, "measure", lambda _, side, *__, it=macs_per_s: times(side, 1e-3, it))
        assert run(arguments) == 0
        said = capsys.readouterr()
        assert ("not reliable" in said.out) is doubtful
        assert f"{100 * macs_per_s / 1e9:.0f} %" in said.out
        told = [line for line in said.err.splitlines() if "frames/s" in line]
        assert told == ["32²: 1000 frames/s", "64²: 1000 frames/s"]


@pytest.mark.parametrize("fps", [1.0, 30.0, 100.0, 1000.0])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_region_that_is_advised_keeps_up(fps: float, share: float) -> None:
    rows = [times(side, 1e-6 * side**2) for side in (64, 128, 256)]
    side = bench._largest(rows, fps, share)
    assert keeps_up(share / (1e-6 * side**2), fps)
    assert side == 256 or not keeps_up(share / (1e-6 * (side + 8) ** 2), fps)
    assert side <= 256


def test_no_region_is_advised_that_was_measured_to_be_too_slow() -> None:
    """On a machine that was busy while it measured the second size, or takes longer for each pixel of large ones."""
    rows = [times(64, 1 / 300, macs_per_s=2.1), times(128, 1 / 26)]
    assert 64 < bench._largest(rows, 30, 1.0) < 128
    assert bench._largest(rows, 26 / RESERVE, 1.0) == 128
    assert bench._halved(rows) is rows[1]
    assert bench._halved([times(64, 1.0), times(128, 4.0, macs_per_s=0.6), times(256, 9.0, macs_per_s=0.4)]) is None


def times(side: int, seconds: float, macs_per_s: float = 1.0) -> EngineTimes:
    """Return times of a machine that takes so long for a frame."""
    parts = dict.fromkeys(("scaling_ms", "network_ms", "rendering_ms", "rest_ms"), 250 * seconds)
    latency = {"latency_p50_ms": 1000 * seconds, "latency_p99_ms": 1000 * seconds}
    return EngineTimes(side=side, frames_per_s=1 / seconds, **latency, **parts, macs_per_s=macs_per_s)


@pytest.mark.parametrize("sides", ["", "a", "8", "64,100000"])
def test_sides_are_checked(sides: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--sides", sides]) == 1
    assert "whole numbers from 16" in " ".join(capsys.readouterr().err.split())


def test_multiply_adds_are_counted() -> None:
    # The bounds: 1.1 GMAC for the default, 0.5 for `small`.
    assert network_macs(LiveNet(width=48)) == pytest.approx(0.949e9, rel=0.01)
    assert network_macs(LiveNet(width=32)) == pytest.approx(0.423e9, rel=0.01)
    assert network_macs(LiveNet(width=4), 128, 64) == 2 * network_macs(LiveNet(width=4))
    assert torch.is_grad_enabled()
