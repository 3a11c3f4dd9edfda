"""Both ways to a server on the same machine: throughput as a share of memcpy, and latency, in interleaved rounds.

The server is the product's with an engine that computes nothing, in a process of its own. Throughput counts from the
first frame's copy into the outbox to the last one's acknowledgement, and is compared with a plain memcpy of as many
frames in the same round. Latency is that of each frame, from the hook's call to the acknowledgement.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from _report import report
from _rig import null_server
from numpy.typing import NDArray

from stormlive.acquire.hook import StreamHook
from stormlive.acquire.outbox import Parcel
from stormlive.acquire.stock import Stock
from stormlive.wire.calibration import Calibration
from stormlive.wire.fields import Lane

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10)
LANES: tuple[Lane, ...] = ("tcp", "shm")
OUTBOX_MB = 256
PATIENCE_S = 60.0


def drawn(side: int) -> NDArray[np.uint16]:
    """Return frames (T, Y, X) that do not fit a processor's cache together."""
    n_frames = max(8, 32 * 2**20 // (2 * side**2))
    return np.random.default_rng(0).integers(90, 500, (n_frames, side, side)).astype(np.uint16)


def copy_rate(frames: NDArray[np.uint16], ring: NDArray[np.uint8], n: int) -> float:
    """Return how many frames per second memcpy moves into a ring as large as the outbox."""
    slots = ring[: ring.size // frames[0].nbytes * frames[0].nbytes].view(np.uint16).reshape(-1, *frames.shape[1:])
    began = time.perf_counter()
    for i in range(n):
        np.copyto(slots[i % len(slots)], frames[i % len(frames)])
    return n / (time.perf_counter() - began)


@contextmanager
def run(address: str, lane: Lane) -> Iterator[StreamHook]:
    """Open a run on a lane, and end it."""
    hook = StreamHook(
        address,
        calibration=CALIBRATION,
        name="lanes",
        outbox_mb=OUTBOX_MB,
        spool_mb=0,
        mode="block",
        lane="auto" if lane == "shm" else "tcp",
    )
    hook.check()
    if hook.progress.lane != lane:
        raise SystemExit(f"frames go over {hook.progress.lane}, not {lane}")
    yield hook
    answer = hook.close()
    if not answer.complete:
        raise SystemExit(answer.sentence)


def wait_for(hook: StreamHook, n: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while hook.progress.live < n:
        if time.monotonic() > deadline:
            raise SystemExit(f"{hook.progress}")
        time.sleep(0.001)


def lane_rate(address: str, lane: Lane, frames: NDArray[np.uint16], n: int) -> float:
    """Return how many frames per second get from the hook into the picture."""
    with run(address, lane) as hook:
        for i in range(warm := max(8, n // 10)):
            hook(frames[i % len(frames)])
        wait_for(hook, warm)
        began = time.perf_counter()
        for i in range(n):
            hook(frames[i % len(frames)])
        wait_for(hook, warm + n)
        return n / (time.perf_counter() - began)


def latencies(
    address: str, lane: Lane, frames: NDArray[np.uint16], fps: float, seconds: float
) -> tuple[list[float], float]:
    """Return the milliseconds from the hook's call to the acknowledgement of frames that come at a rate, and the rate.

    It is the one that was asked for, where the lane keeps up with it.
    """
    took = list[float]()
    acknowledge = Stock.acknowledge

    def timed(self: Stock, seq: int, *, keep: bool) -> Parcel | None:
        parcel = acknowledge(self, seq, keep=keep)
        if parcel is not None:
            took.append((time.perf_counter_ns() - parcel.t_ns) / 1e6)
        return parcel

    with run(address, lane) as hook:
        hook(frames[0])  # opens the run
        wait_for(hook, 1)
        Stock.acknowledge = timed  # type: ignore[method-assign]
        try:
            n = max(30, round(fps * seconds))
            began = time.perf_counter()
            for i in range(n):
                time.sleep(max(0.0, began + i / fps - time.perf_counter()))
                hook(frames[i % len(frames)])
            wait_for(hook, 1 + n)
            rate = n / (time.perf_counter() - began)
        finally:
            Stock.acknowledge = acknowledge  # type: ignore[method-assign]
    return took, rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 512, 2048])
    parser.add_argument(
        "--mb", type=int, default=1024, help="pixels of a throughput run, in MiB, at most 20,000 frames"
    )
    parser.add_argument("--latency-side", type=int, default=512)
    parser.add_argument("--rates", type=float, nargs="+", default=[30, 100, 1000])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a latency run")
    options = parser.parse_args()
    rows = list[dict[str, Any]]()
    ring = np.zeros(OUTBOX_MB * 2**20, np.uint8)
    ring.fill(1)
    with null_server() as server:
        for side in options.sides:
            frames = drawn(side)
            n = min(20_000, options.mb * 2**20 // frames[0].nbytes)
            rates, shares = {lane: list[float]() for lane in LANES}, {lane: list[float]() for lane in LANES}
            for number in range(options.rounds):
                for lane in LANES if number % 2 else LANES[::-1]:
                    plain = copy_rate(frames, ring, n)
                    rates[lane].append(lane_rate(server.address, lane, frames, n))
                    shares[lane].append(rates[lane][-1] / plain)
                    print(f"round {number + 1}, {side}², {lane}: {rates[lane][-1]:.0f} frames/s, memcpy {plain:.0f}")
            for lane in LANES:
                median = statistics.median(rates[lane])
                rows.append(
                    {
                        "frame": f"{side}²",
                        "offered": "as fast as taken",
                        "lane": lane,
                        "frames/s (median)": median,
                        "GB/s": median * frames[0].nbytes / 1e9,
                        "of memcpy (median)": statistics.median(shares[lane]),
                        "lowest": min(shares[lane]),
                        "highest": max(shares[lane]),
                        "p50 (ms)": "",
                        "p99 (ms)": "",
                        "p50 of the rounds (ms)": "",
                    }
                )
        frames = drawn(options.latency_side)
        for fps in options.rates:
            took: dict[Lane, list[tuple[list[float], float]]] = {lane: [] for lane in LANES}
            for number in range(options.rounds):
                for lane in LANES if number % 2 else LANES[::-1]:
                    took[lane].append(latencies(server.address, lane, frames, fps, options.seconds))
            for lane in LANES:
                middles = [statistics.median(each) for each, _ in took[lane]]
                p50, p99 = np.percentile(np.concatenate([each for each, _ in took[lane]]), [50, 99])
                rows.append(
                    {
                        "frame": f"{options.latency_side}²",
                        "offered": f"{fps:g} frames/s",
                        "lane": lane,
                        "frames/s (median)": statistics.median(rate for _, rate in took[lane]),
                        "GB/s": "",
                        "of memcpy (median)": "",
                        "lowest": "",
                        "highest": "",
                        "p50 (ms)": float(p50),
                        "p99 (ms)": float(p99),
                        "p50 of the rounds (ms)": f"{min(middles):.2f} – {max(middles):.2f}",
                    }
                )
    report("lanes", rows, vars(options))


if __name__ == "__main__":
    main()
