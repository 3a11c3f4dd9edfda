"""How accurate the reconstruction is: against the physical limit, the network of 2018 and the classical baseline.

Everything is simulated with a seed, so that the same command gives the same figures. Fast methods get more frames than
slow ones, of the same conditions: the first ones are the same; every row says how many. The network of 2018 gives a
picture and no table: its localizations are the centroids of 5x5 sub-pixels around the local maxima of each frame's
increment, from a threshold that is the best, by mean J(100 nm), on frames of 1, 3 and 5 emitters/um2 with a seed of
their own. CEL0 knows the PSF's width for the uniform and isolated emitters (1.15 px), and nearly for the microtubules
(1.1 px). `--only runtimes` compares the ways to compute our networks on this CPU with plain float32. The exit status
tells whether a number was not finite, or a runtime loses more of the Jaccard index than it may (1), not whether another
aim was met.
"""

import argparse
import datetime
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from _accuracy_filaments import FRAMES, microtubules
from _accuracy_frames import PIXEL_NM
from _accuracy_methods import Method, open_methods
from _accuracy_pixels import pixel_sizes
from _accuracy_robustness import beyond_training, grid_pattern, nothing
from _accuracy_runtimes import MOST_LOST, lossy, runtimes
from _accuracy_table import Table
from _accuracy_uniform import dots, lone, none_outside, uniform
from _report import RESULTS, machine

from stormlive_models.checkpoint import read_card
from stormlive_models.zoo import CEL0, shipped
from stormlive_sim.errors import InputError

ORIGINAL = Path(__file__).parent / "weights" / "deepstorm2018.safetensors"
"""Trained by ``stormlive train deepstorm2018.toml``; its card says how far."""
_RUNTIMES = "runtimes"
SECTIONS = ("uniform", "enclosed", "isolated", "microtubules", "dots", "robustness", "empty", "pixels", _RUNTIMES)


def sections(options: argparse.Namespace) -> dict[str, Callable[[list[Method]], list[Table]]]:
    n, seed, quick = options.frames, options.seed, options.quick
    return {
        "uniform": lambda methods: uniform(methods, n, seed),
        "enclosed": lambda methods: none_outside(methods, n, seed),
        "isolated": lambda methods: lone(methods, n, seed),
        "microtubules": lambda methods: microtubules(methods, 60 if quick else FRAMES, seed, options.pictures),
        "dots": lambda methods: dots(methods, n, seed),
        "robustness": lambda methods: [
            *beyond_training(methods, max(4, n // 3), seed),
            *grid_pattern(methods, 4 * n, seed),
        ],
        "empty": lambda methods: nothing(methods, n, 100 if quick else 1000, seed),
        "pixels": lambda _: pixel_sizes(n, seed),
        _RUNTIMES: lambda methods: runtimes(methods, n, seed),
    }


def default_models(others: bool = True) -> list[str]:
    """Return the shipped models for the benchmark's single frames, and the network of 2018 and the baseline."""
    cards = {name: read_card(path) for name, path in shipped().items()}
    ours = [name for name, card in cards.items() if card.pixel_size_nm == PIXEL_NM and not card.context]
    return [*ours, str(ORIGINAL), CEL0] if others else ours


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", metavar="NAME,FILE,...", help=f"default: {','.join(default_models())}")
    parser.add_argument("--only", metavar="SECTION,...", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="few frames: rough figures in a minute or so for livenet")
    parser.add_argument("--frames", type=int, help="64x64 frames per condition, for the fastest methods (48; quick: 8)")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="write the microtubules of all methods there (PNG)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"figures; of a whole run {RESULTS.name}/accuracy.json"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    options.only = options.only.split(",") if options.only else list(SECTIONS)
    options.models = options.models.split(",") if options.models else default_models(options.only != [_RUNTIMES])
    if unknown := set(options.only) - set(SECTIONS):
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if options.json is None and not options.quick and options.frames is None:
        if set(options.only) == set(SECTIONS):
            options.json = RESULTS / "accuracy.json"
        elif options.only in ([_RUNTIMES], ["enclosed"]):
            options.json = RESULTS / f"accuracy_{options.only[0]}.json"
    options.frames = options.frames or (8 if options.quick else 48)
    return options


def record(options: argparse.Namespace, methods: list[Method], results: dict[str, Any]) -> dict[str, Any]:
    return {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {**machine(), "threads": options.threads},
        "seed": options.seed,
        "models": {
            method.name: {
                "architecture": method.architecture,
                "sha256": method.model.sha256,
                "trained": method.model.card.trained,
                **({"peak_threshold": method.threshold} if method.threshold else {}),
            }
            for method in methods
        },
        "sections": results,
    }


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    try:
        methods = open_methods(options.models, options.seed)
    except InputError as error:
        raise SystemExit(str(error)) from None
    for method in methods:
        threshold = f", peaks from {method.threshold:.3g} emitters per sub-pixel on" if method.threshold else ""
        print(f"{method.name}: {method.architecture}, trained {method.model.card.trained or 'not at all'}{threshold}")
    results: dict[str, Any] = {}
    lost: list[str] = []
    for name, section in sections(options).items():
        if name not in options.only:
            continue
        started = time.monotonic()
        tables = section(methods)
        for table in tables:
            table.show()
        if name == _RUNTIMES:
            lost = lossy(tables)
        results[name] = [msgspec.to_builtins(table) for table in tables]
        print(f"[{name}: {time.monotonic() - started:.0f} s]", flush=True)
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            # msgspec writes NaN as null: JSON has no word for it.
            text = msgspec.json.format(msgspec.json.encode(record(options, methods, results)), indent=1)
            options.json.write_bytes(text + b"\n")
    if options.json is not None:
        print(f"written to {options.json}")
    if broken := {method.name: method.not_finite for method in methods if method.not_finite}:
        raise SystemExit(f"numbers that are not finite: {broken}")
    if lost:
        raise SystemExit(f"more than {MOST_LOST:g} of the Jaccard index lost: {', '.join(lost)}")


if __name__ == "__main__":
    main()
