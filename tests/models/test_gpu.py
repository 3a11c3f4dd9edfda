"""The convolutions' way on a GPU, with stand-ins for what only a GPU has."""

import logging
import math

import pytest
import torch

from stormlive_models import gpu
from stormlive_models.gpu import TORCH_FP16, Recorded, Recording, accelerate_gpu, disagreement
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.runtime import TORCH, TORCH_BF16, Maps
from stormlive_models.zoo import open_model


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> LiveNet:
    trial = gpu._trial
    monkeypatch.setattr(gpu, "_trial", lambda pixel_size_nm: trial(pixel_size_nm)[:2])
    found = open_model("small", torch.device("cpu")).network
    assert isinstance(found, LiveNet)
    return found


class Recorder:
    """Records as a GPU does: into places that stay, in one pool."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.pools: list[object] = []
        self.error: Exception | None = None

    def __call__(self, maps: Maps, place: torch.Tensor, pool: object) -> Recording:
        if self.error is not None:
            raise self.error
        self.shapes.append(tuple(place.shape))
        self.pools.append(pool)
        output = maps(place).clone()
        return Recording(input=place, output=output, replay=lambda: void(output.copy_(maps(place))), pool="pool")


def void(_: object) -> None:
    pass


def inputs(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 2, 16, 20, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_each_shape_is_recorded_once_and_replayed_for_other_frames(network: LiveNet) -> None:
    record = Recorder()
    runtime = Recorded(network, torch.float32, record)
    kept = {}
    for seed, n in enumerate((1, 2, 4, 2, 1, 4, 2)):
        kept[seed] = inputs(n, seed), runtime(inputs(n, seed))
    assert record.shapes == [(1, 2, 16, 20), (2, 2, 16, 20), (4, 2, 16, 20)]
    assert record.pools == [None, "pool", "pool"]
    # What came first is not overwritten by what came after.
    for x, maps in kept.values():
        assert torch.allclose(maps, network.maps(x), atol=1e-4)


@torch.no_grad()
def test_what_cannot_be_recorded_runs_all_the_same(network: LiveNet, caplog: pytest.LogCaptureFixture) -> None:
    record = Recorder()
    record.error = RuntimeError("operation not permitted when stream is capturing")
    runtime = Recorded(network, torch.float32, record)
    with caplog.at_level(logging.WARNING):
        assert torch.allclose(runtime(inputs(2)), network.maps(inputs(2)), atol=1e-4)
        runtime(inputs(2))
    assert caplog.text.count("no CUDA graph") == 1


@torch.no_grad()
def test_recordings_are_given_up_where_memory_runs_out(network: LiveNet) -> None:
    record = Recorder()
    runtime = Recorded(network, torch.float32, record)
    runtime(inputs(1))
    record.error = torch.cuda.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.cuda.OutOfMemoryError):
        runtime(inputs(16))
    record.error = None
    runtime(inputs(1))
    assert record.shapes == [(1, 2, 16, 20)] * 2
    assert record.pools == [None, None]


@torch.no_grad()
def test_the_number_of_recordings_is_bounded(network: LiveNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_MOST_RECORDINGS", 2)
    record = Recorder()
    runtime = Recorded(network, torch.float32, record)
    for n in (1, 2, 3, 3, 1):
        assert torch.allclose(runtime(inputs(n)), network.maps(inputs(n)), atol=1e-4)
    assert len(record.shapes) == 2


@torch.no_grad()
def test_a_bead_overflows_half_precision_nowhere(network: LiveNet) -> None:
    frame = torch.full((1, 24, 24), 10.0)
    frame[:, 8:, 8:] = 1e6
    x, half = network.scaled(frame), gpu.in_precision(network, torch.float16)
    assert not half.maps(x.half()).isfinite().all()
    assert Recorded(network, torch.float16, Recorder())(x).isfinite().all()


def test_disagreement_is_told(network: LiveNet) -> None:
    assert disagreement(network, Recorded(network, torch.float32, Recorder())) < 1e-4
    assert disagreement(network, lambda x: network.maps(0.7 * x)) > gpu.TOLERANCE
    assert math.isnan(disagreement(network, lambda x: network.maps(x) * torch.nan))
    assert network.runtime is None


def test_the_first_precision_that_agrees_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {torch.bfloat16: 0.02, torch.float16: 0.003}
    monkeypatch.setattr(gpu, "disagreement", lambda _, runtime: told[runtime._precision])
    networks = [LiveNet(width=4), LiveNet(width=4)]
    side = networks[0].portion.side_px
    assert accelerate_gpu(networks) == TORCH_BF16
    assert all(isinstance(network.runtime, Recorded) for network in networks)
    assert networks[0].portion.side_px == 4 * side
    told[torch.bfloat16] = float("nan")
    assert accelerate_gpu(networks) == TORCH_FP16
    told[torch.float16] = 1.0
    assert accelerate_gpu(networks) == TORCH
    assert accelerate_gpu([]) == TORCH
