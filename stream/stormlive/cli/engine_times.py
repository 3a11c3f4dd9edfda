"""How long the engine takes for frames of a size, and where the time goes: what ``stormlive bench`` tells."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stormlive.cli import options
from stormlive.server.engine import Engine
from stormlive.server.reconstruction import localizing_network
from stormlive.wire.calibration import Calibration
from stormlive_models.normalize import livenet_input
from stormlive_models.peak import Peak, finish, median_seconds, network_macs
from stormlive_models.zoo import CEL0, Model
from stormlive_sim.psf import render_gaussians
from stormlive_sim.sensor import scmos

# Emitters of 1000 photons per µm² and frame, over a background of 10 photons per pixel: a usual, rather dense frame.
_DENSITY, _PHOTONS, _BACKGROUND = 3.0, 1000.0, 10.0
# Emitters that are drawn at once: those of a large field would take more memory than its canvas.
_DRAWN = 2**14
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class EngineTimes:
    """What was measured for frames of side x side pixels; times in ms.

    Attributes
    ----------
    side : int
        Pixels.
    frames_per_s : float
        Of batches as large as the live engine forms them, camera ADU in, canvas out.
    latency_p50_ms, latency_p99_ms : float
        Of a single frame.
    scaling_ms, network_ms, rendering_ms, rest_ms : float
        Where the time of a frame in a batch goes; NaN for CEL0, which has no such parts.
    macs_per_s : float
        Multiply-adds per second of the network; NaN for a method or a network of which they are not known.
    """

    side: int
    frames_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float
    scaling_ms: float
    network_ms: float
    rendering_ms: float
    rest_ms: float
    macs_per_s: float


def dense_frames(side: int, n: int) -> NDArray[np.uint16]:
    """Return simulated frames of a camera of 100 nm, 100 ADU offset and 2 ADU per photon."""
    generator = torch.Generator().manual_seed(0)
    count = round(_DENSITY * (side / 10) ** 2) * n
    x, y = torch.rand(2, count, generator=generator) * side
    clean = torch.full((n, side, side), _BACKGROUND)
    frame, photons = torch.arange(count) % n, torch.full((count,), _PHOTONS)
    for first in range(0, count, _DRAWN):
        some = slice(first, first + _DRAWN)
        render_gaussians(clean, frame[some], x[some], y[some], photons[some], torch.tensor(1.15), radius=5)
    return scmos().expose(clean, generator).numpy().astype(np.uint16)


def _engine_times(engine: Engine, adu: NDArray[np.uint16], seconds: float) -> tuple[Model, float, float, float]:
    """Return the weights, and seconds for a frame of a batch, and for one alone: median and 99th percentile."""
    calibration = Calibration(
        pixel_size_nm=100,
        baseline_adu=options.DEFAULT_BASELINE_ADU,
        photons_per_adu=options.DEFAULT_PHOTONS_PER_ADU,
        exposure_ms=10,
    )
    reconstruction = engine.open(adu.shape[1:], calibration)

    def add(frames: NDArray[np.uint16]) -> None:
        reconstruction.add(frames)
        finish(engine.torch_device)

    p50, p99 = median_seconds(lambda: add(adu[:1]), seconds)
    batch = p50 if len(adu) == 1 else median_seconds(lambda: add(adu), seconds)[0] / len(adu)
    return reconstruction.model, batch, p50, p99


def measure(engine: Engine, side: int, seconds: float, peak: Peak) -> EngineTimes:
    """Measure an engine with frames of side x side pixels, each figure for `seconds` at least.

    The peak is measured before and after the network, so that what else the machine does slows both.

    Raises
    ------
    InputError
        When there is not enough memory for the canvas, or the model takes no pixels of 100 nm.
    """
    n = max(1, min(_BATCH, _BATCH * 64**2 // side**2)) if engine.torch_device.type == "cpu" else _BATCH
    adu = dense_frames(side, n)
    # Its canvas is gone when it returns: of a large field there is room for one.
    model, whole, p50, p99 = _engine_times(engine, adu, seconds)
    whole_ms, parts, macs_per_s = 1000 * whole, [float("nan")] * 3, float("nan")
    card = model.card
    if card.architecture == "livenet":
        network = localizing_network(model)
        photons = (torch.from_numpy(adu.astype(np.float32)).to(engine.torch_device) - 100) * 0.5

        def synchronized(work: object) -> object:
            finish(engine.torch_device)
            return work

        with torch.no_grad():
            tiles = list(network.tiles(photons))
            canvas = torch.zeros(side * network.upsampling, side * network.upsampling, device=engine.torch_device)
            scaling, _ = median_seconds(lambda: synchronized(livenet_input(photons)), seconds / 4)
            peak.measure()
            both, _ = median_seconds(lambda: synchronized([*network.tiles(photons)]), seconds / 2)
            peak.measure()
            rendering, _ = median_seconds(
                lambda: synchronized([network.render(tile, canvas) for tile in tiles]), seconds / 4
            )
        parts = [1000 * value / n for value in (scaling, max(0.0, both - scaling), rendering)]
        macs_per_s = network_macs(network) * (side / 64) ** 2 / (parts[1] / 1000)
    elif card.architecture != CEL0:
        parts = [0.0, whole_ms, 0.0]
    return EngineTimes(
        side=side,
        frames_per_s=1000 / whole_ms,
        latency_p50_ms=1000 * p50,
        latency_p99_ms=1000 * p99,
        scaling_ms=parts[0],
        network_ms=parts[1],
        rendering_ms=parts[2],
        rest_ms=max(0.0, whole_ms - sum(parts)),
        macs_per_s=macs_per_s,
    )
