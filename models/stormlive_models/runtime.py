"""What runs a network's convolutions on a CPU: plain PyTorch, PyTorch in bfloat16, or OpenVINO, whichever is fastest.

All give the same emitters: what differs is rounding (see `docs/decisions/0007-cpu-runtimes.md` for its size).
"""

import copy
import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stormlive_models.networks.convolutions import Convolutions
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.networks.livenet import LiveNet
from stormlive_sim.atomic import whole_file
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from openvino import Node

_log = logging.getLogger(__name__)

Network: TypeAlias = LiveNet | DeepStorm | Convolutions
Maps: TypeAlias = Callable[[Tensor], Tensor]

TORCH, TORCH_BF16, OPENVINO = RUNTIMES = ("torch", "torch-bf16", "openvino")
AUTO = "auto"
# The choice of a test or of a batch job, where there is no command line.
VARIABLE = "STORMLIVE_RUNTIME"
# Pixels of a network's input that are timed at once, how often and how long, and what a gain must be worth to give up
# PyTorch's full precision for it.
_PIXELS, _ROUNDS, _SECONDS, _GAIN = 2**14, 9, 1.0, 1.1


def accelerate(networks: Sequence[Network], wish: str = AUTO) -> str:
    """Have networks on the CPU computed by the runtime asked for, or by the fastest, and return its name.

    Parameters
    ----------
    networks : sequence of LiveNet, DeepStorm or Convolutions
        All of one size; the first is timed.
    wish : str
        One of `RUNTIMES`, or ``auto``: what the environment variable STORMLIVE_RUNTIME says, else what was fastest on
        this machine when it was last timed, else what a timing of about a second finds.

    Raises
    ------
    InputError
        When there is no such runtime, or not on this machine.
    """
    wish = os.environ.get(VARIABLE, AUTO) if wish == AUTO else wish
    if wish not in (AUTO, *RUNTIMES):
        raise InputError(f"expected a CPU runtime of {', '.join((AUTO, *RUNTIMES))}, got {wish!r}")
    if not networks:
        return TORCH
    name = _fastest(networks[0]) if wish == AUTO else wish
    try:
        runtimes = [_build(name, network) for network in networks]
    # Whatever a library fails with that nobody asked for: what was remembered may have broken since.
    except Exception as error:
        if wish == AUTO:
            _log.warning("%s does not work here any more, PyTorch is used: %s", name, error)
            return accelerate(networks, TORCH)
        if not isinstance(error, ImportError):
            raise
        raise InputError(f"OpenVINO is not installed ({error}): pip install 'stormlive[openvino]'") from error
    for network, runtime in zip(networks, runtimes, strict=True):
        network.runtime = runtime
    return name


