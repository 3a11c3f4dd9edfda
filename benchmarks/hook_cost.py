"""What the hook costs an acquisition: frame rates with it and without it, in interleaved rounds.

The server runs on the same machine. "null" is the product's server with an engine that computes nothing, so
that the figure is the cost of the hook and the wire; "livenet" adds the network: ask for it on a machine with a
GPU, elsewhere it competes with the acquisition for the processor. "stopped" is frozen (SIGSTOP) in mid-run. A round
whose acquisition fails ("Sequence buffer overflow" on a machine that is too busy) is counted and has no rate.
"""

import argparse
import math
import os
import shutil
import signal
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from _report import report
from _rig import NOBODY, FailedError, RunningServer, acquire, livenet_server, null_server
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stormlive.acquire.acquisition import AcquisitionProgress, AcquisitionReport

# Side of the frames: how many, and their exposure. No disk keeps up at 2048²: 90 frames fit into the buffers before it.
CAMERAS = {512: (2000, 1.0), 2048: (90, 10.0)}
VARIANTS = ("none", "null", "livenet", "stopped", "absent")


def measure(
    variant: str, servers: dict[str, RunningServer], side: int, frames: int, exposure_ms: float, out: Path | None
) -> AcquisitionReport:
    frozen = False

    def freeze(progress: AcquisitionProgress, _pid: int) -> None:
        nonlocal frozen
        if not frozen and progress.hook is not None and progress.hook.live > 0:
            frozen = True
            os.kill(servers["stopped"].pid, signal.SIGSTOP)

    address = None if variant == "none" else NOBODY if variant == "absent" else servers[variant].address
    try:
        return acquire(
            side=side,
            n_frames=frames,
            exposure_ms=exposure_ms,
            out=out,
            address=address,
            on_progress=freeze if variant == "stopped" else None,
        )
    finally:
        if frozen:
            os.kill(servers["stopped"].pid, signal.SIGCONT)


Key = tuple[int, bool, str]


def rows_of(rates: dict[Key, list[float]], last: dict[Key, AcquisitionReport]) -> list[dict[str, Any]]:
    rows = []
    for (side, saving, variant), values in rates.items():
        # Each round's ratio to the run without a hook of the same round: slow drifts of the machine cancel.
        pairs = zip(values, rates[side, saving, "none"], strict=True)
        ratios = [value / base for value, base in pairs if value > 0 and base > 0]
        good = [value for value in values if value > 0]
        ran = last.get((side, saving, variant))
        rows.append(
            {
                "side": side,
                "saving": "NDTiff" if saving else "nothing",
                "server": variant,
                "rounds": len(values),
                "failed": len(values) - len(good),
                "frames/s (median)": statistics.median(good) if good else math.nan,
                "lowest": min(good, default=math.nan),
                "highest": max(good, default=math.nan),
                "of the rate without hook (median)": statistics.median(ratios) if ratios else math.nan,
                "lowest ratio": min(ratios, default=math.nan),
                "highest ratio": max(ratios, default=math.nan),
                "last run's account": "" if ran is None or ran.hook is None else ran.hook.sentence,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", choices=list(CAMERAS), default=list(CAMERAS))
    parser.add_argument("--frames", type=int, help="instead of the frames that suit the side")
    parser.add_argument("--exposure-ms", type=float, help="instead of the exposure that suits the side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", nargs="+", default=["null", "stopped", "absent"], choices=VARIANTS)
    options = parser.parse_args()
    variants = ["none", *(variant for variant in options.variants if variant != "none")]
    rates: dict[Key, list[float]] = {}
    last: dict[Key, AcquisitionReport] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {name: stack.enter_context(null_server()) for name in ("null", "stopped") if name in variants}
        if "livenet" in variants:
            servers["livenet"] = stack.enter_context(livenet_server(folder / "server"))
        bar = stack.enter_context(Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()))
        task = bar.add_task("", total=options.rounds * 2 * len(options.sides) * len(variants))
        for number in range(options.rounds):
            for side, saving in [(side, saving) for side in options.sides for saving in (False, True)]:
                frames, exposure_ms = CAMERAS[side]
                turn = number % len(variants)  # whoever comes first has no advantage over the rounds
                for variant in variants[turn:] + variants[:turn]:
                    key = side, saving, variant
                    bar.update(task, description=f"{side}², {variant}, saving {saving}")
                    shape = side, options.frames or frames, options.exposure_ms or exposure_ms
                    rate = 0.0
                    try:
                        last[key] = measure(variant, servers, *shape, folder / "raw" if saving else None)
                        rate = last[key].result.frames_per_s
                    except FailedError as error:
                        bar.print(f"{side}², {variant}, saving {saving}: {error}")
                    shutil.rmtree(folder / "raw", ignore_errors=True)
                    rates.setdefault(key, []).append(rate)
                    bar.advance(task)
    report("hook_cost", rows_of(rates, last), {**vars(options), "cameras": CAMERAS})


if __name__ == "__main__":
    main()
