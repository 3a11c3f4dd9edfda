"""The engine on a GPU: whether its picture is that of the CPU in float32, then how fast it is made.

Needs PyTorch, numpy, scipy, safetensors and rich; `benchmarks/gpu.sh` is the call that does this and runs the tests.
Frames of 3 emitters/µm² go from the camera's counts to the canvas; the network alone gets what is scaled and lies on
the GPU. Turns of all sizes are interleaved, medians taken. Exit status 1 when the picture is wrong, or short of the
aims for one card of a data centre.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from _bare import Weights, movie, open_canvas, open_weights
from _report import report
from numpy.typing import NDArray

from stormlive.output.tables import Rows
from stormlive.server.devices import select_devices
from stormlive.server.reconstruction import Reconstruction
from stormlive_models.evaluate import score
from stormlive_models.gpu import PRECISIONS, Recorded, accelerate_gpu, disagreement
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.peak import finish, network_macs, peak_macs_per_s
from stormlive_models.runtime import TORCH
from stormlive_sim.emitters import Emitters

_CPU = torch.device("cpu")
_AIMS = {512: 1500.0, 2048: 100.0}
_AIM_P99_MS = 10.0
_LIVE_SIDE, _LIVE_FPS = 512, 100.0
_BUCKETS = (1, 2, 4, 8, 16)
_MOST_PIXELS = 2**26
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="livenet")
    parser.add_argument("--device", default="cuda", help="as of stormlive serve: cuda is all GPUs")
    parser.add_argument("--sides", default="512,1024,2048", metavar="A,B,…")
    parser.add_argument("--frames", type=int, default=64, help="at most that are given at once")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the live stream")
    options = parser.parse_args()
    devices = select_devices(options.device)
    weights = [open_weights(options.model, device) for device in devices]
    runtime = TORCH
    for one in weights if devices[0].type == "cuda" else ():
        runtime = accelerate_gpu([one.network])
    wrong, checks = check(options.model, weights)
    print(f"{named(devices)}, {runtime}: {checks}", flush=True)
    peaks = peaks_of(runtime, devices[0])
    rows = speeds([int(side) for side in options.sides.split(",")], weights, peaks, options)
    live = live_latency(weights, _LIVE_SIDE if devices[0].type == "cuda" else 32, options.seconds)
    notes = {
        "device": named(devices),
        "model": options.model,
        "runtime": runtime,
        "correctness": checks,
        "peaks": peaks,
        "precisions": precisions(options.model, devices[0]),
        f"live at {_LIVE_FPS:g} frames/s": live,
        "aims": {"frames/s": _AIMS, "latency p99, ms": _AIM_P99_MS},
    }
    report("gpu", rows, notes)
    short = shortcomings(rows, live) if devices[0].type == "cuda" else []
    if wrong or short:
        sys.exit("; ".join([*(f"wrong: {what}" for what in wrong), *(f"short of the aim: {what}" for what in short)]))


def shortcomings(rows: Sequence[Row], live: dict[str, float]) -> list[str]:
    """Return which aims are not reached."""
    short = [
        f"{row['side']}²: {row['frames/s']:.0f} of {_AIMS[row['side']]:.0f} frames/s"
        for row in rows
        if row["frames/s"] < _AIMS.get(row["side"], 0)
    ]
    late = live["p99 ms"] > _AIM_P99_MS
    return [*short, f"live: {live['p99 ms']:.1f} ms, aim {_AIM_P99_MS:g} ms"] if late else short


def named(devices: Sequence[torch.device]) -> str:
    """Return the devices' names."""
    on_gpu = devices[0].type == "cuda"
    names = [
        torch.cuda.get_device_name(one) if on_gpu else f"CPU, {torch.get_num_threads()} threads" for one in devices
    ]
    return " + ".join(names)


