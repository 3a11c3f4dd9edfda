"""What runs a network's convolutions on a GPU: half precision where that agrees, each shape's kernels recorded once.

To start the kernels one by one takes Python longer than a GPU needs for a small frame; a CUDA graph starts all of them.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.runtime import TORCH, TORCH_BF16, Maps, Network, in_precision
from stormlive_sim.psf import render_gaussians

_log = logging.getLogger(__name__)

TORCH_FP16 = "torch-fp16"
# bfloat16 first: it has the range of float32, so that no bead overflows it.
PRECISIONS = {TORCH_BF16: torch.bfloat16, TORCH_FP16: torch.float16}
TOLERANCE = 0.1
_MOST = {torch.float16: 2000.0}
"""Greatest scaled input that overflows nothing on its way; no emitter is so bright, only what is not one."""
_SIDE, _BEAD = 64, 1e6
_TILES_WIDER = 4
"""A GPU has the memory for tiles of so many times the side that a CPU's have; what is too much is found out."""
_MOST_RECORDINGS = 64
_WARM_UPS = 3
# A process makes one recording at a time, whatever number of GPUs it has.
_recording = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Kernels that compute `output` of `input` whenever they are replayed; both stay where they are."""

    input: Tensor
    output: Tensor
    replay: Callable[[], None]
    pool: object = None


Record: TypeAlias = Callable[[Maps, Tensor, object], Recording]


def accelerate_gpu(networks: Sequence[LiveNet | DeepStorm]) -> str:
    """Have networks on one GPU computed in the first of `PRECISIONS` that agrees with float32, and return its name."""
    for name, precision in PRECISIONS.items():
        if not networks or not _has(precision, _device(networks[0])):
            continue
        runtimes = [Recorded(network, precision) for network in networks]
        worst = max(map(disagreement, networks, runtimes))
        if worst <= TOLERANCE:
            break
        _log.warning("%s is left out: its pictures differ from those of float32 by %.3g of their light", name, worst)
    else:
        name, runtimes = TORCH, [Recorded(network, torch.float32) for network in networks]
    for network, runtime in zip(networks, runtimes, strict=True):
        network.runtime = runtime
        network.portion.side_px *= _TILES_WIDER
    return name


class Recorded:
    """A network's maps in a precision; the kernels for each shape of frames are recorded when it first comes.

    Parameters
    ----------
    network : LiveNet, DeepStorm or Convolutions
        It is copied.
    precision : torch.dtype
    record : callable, optional
        Makes a `Recording` of maps for an input, in the memory of another recording's pool.
    """

    def __init__(self, network: Network, precision: torch.dtype, record: Record | None = None) -> None:
        self._network = in_precision(network, precision)
        for layer in self._network.modules():
            if isinstance(layer, nn.ELU):
                # Nothing is learnt of this copy: half of the memory, and what was just written is still near.
                layer.inplace = True
        self._precision = precision
        self._most = _MOST.get(precision)
        self._record = record or _record
        self._recordings: dict[torch.Size, Recording | None] = {}
        self._pool: object = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the maps, float32, of scaled input (B, C, Y, X)."""
        try:
            return self._maps(x)
        except torch.cuda.OutOfMemoryError:
            # Smaller parts will come: what these took is needed for them.
            self._recordings.clear()
            self._pool = None
            raise

    def _maps(self, x: Tensor) -> Tensor:
        if self._most is not None:
            x = x.clamp(-self._most, self._most)
        if x.shape not in self._recordings and len(self._recordings) < _MOST_RECORDINGS:
            self._recordings[x.shape] = self._recorded(x)
        recording = self._recordings.get(x.shape)
        if recording is None:
            maps = self._network.maps(x.to(self._precision))
        else:
            recording.input.copy_(x)
            recording.replay()
            maps = recording.output
        # A copy: the next frames take the same memory.
        return maps.to(torch.float32, memory_format=torch.contiguous_format, copy=True)

    def _recorded(self, x: Tensor) -> Recording | None:
        """Return a recording for input of such a shape; None where there can be none."""
        place = torch.empty_like(x, dtype=self._precision, memory_format=torch.channels_last).copy_(x)
        try:
            with _recording:
                recording = self._record(self._network.maps, place, self._pool)
        except torch.cuda.OutOfMemoryError:
            raise
        # Whatever a driver refuses: the same kernels run one by one.
        except Exception as error:
            _log.warning("no CUDA graph for %s, the network runs without: %s", tuple(x.shape), error)
            return None
        self._pool = recording.pool
        return recording


@torch.no_grad()
def disagreement(network: LiveNet | DeepStorm, runtime: Maps) -> float:
    """Return by how much of its light a picture of simulated frames differs between a runtime and the network itself.

    NaN where beads, as bright as no camera can show them, are too much for it.
    """
    device, kept = _device(network), network.runtime
    frames, sides = _trial(network.pixel_size_nm).to(device), [_SIDE * network.upsampling] * 2
    bright = torch.full((1, _SIDE, _SIDE), 10.0, device=device)
    bright[:, : _SIDE // 2 : 9, ::9] = bright[:, _SIDE // 2 :, _SIDE // 2 :] = _BEAD
    plain, fast, nothing = (torch.zeros(*sides, device=device) for _ in range(3))
    finite = []

    def watched(x: Tensor) -> Tensor:
        maps = runtime(x)
        finite.append(bool(maps.isfinite().all()))
        return maps

    try:
        network.runtime = None
        network.add_increment(frames, plain)
        network.runtime = watched
        network.add_increment(frames, fast)
        network.add_increment(bright, nothing)
    finally:
        network.runtime = kept
    return float((fast - plain).abs().sum() / plain.abs().sum()) if all(finite) else float("nan")


def _trial(pixel_size_nm: float) -> Tensor:
    """Return simulated frames, photons (8, 64, 64): a background of 10 and 80 emitters of 1000 in each."""
    generator = torch.Generator().manual_seed(0)
    n, each = 8, 80
    x, y = torch.rand(2, n * each, generator=generator) * _SIDE
    frames, photons = torch.full((n, _SIDE, _SIDE), 10.0), torch.full((n * each,), 1000.0)
    render_gaussians(frames, torch.arange(n * each) % n, x, y, photons, torch.tensor(115 / pixel_size_nm), radius=5)
    return torch.poisson(frames, generator)


def _record(maps: Maps, place: Tensor, pool: object) -> Recording:
    """Return a CUDA graph of maps, which computes them of whatever lies in `place`."""
    here, tuned = torch.cuda.current_stream(place.device), torch.backends.cudnn.benchmark
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(place.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(here)
    # Sizes are the same from now on: it pays to try which algorithm is the fastest for them.
    torch.backends.cudnn.benchmark = True
    try:
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                maps(place)
        # Other threads may go on with theirs meanwhile.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):  # type: ignore[arg-type]
            output = maps(place)
    finally:
        torch.backends.cudnn.benchmark = tuned
        here.wait_stream(stream)
    return Recording(input=place, output=output, replay=graph.replay, pool=graph.pool())


def _has(precision: torch.dtype, device: torch.device) -> bool:
    """Return whether a device computes in a precision itself."""
    return precision != torch.bfloat16 or device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def _device(network: Network) -> torch.device:
    return next(network.parameters()).device
