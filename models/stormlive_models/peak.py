"""What a processor can do at most with convolutions, and what a network asks of it."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from stormlive_models.networks.convolutions import Convolutions
from stormlive_models.runtime import Network, accelerate

_SIDE, _FRAMES, _ROUNDS = 64, 4, 9


@torch.no_grad()
def peak_macs_per_s(runtime: str) -> float:
    """Return the multiply-adds per second of 3x3 convolutions on the CPU by a runtime: the best of several turns."""
    network = Convolutions().eval()
    accelerate([network], runtime)
    run = network.runtime or network.maps
    x = torch.randn(_FRAMES, *network.input_shape(_SIDE, _SIDE))
    run(x)
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - began)
    return _FRAMES * network_macs(network, _SIDE, _SIDE) / min(times)


@torch.no_grad()
def network_macs(network: Network, height: int = 64, width: int = 64) -> int:
    """Return the multiply-adds of a network's convolutions for a frame (Y, X) whose sides are multiples of 8."""
    macs = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal macs
        weight = layer.get_parameter("weight")
        macs += weight.numel() * output.shape[2] * output.shape[3]

    hooks = [layer.register_forward_hook(count) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    device = next(network.parameters()).device
    network.maps(torch.zeros(1, *network.input_shape(height, width), device=device))
    for hook in hooks:
        hook.remove()
    return macs


def median_seconds(work: Callable[[], object], seconds: float, least: int = 3) -> tuple[float, float]:
    """Return the median and the 99th percentile of a call's time: called for `seconds`, and `least` times anyway."""
    work()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < least or time.perf_counter() - started < seconds:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    times.sort()
    return statistics.median(times), times[min(len(times) - 1, int(0.99 * len(times)))]