def check(model: str, weights: Sequence[Weights], side: int = 128, n: int = 31) -> tuple[list[str], dict[str, float]]:
    """Return what is wrong with the picture beside that of the CPU in float32, and by how much it differs.

    n = 16 + 8 + 4 + 2 + 1 frames go through every bucket.
    """
    adu, truth = movie(side, n)
    expected, expected_rows = _reconstructed(open_canvas([open_weights(model, _CPU)], adu.shape[1:]), adu)
    got, rows = _reconstructed(open_canvas(weights, adu.shape[1:]), adu)
    networks = [one.network for one in weights]
    kept = [(network.portion.side_px, network.portion.frames) for network in networks]
    for network in networks:
        network.portion.side_px, network.portion.frames = side // 2 - side // 2 % 8, 1
    tiled, _ = _reconstructed(open_canvas(weights, adu.shape[1:]), adu)
    for network, (side_px, frames) in zip(networks, kept, strict=True):
        network.portion.side_px, network.portion.frames = side_px, frames
    light = float(expected.sum(dtype=np.float64))
    found = {
        "J, CPU float32": score(emitters(expected_rows), truth, 100.0).jaccard,
        "J": score(emitters(rows), truth, 100.0).jaccard,
        "light": float(got.sum(dtype=np.float64)) / light,
        "difference of the picture": float(np.abs(got - expected).sum(dtype=np.float64)) / light,
        "difference of its tiles": float(np.abs(got - tiled).sum(dtype=np.float64)) / light,
    }
    wrong = []
    if not found["J"] > found["J, CPU float32"] - 0.01:
        wrong.append(f"J is {found['J']:.4f}, on the CPU {found['J, CPU float32']:.4f}")
    for name, most in (("difference of the picture", 0.1), ("difference of its tiles", 0.1)):
        if not found[name] < most:
            wrong.append(f"{name}: {found[name]:.3g}")
    if not abs(found["light"] - 1) < 0.01:
        wrong.append(f"{found['light']:.3f} times the light")
    return wrong, found


def emitters(rows: Rows) -> Emitters:
    """Return the emitters of a table."""
    names = ("x_nm", "y_nm", "photons")
    columns = {name: torch.from_numpy(rows[name].astype(np.float32)) for name in names}
    return Emitters(frame=torch.from_numpy(rows["frame"].astype(np.int64)), **columns)


def _reconstructed(canvas: Reconstruction, adu: NDArray[np.uint16]) -> tuple[NDArray[np.float32], Rows]:
    tables: list[Rows] = []
    canvas.add(adu, tables.append)
    return canvas.canvas(), np.concatenate(tables)


def peaks_of(runtime: str, device: torch.device) -> dict[str, float]:
    """Return what the device can do at most: matrix products, convolutions, copies in its memory."""
    on_gpu = device.type == "cuda"
    n = 8192 if on_gpu else 256
    a, b = (torch.randn(n, n, device=device, dtype=PRECISIONS.get(runtime, torch.float32)) for _ in range(2))
    block = torch.empty(2**30 if on_gpu else 2**20, dtype=torch.uint8, device=device)
    other = torch.empty_like(block)
    return {
        "matrix products, TMAC/s": n**3 / _quickest(lambda: a @ b, device) / 1e12,
        "convolutions, TMAC/s": peak_macs_per_s(runtime, device) / 1e12,
        "memory, TB/s": 2 * block.nbytes / _quickest(lambda: other.copy_(block), device) / 1e12,
    }


def _seconds(work: Callable[[], object], devices: Sequence[torch.device]) -> float:
    for device in devices:
        finish(device)
    began = time.perf_counter()
    work()
    for device in devices:
        finish(device)
    return time.perf_counter() - began


def _quickest(work: Callable[[], object], device: torch.device, turns: int = 7) -> float:
    work()
    return min(_seconds(work, [device]) for _ in range(turns))


def precisions(model: str, device: torch.device) -> list[Row]:
    """Return, for each precision, how far its picture is from float32, and what the network alone takes."""
    network, side, n = open_weights(model, device).network, 512 if device.type == "cuda" else 32, 16
    x = scaled(network, side, n, device)
    rows = []
    for name, precision in {TORCH: torch.float32, **PRECISIONS}.items():
        runtime = Recorded(network, precision)
        with torch.no_grad():
            seconds = _quickest(lambda runtime=runtime: runtime(x), device)
        rows.append({"precision": name, "difference": disagreement(network, runtime), "ms/frame": 1000 * seconds / n})
    return rows


@torch.no_grad()
def scaled(network: LiveNet, side: int, n: int, device: torch.device) -> torch.Tensor:
    """Return the network's input for n frames, on the device."""
    adu, _ = movie(side, 1)
    return network.scaled(((torch.from_numpy(adu).float() - 100) * 0.5).to(device)).repeat(n, 1, 1, 1)


