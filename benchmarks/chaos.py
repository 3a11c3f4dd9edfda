"""Runs with random faults: nothing lost, nothing doubled, the canvas the offline one, and nothing hangs.

Everything about a run comes from its seed: how its frames come (a plain sender with or without a dataset, by reference,
a stream that waits, a preview, the real acquisition through Pycro-Manager in every eighth; through shared memory or
not, with CURVE keys or without), how many and how fast, of how many channels, how small the buffers are, and what
happens to it: see `_chaos_plan`. The moments at which faults strike are planned in seconds, so that what they strike
may differ from one time to the next.

    python benchmarks/chaos.py                      # 200 runs
    python benchmarks/chaos.py --runs 1 --seed 17   # the 18th of them again
    python benchmarks/chaos.py --model exact-context  # all with an engine that sees each frame between its neighbours

The exit status is not 0 when anything is wrong; plan, logs and files of such a run are kept. On Windows the faults that
suspend a process are left out, and a seed plans another run than elsewhere.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from _chaos_check import Outcome, Verdict, judge
from _chaos_plan import KINDS, NO_FAULT, WAYS, Plan
from _chaos_run import ChaoticRun
from _report import report
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

TIMEOUT_S = 60.0
SUMS = ("frames", "live", "replayed", "missing", "lost", "doubled", "unequal", "hung")
Result = tuple[Plan, Verdict, float]


def run_one(plan: Plan, folder: Path, timeout_s: float = TIMEOUT_S) -> tuple[Verdict, Outcome]:
    """Carry out a plan in a folder that is removed when all is well."""
    outcome = ChaoticRun(plan, folder, timeout_s).carry_out()
    verdict = judge(plan, outcome)
    if verdict.good:
        shutil.rmtree(folder)
    return verdict, outcome


def table(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return a row for every kind of fault and every way that frames come; a run counts for each of its faults."""
    results = list(results)
    groups = [("all", results)]
    groups += [(kind, [r for r in results if kind in r[0].kinds]) for kind in (*KINDS, NO_FAULT)]
    groups += [(f"by {way}", [r for r in results if r[0].way == way]) for way in WAYS]
    kinds: dict[str, Callable[[Plan], bool]] = {
        "with a network": lambda plan: not plan.is_exact,
        "with several canvases": lambda plan: plan.channels > 1,
        "with keys": lambda plan: plan.keys,
        "through shared memory": lambda plan: plan.lane == "auto",
        "over TCP alone": lambda plan: plan.lane == "tcp",
    }
    groups += [(name, [r for r in results if holds(r[0])]) for name, holds in kinds.items()]
    rows = []
    for name, group in groups:
        if group:
            sums = {column: sum(int(getattr(verdict, column)) for _, verdict, _ in group) for column in SUMS}
            bad = sum(not verdict.good for _, verdict, _ in group)
            seconds = statistics.median(seconds for _, _, seconds in group)
            rows.append({"runs with": name, "runs": len(group), **sums, "not good": bad, "median s": seconds})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; those after it have the next ones")
    parser.add_argument("--model", help="of all runs: exact-context, which looks at neighbours, or a network's name")
    options = parser.parse_args()
    console = Console()
    results: list[Result] = []
    top = Path(tempfile.mkdtemp(prefix="stormlive-chaos-"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("0 not good", total=options.runs)
        for seed in range(options.seed, options.seed + options.runs):
            plan, folder = Plan.draw(seed), top / f"seed-{seed}"
            plan = plan if options.model is None else replace(plan, engine=options.model)
            verdict, outcome = run_one(plan, folder)
            results.append((plan, verdict, outcome.seconds))
            if not verdict.good:
                console.print(f"seed {seed} ({plan.way}; {', '.join(plan.kinds)}), kept in {folder}:", style="red")
                console.print(*(f"  {problem}\n" for problem in verdict.problems), sep="", end="", markup=False)
            bad = sum(not verdict.good for _, verdict, _ in results)
            progress.update(task, advance=1, description=f"{bad} not good")
    notes = {
        **vars(options),
        "timeout_s": TIMEOUT_S,
        "bad_seeds": [plan.seed for plan, verdict, _ in results if not verdict.good],
        "timers": "heartbeat 0.2 or 0.4 s, pauses between connections up to 0.5 s, checkpoints every 0.05 to 0.5 s",
    }
    report("chaos" if options.model is None else f"chaos_{options.model}", table(results), notes)
    if notes["bad_seeds"]:
        sys.exit(f"not good: seeds {notes['bad_seeds']}; see {top}")
    shutil.rmtree(top)


if __name__ == "__main__":
    main()
