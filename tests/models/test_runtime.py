"""Every runtime gives what plain PyTorch gives, and the choice between them is made once."""

import copy
import json
from pathlib import Path

import pytest
import torch

from stormlive_models import runtime
from stormlive_models.evaluate import score
from stormlive_models.localize import localize
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.runtime import OPENVINO, RUNTIMES, TORCH, TORCH_BF16, accelerate
from stormlive_models.training.data import sample_batch
from stormlive_models.training.recipe import DataSettings
from stormlive_models.training.validation import validation_settings
from stormlive_models.zoo import DEFAULT, open_model
from stormlive_sim.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    monkeypatch.delenv(runtime.VARIABLE, raising=False)
    return tmp_path / "cache" / "runtimes.json"


def shipped() -> LiveNet:
    network = open_model(DEFAULT, CPU).network
    assert isinstance(network, LiveNet)
    return network


@pytest.mark.parametrize("name", [TORCH_BF16, OPENVINO])
@pytest.mark.parametrize("shape", [(3, 33, 50), (1, 64, 64)])
def test_a_runtime_gives_the_maps_of_plain_pytorch(name: str, shape: tuple[int, int, int]) -> None:
    plain, fast = shipped(), shipped()
    assert accelerate([fast], name) == name
    photons, _ = sample_batch(validation_settings(DataSettings(), 3.0), shape[0], torch.Generator().manual_seed(1))
    photons = photons[:, : shape[1], : shape[2]]
    with torch.no_grad():
        expected, got = plain(photons), fast(photons)
    sure = expected.logit > 0
    assert sure.sum() > 30
    # bfloat16 has 8 bits.
    assert (got.logit - expected.logit).abs().mean() < 0.1
    assert (got.x_px - expected.x_px)[sure].abs().median() < 0.005
    assert (got.log_photons - expected.log_photons)[sure].abs().median() < 0.02


@pytest.mark.parametrize("name", [TORCH_BF16, OPENVINO])
def test_the_network_of_2018_runs_on_all(name: str) -> None:
    torch.manual_seed(0)
    plain = DeepStorm().eval()
    for layer in plain.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    fast = copy.deepcopy(plain)
    assert accelerate([fast], name) == name
    photons, _ = sample_batch(validation_settings(DataSettings(), 3.0), 2, torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected, got = plain(photons[:, :19, :21]), fast(photons[:, :19, :21])
    assert expected.std() > 0
    assert (got - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("name", [TORCH_BF16, OPENVINO])
def test_less_precision_finds_no_fewer_emitters(name: str) -> None:
    photons, truth = sample_batch(validation_settings(DataSettings(), 3.0), 8, torch.Generator().manual_seed(2))
    plain, fast = shipped(), shipped()
    accelerate([fast], name)
    before, after = (score(localize(network, photons, 100.0), truth, 100.0) for network in (plain, fast))
    assert after.jaccard > before.jaccard - 0.01
    assert after.rmse_nm < before.rmse_nm + 0.3


def test_the_fastest_is_found_once_and_remembered(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = LiveNet(width=4)
    times = {TORCH: 1.0, TORCH_BF16: 0.95, OPENVINO: 0.3}
    monkeypatch.setattr(runtime, "time_runtimes", lambda _: times)
    assert accelerate([network]) == OPENVINO
    assert OPENVINO in json.loads(own_cache.read_text()).values()
    times.clear()
    assert accelerate([network]) == OPENVINO
    own_cache.write_text("no json")
    times.update({TORCH: 1.0, TORCH_BF16: 0.95})
    # A gain of a twentieth is not worth the precision.
    assert accelerate([network]) == TORCH
    assert network.runtime is None


def test_what_does_not_work_here_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_openvino(_: LiveNet) -> None:
        raise ImportError("No module named 'openvino'")

    monkeypatch.setattr(runtime, "_OpenVino", no_openvino)
    network = LiveNet(width=4)
    assert set(runtime.time_runtimes(network, side=16)) == {TORCH, TORCH_BF16}
    with pytest.raises(InputError, match="pip install"):
        accelerate([network], OPENVINO)
    with pytest.raises(InputError, match="torch, torch-bf16, openvino, got 'tensorflow'"):
        accelerate([network], "tensorflow")


@pytest.mark.parametrize("error", [ImportError("gone"), RuntimeError("broken")])
def test_what_was_remembered_and_has_broken_since_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    network = LiveNet(width=4)
    monkeypatch.setattr(runtime, "time_runtimes", lambda _: {TORCH: 1.0, OPENVINO: 0.3})
    assert accelerate([network]) == OPENVINO

    def broken(_: LiveNet) -> None:
        raise error

    monkeypatch.setattr(runtime, "_OpenVino", broken)
    assert accelerate([network]) == TORCH
    assert network.runtime is None


def test_the_environment_may_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.VARIABLE, TORCH_BF16)
    assert accelerate([LiveNet(width=4)]) == TORCH_BF16
    assert accelerate([LiveNet(width=4)], TORCH) == TORCH
    assert accelerate([]) == TORCH


def test_all_runtimes_are_timed_where_they_work() -> None:
    times = runtime.time_runtimes(LiveNet(width=4), side=16)
    assert set(times) == set(RUNTIMES)
    assert all(seconds > 0 for seconds in times.values())
