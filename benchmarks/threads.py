"""Why the server leaves one core to the acquisition: the network's speed beside a process that spins on a core.

Pycro-Manager's engine spins in Python while it waits for frames. Rounds with all of torch's threads and with one less
are interleaved; medians.
"""

import multiprocessing
import statistics
import time

import torch
from _report import report

from stormlive_models.checkpoint import load_model
from stormlive_models.zoo import DEFAULT, shipped

ROUNDS = 9
BATCH = 8


def spin() -> None:
    while True:
        pass


def main() -> None:
    network, _ = load_model(shipped()[DEFAULT], torch.device("cpu"))
    photons = torch.poisson(torch.full((BATCH, 64, 64), 20.0))
    photons[:, ::9, ::7] += 200
    canvas = torch.zeros(512, 512)
    every = torch.get_num_threads()
    cases = {(threads, busy): [] for busy in (False, True) for threads in (every, max(1, every - 1))}
    for busy in (False, True):
        spinner = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
        if busy:
            spinner.start()
        for round_number in range(ROUNDS + 1):
            for threads in (every, max(1, every - 1)):
                torch.set_num_threads(threads)
                started = time.perf_counter()
                network.add_increment(photons, canvas)
                if round_number:  # the first is for warming up
                    cases[threads, busy].append((time.perf_counter() - started) / BATCH)
        if busy:
            spinner.kill()
    rows = [
        {"a core is spinning": busy, "threads": threads, "ms/frame": 1000 * statistics.median(seconds)}
        for (threads, busy), seconds in cases.items()
    ]
    report("threads", rows, {"rounds": ROUNDS, "batch": BATCH})


if __name__ == "__main__":
    main()
