"""What a processor can do at most with convolutions, and what a network asks of it."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from stormlive_models.gpu import PRECISIONS, Recorded
from stormlive_models.networks.convolutions import Convolutions
from stormlive_models.runtime import Network, accelerate

_SIDE, _ROUNDS = 64, 5
_FRAMES = {"cpu": 4, "cuda": 64}


class Peak:
    """How fast a device is at 3x3 convolutions by a runtime, at best; measured again and again, for it may be busy.

    Attributes
    ----------
    macs_per_s : float
        Multiply-adds per second, the best of all turns so far; 0 before the first.
    """

    @torch.no_grad()
    def __init__(self, runtime: str, device: torch.device) -> None:
        network, frames = Convolutions().eval().to(device), _FRAMES[device.type]
        if device.type == "cpu":
            accelerate([network], runtime)
        else:
            network.runtime = Recorded(network, PRECISIONS.get(runtime, torch.float32))
        self._run = network.runtime or network.maps
        self._device = device
        self._x = torch.randn(frames, *network.input_shape(_SIDE, _SIDE), device=device)
        self._macs = frames * network_macs(network, _SIDE, _SIDE)
        self.macs_per_s = 0.0
        self._turn()

    @torch.no_grad()
    def measure(self) -> None:
        """Take some turns."""
        self.macs_per_s = max(self.macs_per_s, self._macs / min(self._turn() for _ in range(_ROUNDS)))

    @torch.no_grad()
    def _turn(self) -> float:
        began = time.perf_counter()
        self._run(self._x)
        finish(self._device)
        return time.perf_counter() - began


def peak_macs_per_s(runtime: str, device: torch.device) -> float:
    """Return the multiply-adds per second of 3x3 convolutions on a device by a runtime: the best of several turns."""
    peak = Peak(runtime, device)
    for _ in range(2):
        peak.measure()
    return peak.macs_per_s


def finish(device: torch.device) -> None:
    """Wait until a device has done the work that this thread gave to it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
