"""What only a GPU can tell (marked so), and that the benchmark of GPUs works before there is one.

`benchmarks/gpu.sh` runs the marked ones without the conftest, on a machine that has no more than PyTorch.
"""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import _report  # noqa: E402
import gpu  # noqa: E402
from _bare import Weights, movie, open_canvas, open_weights  # noqa: E402

from stormlive.server.reconstruction import Reconstruction  # noqa: E402
from stormlive_models.gpu import Recorded, accelerate_gpu  # noqa: E402

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")

ALONE = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"msgspec", "zmq", "platformdirs", "typer", "tifffile", "PIL", "openvino"}:
            raise ImportError(name)
sys.meta_path.insert(0, Nothing())
sys.path.append("benchmarks")
import gpu
"""


def test_the_benchmark_needs_no_more_than_pytorch(child_environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, env=child_environment, check=True)


def test_the_benchmark_tells_speed_beside_the_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--device", "cpu", "--model", "small", "--sides", "16,24", "--frames", "2", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments, "--seconds", "0.05"])
    monkeypatch.setattr(_report, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu, "check", partial(gpu.check, side=40, n=3))
    monkeypatch.setattr(gpu, "precisions", lambda *_: [])
    monkeypatch.setattr(gpu, "peak_macs_per_s", lambda *_: 1e11)
    gpu.main()
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["side"] for row in record["rows"]] == [16, 24]
    for row in record["rows"]:
        assert row["slowest"] <= row["frames/s"] <= row["quickest"]
        assert row["network alone, frames/s"] > row["frames/s"] / 2
        assert row["of convolutions' peak"] > 0
    notes = record["notes"]
    assert notes["correctness"]["difference of the picture"] < 1e-4
    assert notes["device"].startswith("CPU")
    assert 0 < notes["live at 100 frames/s"]["p50 ms"] <= notes["live at 100 frames/s"]["p99 ms"]


def test_a_wrong_picture_and_missed_aims_are_told() -> None:
    weights = open_weights("small", CPU)
    weights.network.runtime = lambda x: weights.network.maps(0.5 * x)
    wrong, found = gpu.check("small", [weights], side=40, n=3)
    assert len(wrong) == 3
    assert found["J"] < found["J, CPU float32"]
    rows = [{"side": 512, "frames/s": 1400.0}, {"side": 2048, "frames/s": 120.0}, {"side": 1024, "frames/s": 1.0}]
    assert gpu.shortcomings(rows, {"p99 ms": 11.0}) == ["512²: 1400 of 1500 frames/s", "live: 11.0 ms, aim 10 ms"]
    assert gpu.shortcomings(rows[1:], {"p99 ms": 9.0}) == []


# From here on a GPU is needed.


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return movie(61, 31, 2.0)[0]


def on_gpu(precision: torch.dtype | None = None, device: torch.device = GPU) -> Weights:
    """Return weights as the engine has them on a GPU, or in a precision."""
    weights = open_weights("small", device)
    if precision is None:
        accelerate_gpu([weights.network])
    else:
        weights.network.runtime = Recorded(weights.network, precision)
    return weights


def reconstruct(weights: list[Weights], frames: np.ndarray, *cuts: int) -> Reconstruction:
    canvas = open_canvas(weights, frames.shape[1:])
    for part in np.split(frames, cuts):
        canvas.add(part)
    return canvas


def difference(one: Reconstruction, other: Reconstruction) -> float:
    return float(np.abs(one.canvas() - other.canvas()).sum() / other.canvas().sum())


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "most"), [(torch.float32, 0.01), (torch.float16, 0.02), (None, 0.1)])
def test_the_picture_is_that_of_the_cpu(frames: np.ndarray, precision: torch.dtype | None, most: float) -> None:
    expected = reconstruct([open_weights("small", CPU)], frames)
    got = reconstruct([on_gpu(precision)], frames)
    assert difference(got, expected) < most
    np.testing.assert_allclose(got.widefield(), expected.widefield(), rtol=1e-5)
    assert (got.last() == expected.last()).all()


@pytest.mark.gpu
def test_every_bucket_is_a_recording_and_gives_what_the_network_gives() -> None:
    weights = open_weights("small", GPU)
    runtime = Recorded(weights.network, torch.float32)
    with torch.no_grad():
        for n in (1, 2, 4, 8, 16, 4, 1):
            x = torch.randn(n, 2, 48, 64, device=GPU)
            assert torch.allclose(runtime(x), weights.network.maps(x), atol=0.02, rtol=0.02)
    assert [shape[0] for shape, recording in runtime._recordings.items() if recording] == [1, 2, 4, 8, 16]


@pytest.mark.gpu
def test_frames_that_come_fast_are_not_mixed_up_on_their_way(frames: np.ndarray) -> None:
    weights = on_gpu()
    batches = np.random.default_rng(0).integers(1, 17, 200)
    one, other = (open_canvas([weights], frames.shape[1:]) for _ in range(2))
    total, number = np.zeros(frames.shape[1:]), 0
    for n in batches:
        some = frames[np.arange(number, number + n) % len(frames)]
        (one if n % 2 else other).add(some)
        total += ((some - 100.0) * 0.5).sum(0)
        number += n
    got = one.widefield().astype(np.float64) * one.n_frames + other.widefield().astype(np.float64) * other.n_frames
    np.testing.assert_allclose(got, total, rtol=1e-5)
    again = open_canvas([weights], frames.shape[1:])
    for first in range(number):
        again.add(frames[[first % len(frames)]])
    both = one.canvas() + other.canvas()
    assert np.abs(both - again.canvas()).sum() < 0.02 * both.sum()


@pytest.mark.gpu
def test_a_card_that_is_too_small_gives_the_same_picture() -> None:
    adu = movie(700, 4, 1.0)[0]
    expected = reconstruct([on_gpu(torch.float16)], adu)
    small = on_gpu(torch.float16)
    canvas = open_canvas([small], adu.shape[1:])
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 400 * 2**20) / whole)
    try:
        canvas.add(adu)
        canvas.add(adu[:1])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    expected.add(adu[:1])
    assert small.network.portion.frames < 4
    assert difference(canvas, expected) < 0.02


@pytest.mark.gpu
def test_all_gpus_together_give_the_sum(frames: np.ndarray) -> None:
    # With one GPU, it stands for two.
    devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    weights = [on_gpu(device=device) for device in (devices if len(devices) > 1 else 2 * devices)]
    together = reconstruct(weights, frames, 1, 2, 9)
    assert difference(together, reconstruct(weights[:1], frames)) < 0.02
    assert all(part.grid.values.sum() > 0 for part in together._parts)