def time_runtimes(network: Network, side: int = 64) -> dict[str, float]:
    """Return seconds per frame of `side` x `side` pixels of each runtime that works here: medians of turns."""
    shape = network.input_shape(side, side)
    frames = max(1, _PIXELS // (shape[1] * shape[2]))
    x = torch.randn(frames, *shape, generator=torch.Generator().manual_seed(0))
    works: dict[str, Maps] = {}
    for name in RUNTIMES:
        try:
            works[name] = _build(name, network) or network.maps
            with torch.no_grad():
                works[name](x)
        # Whatever a library that is not needed fails with: it is not used then.
        except Exception as error:
            if not isinstance(error, ImportError):
                _log.warning("%s does not work here and is left out: %s", name, error)
            works.pop(name, None)
    times: dict[str, list[float]] = {name: [] for name in works}
    started = time.perf_counter()
    with torch.no_grad():
        for _ in range(_ROUNDS):
            for name, maps in works.items():
                began = time.perf_counter()
                maps(x)
                times[name].append((time.perf_counter() - began) / frames)
            if time.perf_counter() - started > _SECONDS:
                break
    return {name: statistics.median(taken) for name, taken in times.items()}


def _fastest(network: Network) -> str:
    """Return what was fastest when it was last timed under the same circumstances, or time it."""
    from platformdirs import user_cache_path

    path = user_cache_path("stormlive", appauthor=False) / "runtimes.json"
    key = _circumstances(network)
    known: dict[str, str] = {}
    with suppress(OSError, ValueError):
        read = json.loads(path.read_text(encoding="utf-8"))
        known = read if isinstance(read, dict) else {}
    if known.get(key) in RUNTIMES:
        return known[key]
    times = time_runtimes(network)
    name = min(times, key=lambda runtime: times[runtime] * (_GAIN if runtime != TORCH else 1))
    _log.info("ms per 64x64 frame: %s; taken: %s", {k: round(1000 * v, 2) for k, v in times.items()}, name)
    # Without a cache every start takes the second again.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_text(json.dumps({**known, key: name}, indent=1), encoding="utf-8")
    return name


def _circumstances(network: Network) -> str:
    """Return what the fastest runtime may depend on."""
    try:
        openvino = metadata.version("openvino")
    except metadata.PackageNotFoundError:
        openvino = "none"
    size = f"{type(network).__name__} {sum(value.numel() for value in network.parameters())}"
    machine = f"{platform.node()} {platform.machine()} {platform.processor()}"
    return f"{machine}, torch {torch.__version__}, openvino {openvino}, {torch.get_num_threads()} threads, {size}"


def _build(name: str, network: Network) -> Maps | None:
    """Return what computes a network's maps in place of `network.maps`; None for that itself."""
    if name == TORCH_BF16:
        return _Bfloat16(network)
    return _OpenVino(network) if name == OPENVINO else None


def in_precision(network: Network, precision: torch.dtype) -> Network:
    """Return a copy of a network in another precision."""
    # What another runtime holds cannot be copied, and need not be.
    kept, network.runtime = network.runtime, None
    try:
        return copy.deepcopy(network).to(precision)
    finally:
        network.runtime = kept


class _Bfloat16:
    """A copy of the network in bfloat16."""

    def __init__(self, network: Network) -> None:
        self._network = in_precision(network, torch.bfloat16)

    def __call__(self, x: Tensor) -> Tensor:
        return self._network.maps(x.to(torch.bfloat16)).float()


class _OpenVino:
    """The network as OpenVINO compiles it, in bfloat16 where the processor has it.

    The graph is built by hand: OpenVINO's own conversion of PyTorch modules reports home unless it is told not to.
    """

    def __init__(self, network: Network) -> None:
        import openvino
        from openvino import opset13

        self._tensor = openvino.Tensor
        channels = next(network.parameters()).shape[1]
        x = opset13.parameter([-1, channels, -1, -1], np.float32)
        graph = _livenet_graph(network, x) if isinstance(network, LiveNet) else _layers(x, network.layers)
        model = openvino.Model([graph], [x], type(network).__name__)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Others need the processor too: the acquisition, the viewer.
            "ENABLE_CPU_PINNING": False,
        }
        self._request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, x: Tensor) -> Tensor:
        self._request.set_input_tensor(self._tensor(np.ascontiguousarray(x.float().numpy())))
        self._request.infer()
        # A copy: the next frames take the same memory.
        return torch.from_numpy(np.array(self._request.get_output_tensor().data, np.float32))


def _livenet_graph(network: LiveNet, x: "Node") -> "Node":
    """Return OpenVINO's graph of `LiveNet.maps`."""
    from openvino import opset13 as op

    pool, double = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
    first = _layers(x, network.enter)
    second = _layers(_layers(first, pool), network.down)
    x = _layers(_layers(second, pool), network.bottom)
    x = op.concat([_layers(_layers(x, network.rise), double), second], 1)
    x = _layers(x, network.join)
    x = op.concat([_layers(_layers(x, network.rise_again), double), first], 1)
    return _layers(_layers(x, network.join_again), network.head)


def _layers(x: "Node", part: nn.Module) -> "Node":
    """Return OpenVINO's graph of layers after another."""
    from openvino import opset13 as op

    match part:
        case nn.Sequential():
            for layer in part:
                x = _layers(x, layer)
            return x
        case nn.Conv2d():
            margin = [side // 2 for side in part.kernel_size]
            x = op.convolution(x, _values(part.weight), [1, 1], margin, margin, [1, 1])
            return x if part.bias is None else op.add(x, _values(part.bias).reshape(1, -1, 1, 1))
        case nn.BatchNorm2d():
            norm = part.state_dict()
            scale = norm["weight"] / (norm["running_var"] + part.eps).sqrt()
            shift = norm["bias"] - norm["running_mean"] * scale
            x = op.multiply(x, _values(scale).reshape(1, -1, 1, 1))
            return op.add(x, _values(shift).reshape(1, -1, 1, 1))
        case nn.ELU():
            return op.elu(x, 1.0)
        case nn.ReLU():
            return op.relu(x)
        case nn.MaxPool2d():
            return op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
        case nn.Upsample():
            # As PyTorch's: each pixel becomes four.
            scales, axes = np.array([2.0, 2.0], np.float32), np.array([2, 3], np.int64)
            how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return op.interpolate(x, scales, "nearest", "scales", axes=axes, **how)
    raise TypeError(f"there is no OpenVINO graph for {type(part).__name__} here")


def _values(tensor: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.detach().float().numpy()
    return values
