"""How fast the networks reconstruct frames that are in memory: livenet and the original of 2018, side by side.

Rounds are interleaved and medians reported, since machines are shared; the ratio is the figure to trust. The original
has random weights, which cost the same. Speed of the whole path, camera to canvas, is hook_cost.py's subject.
"""

import argparse
import statistics
import time

import torch
from _report import report

from stormlive_models.checkpoint import load_model
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.zoo import DEFAULT, shipped


def seconds_per_frame(network: torch.nn.Module, photons: torch.Tensor, canvas: torch.Tensor) -> float:
    started = time.perf_counter()
    network.add_increment(photons, canvas)  # type: ignore[operator]
    if photons.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / len(photons)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    livenet, _ = load_model(shipped()[DEFAULT], device)
    original = DeepStorm().to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    networks = {"livenet": livenet, "Deep-STORM 2018": original}
    photons = torch.poisson(torch.full((options.batch, options.side, options.side), 20.0)).to(device)
    photons[:, ::9, ::7] += 200  # spots to render
    canvas = torch.zeros(options.side * 8, options.side * 8, device=device)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for round_number in range(options.rounds + 1):
        for name, network in networks.items():
            taken = seconds_per_frame(network, photons, canvas)
            if round_number:  # the first is for warming up
                times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = [
        {
            "network": name,
            "ms/frame": 1000 * median,
            "frames/s": 1 / median,
            "times faster than 2018": medians["Deep-STORM 2018"] / median,
        }
        for name, median in medians.items()
    ]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    suffix = "" if device.type == "cpu" else f"_{device.type}"
    report(f"engine{suffix}", rows, {"device": where, "side": options.side, "batch": options.batch})


if __name__ == "__main__":
    main()
