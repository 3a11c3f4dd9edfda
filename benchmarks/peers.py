"""Against what a user would pick instead: Picasso and eSRRF (nanopyx) beside ours, on the same movies in one run.

    python -m venv peers
    peers/bin/pip install picassosr nanopyx
    python benchmarks/peers.py --peers peers/bin/python

The others run in a Python of their own (their pins would change ours), with as many threads as ours. One that is not
installed there is left out, which the output says. Two simulated movies of microtubules with known truth are taken:
dense, as live imaging has it, and sparse, which single-emitter fits are made for (0.4 emitters/um2 on the structure).
Scores leave out a border of a few pixels, in which a method of boxes finds nothing. Picasso's fit, box, gradient,
greatest spot width and drawing, and eSRRF's radius, sensitivity and correlation, are those that are best by the truth
of a movie of the same kind with a seed of its own, which is more than a user can know; ours have nothing to tune.

Timed is camera ADU in memory to table (Picasso: identify and fit; its drawing is not counted), to picture (eSRRF), or
to both (ours: the engine as the server uses it, batches of 16, with the runtime that it chooses). Turns are
interleaved, the first is for warming up (Picasso compiles itself then), and medians are compared. Where others share
the processor, its time (CPU) is the fair figure: with one thread no method waits for anything.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from _accuracy_frames import MOVIE_DENSITY, SUB_NM, UPSAMPLING
from _peers_methods import BORDER_PX, INSTALL, Method, Movie, Ours, Outcome, Program, inner_image, inner_table, simulate
from _peers_picture import draw
from _peers_tuned import FITS, Esrrf, Picasso
from _report import report
from numpy.typing import NDArray

from stormlive_models.evaluate import score
from stormlive_models.image_metrics import score_image

# Over the field, of which half is empty.
_DENSITIES = {"dense": MOVIE_DENSITY, "sparse": 0.2}
# Frames of a turn of the timing: enough that no clock matters.
_TURN = {"dense": 64, "sparse": 128}
_ESRRF, _ESRRF_TURN, _ESRRF_TRIAL = "eSRRF", 4, 16
_OURS = ("livenet", "small")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="where Picasso and nanopyx are")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dense", type=int, default=361, metavar="N", help="frames of the dense movie")
    parser.add_argument("--sparse", type=int, default=1200, metavar="N", help="frames of the sparse movie")
    parser.add_argument("--trial", type=int, default=60, metavar="N", help="frames to tune the others on")
    parser.add_argument("--most-esrrf", type=int, default=200, metavar="N", help="frames for eSRRF, which is slow")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="the pictures side by side (PNG)")
    return parser.parse_args()


def open_programs(options: argparse.Namespace, folder: Path) -> dict[str, Program]:
    """Return the programs that are there, and say which are not."""
    programs = {}
    for name, method in (("Picasso", "picasso"), (_ESRRF, "esrrf")):
        program = Program(method, options.peers, folder, options.threads)
        print(f"{name}: {program.version or f'NOT INSTALLED in {options.peers}, LEFT OUT ({program.missing})'}")
        if program.missing:
            print(f"  to have it: {INSTALL}")
        programs[name] = program
    return programs


def open_methods(programs: dict[str, Program], ours: dict[str, Ours], trial: Movie) -> dict[str, Method]:
    methods: dict[str, Method] = dict(ours)
    if not programs["Picasso"].missing:
        methods |= {name: Picasso(programs["Picasso"], fits, trial) for name, fits in FITS.items()}
    if not programs[_ESRRF].missing:
        methods[_ESRRF] = Esrrf(programs[_ESRRF], trial, min(_ESRRF_TRIAL, len(trial.adu)))
    return methods


def quality(outcome: Outcome, movie: Movie, n: int) -> dict[str, Any]:
    """Return the scores of a picture and, where there is one, of a table."""
    truth = inner_table(movie.first(n))
    assert outcome.image is not None
    image = score_image(inner_image(outcome.image), truth, SUB_NM)
    table = None if outcome.table is None else score(inner_table(outcome.table), truth, 100.0)
    return {
        "N1 %": image.n1_percent,
        "N3 %": image.n3_percent,
        "Pearson": image.pearson,
        "artifacts %": 100 * image.artifact_fraction,
        "J(100)": table.jaccard if table else "",
        "recall": table.recall if table else "",
        "precision": table.precision if table else "",
        "RMSE nm": table.rmse_nm if table else "",
    }


def rows_of(movie: Movie, methods: dict[str, Method], options: argparse.Namespace) -> tuple[list[Any], dict[str, Any]]:
    """Return a row for each method, and the pictures."""
    times: dict[str, list[Outcome]] = {name: [] for name in methods}
    turn = {name: _ESRRF_TURN if name == _ESRRF else _TURN[movie.name] for name in methods}
    for number in range(options.rounds + 1):
        for name, method in methods.items():
            outcome = method.run(movie, min(turn[name], len(movie.adu)), timed_only=True)
            if number:
                times[name].append(outcome)
    rows, pictures = list[dict[str, Any]](), dict[str, NDArray[Any]]()
    for name, method in methods.items():
        frames = min(turn[name], len(movie.adu))
        wall = [outcome.seconds / frames for outcome in times[name]]
        cpu = [outcome.cpu_seconds / frames for outcome in times[name]]
        n = min(options.most_esrrf, len(movie.adu)) if name == _ESRRF else len(movie.adu)
        outcome = method.run(movie, n)
        assert outcome.image is not None
        pictures[name] = outcome.image
        rows.append(
            {
                "movie": movie.name,
                "method": name,
                "frames/s": 1 / statistics.median(wall),
                "slowest": 1 / max(wall),
                "fastest": 1 / min(wall),
                "CPU ms/frame": 1000 * statistics.median(cpu),
                "± %": 50 * (max(cpu) - min(cpu)) / statistics.median(cpu),
                "frames": n,
                **quality(outcome, movie, n),
            }
        )
        print({key: round(v, 4) if isinstance(v, float) else v for key, v in rows[-1].items()}, flush=True)
    return rows, pictures


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    ours = {model: Ours(model, 16) for model in _OURS}
    rows, drawn, parameters = list[dict[str, Any]](), list[tuple[Movie, dict[str, NDArray[Any]]]](), dict[str, Any]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = open_programs(options, folder)
        for label, density in _DENSITIES.items():
            trial = simulate(f"{label} trial", density, options.trial, options.seed, folder)
            movie = simulate(label, density, getattr(options, label), options.seed, folder)
            methods = open_methods(programs, ours, trial)
            tuned = {key: vars(method).get("parameters") for key, method in methods.items() if key not in ours}
            print(f"{label}: {len(movie.truth) / len(movie.adu):.0f} emitters a frame; {tuned}", flush=True)
            more, pictures = rows_of(movie, methods, options)
            rows += more
            parameters[label] = tuned
            drawn.append((movie, pictures))
        for program in programs.values():
            program.close()
        if options.picture is not None:
            draw(drawn, options.picture)
    notes = {
        "threads": options.threads,
        "load before": os.getloadavg() if hasattr(os, "getloadavg") else math.nan,
        "runtime and weights": {model: engine.told for model, engine in ours.items()},
        "others": {key: program.version or f"left out: {program.missing}" for key, program in programs.items()},
        "parameters": parameters,
        "rounds": options.rounds,
        "frames of a turn": {**_TURN, _ESRRF: _ESRRF_TURN},
        "emitters/um2 over the field, of which half is empty": _DENSITIES,
        "frames": f"64x64 of 100 nm, EMCCD, microtubules; picture of {UPSAMPLING} sub-pixels a pixel, "
        f"scored without a border of {BORDER_PX} px",
    }
    report("peers", rows, notes)


if __name__ == "__main__":
    main()