def speeds(
    sides: Sequence[int], weights: Sequence[Weights], peaks: dict[str, float], options: argparse.Namespace
) -> list[Row]:
    """Return a row for each size of frames."""
    devices = [next(one.network.parameters()).device for one in weights]
    network, first = weights[0].network, devices[0]
    works: dict[tuple[int, str], tuple[int, Callable[[], object]]] = {}
    memory: dict[int, float | None] = {}
    for side in sides:
        # A few different frames, again and again: to draw new ones would take longer than everything else.
        few, most = movie(side, 2)[0], max(1, min(options.frames, _MOST_PIXELS // side**2))
        adu = np.concatenate([np.roll(few, 7 * turn, 1) for turn in range(-(-most // 2))])[:most]
        if first.type == "cuda":
            torch.cuda.reset_peak_memory_stats(first)
        canvas = open_canvas(weights, (side, side))
        works[side, "whole"] = len(adu), lambda canvas=canvas, adu=adu: canvas.add(adu)
        works[side, "single"] = 1, lambda canvas=canvas, adu=adu: canvas.add(adu[:1])
        fits = [n for n in _BUCKETS if n * side**2 <= 2**22 or n == 1]
        for n in fits:
            x, run = scaled(network, side, n, first), network.runtime or network.maps
            works[side, f"network, {n} at once"] = n, lambda run=run, x=x: run(x)
        photons = (torch.from_numpy(few[:1]).float() - 100).to(first) * 0.5
        works[side, "scaling"] = 1, lambda photons=photons: network.scaled(photons)
        with torch.no_grad():
            tiles, grid = list(network.tiles(photons)), torch.zeros(8 * side, 8 * side, device=first)
        works[side, "drawing"] = 1, lambda tiles=tiles, grid=grid: [network.render(tile, grid) for tile in tiles]
        _seconds(works[side, "whole"][1], devices)
        memory[side] = torch.cuda.max_memory_allocated(first) / 2**30 if first.type == "cuda" else None
    times: dict[tuple[int, str], list[float]] = {what: [] for what in works}
    with torch.no_grad():
        for turn in range(options.rounds + 1):
            for what, (n, work) in works.items():
                seconds = _seconds(work, devices) / n
                if turn:  # the first is for warming up
                    times[what].append(seconds)
    rows = []
    for side in sides:
        medians = {what: statistics.median(taken) for (of, what), taken in times.items() if of == side}
        network_s, how = min((s, what) for what, s in medians.items() if what.startswith("network"))
        whole, tmacs_per_s = times[side, "whole"], network_macs(network) * (side / 64) ** 2 / network_s / 1e12
        rows.append(
            {
                "side": side,
                "frames/s": 1 / medians["whole"],
                "slowest": 1 / max(whole),
                "quickest": 1 / min(whole),
                "frames at once": works[side, "whole"][0],
                "network alone, frames/s": 1 / network_s,
                "best of": how.removeprefix("network, "),
                "of convolutions' peak": tmacs_per_s / peaks["convolutions, TMAC/s"],
                "of matrix products' peak": tmacs_per_s / peaks["matrix products, TMAC/s"],
                "one frame, ms": 1000 * medians["single"],
                "scaling ms": 1000 * medians["scaling"],
                "drawing ms": 1000 * medians["drawing"],
                "memory GiB": memory[side],
            }
        )
    return rows


def live_latency(weights: Sequence[Weights], side: int, seconds: float, fps: float = _LIVE_FPS) -> dict[str, float]:
    """Return the latency from arrival to canvas of frames that come as a camera's do; what waits goes together."""
    devices = [next(one.network.parameters()).device for one in weights]
    few, canvas = movie(side, 2)[0], open_canvas(weights, (side, side))
    for n in _BUCKETS:
        canvas.add(np.resize(few, (n, side, side)))
    latencies: list[float] = []
    began = time.perf_counter()
    while (done := len(latencies)) < max(1, round(fps * seconds)):
        waited = (time.perf_counter() - began) * fps - done
        if waited < 0:
            time.sleep(-waited / fps)
            continue
        n = int(waited) + 1
        adu = few[np.arange(done, done + n) % 2]
        _seconds(lambda adu=adu: canvas.add(adu), devices)
        now = time.perf_counter() - began
        latencies += [now - number / fps for number in range(done, done + n)]
    p50, p99 = np.percentile(latencies, [50, 99])
    return {"side": side, "frames": len(latencies), "p50 ms": 1000 * float(p50), "p99 ms": 1000 * float(p99)}


if __name__ == "__main__":
    main()
