"""What the hook costs an acquisition: frame rates with it and without it, in interleaved rounds.

The server runs on the same machine. "null" is the product's server with an engine that computes nothing, so
that the figure is the cost of the hook and the wire; "livenet" adds the network: ask for it on a machine with a
GPU, elsewhere it competes with the acquisition for the processor. "stopped" is frozen (SIGSTOP) in mid-run.
"""

import argparse
import os
import shutil
import signal
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from _report import report
from _rig import RunningServer, acquire, livenet_server, null_server

from stormlive.acquire.acquisition import AcquisitionProgress, AcquisitionReport

NOBODY = "tcp://127.0.0.1:9"
VARIANTS = ("none", "null", "livenet", "stopped", "absent")


def measure(
    variant: str, servers: dict[str, RunningServer], options: argparse.Namespace, out: Path | None
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
            side=options.side,
            n_frames=options.frames,
            exposure_ms=options.exposure_ms,
            out=out,
            address=address,
            on_progress=freeze if variant == "stopped" else None,
        )
    finally:
        if frozen:
            os.kill(servers["stopped"].pid, signal.SIGCONT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--exposure-ms", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", nargs="+", default=["null", "stopped", "absent"], choices=VARIANTS)
    options = parser.parse_args()
    variants = ["none", *(variant for variant in options.variants if variant != "none")]
    rates: dict[tuple[bool, str], list[float]] = {}
    last: dict[tuple[bool, str], AcquisitionReport] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {name: stack.enter_context(null_server()) for name in ("null", "stopped") if name in variants}
        if "livenet" in variants:
            servers["livenet"] = stack.enter_context(livenet_server(folder / "server"))
        for number in range(options.rounds):
            for saving in (False, True):
                turn = number % len(variants)  # whoever comes first has no advantage over the rounds
                for variant in variants[turn:] + variants[:turn]:
                    out = folder / "raw" if saving else None
                    answer = measure(variant, servers, options, out)
                    shutil.rmtree(folder / "raw", ignore_errors=True)
                    rates.setdefault((saving, variant), []).append(answer.result.frames_per_s)
                    last[saving, variant] = answer
                    print(f"round {number + 1}: {variant}, saving {saving}: {rates[saving, variant][-1]:.0f} frames/s")
    rows = []
    for (saving, variant), values in rates.items():
        # Each round's ratio to the run without a hook of the same round: slow drifts of the machine cancel.
        ratios = [value / base for value, base in zip(values, rates[saving, "none"], strict=True)]
        hook = last[saving, variant].hook
        rows.append(
            {
                "saving": "NDTiff" if saving else "nothing",
                "server": variant,
                "frames/s (median)": statistics.median(values),
                "lowest": min(values),
                "highest": max(values),
                "of the rate without hook (median)": statistics.median(ratios),
                "last run's account": "" if hook is None else hook.sentence,
            }
        )
    report("hook_cost", rows, vars(options))


if __name__ == "__main__":
    main()
