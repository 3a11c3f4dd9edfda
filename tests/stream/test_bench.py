"""``stormlive bench`` in a terminal: figures that add up, and errors that say what is wrong."""

import json
from pathlib import Path

import pytest
import torch

from stormlive.cli import bench
from stormlive.cli.app import run
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.peak import network_macs


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
    monkeypatch.setattr(bench, "_BATCH", 1)
    path = tmp_path / "bench.json"
    assert (
        run(["bench", "--model", "cel0", "--device", "cpu", "--sides", "16", "--seconds", "0.05", "--json", str(path)])
        == 0
    )
    (row,) = json.loads(path.read_text())["rows"]
    assert row["network_ms"] is None
    assert row["frames_per_s"] > 0


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
