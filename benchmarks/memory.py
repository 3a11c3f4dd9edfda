"""Memory of the server and of the acquisition's process over a long run: it must not grow with the frames."""

import argparse
import tempfile
from pathlib import Path

import psutil
from _report import report
from _rig import acquire, livenet_server

from stormlive.acquire.acquisition import AcquisitionProgress

Sample = tuple[str, int, float, float]
POINTS = (0.05, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--exposure-ms", type=float, default=2.0)
    options = parser.parse_args()
    rows = []
    accounts = {}
    for saving in (False, True):
        with tempfile.TemporaryDirectory() as folder, livenet_server(Path(folder) / "server") as server:
            samples: list[Sample] = []

            def sample(
                progress: AcquisitionProgress, pid: int, server_pid: int = server.pid, kept: list[Sample] = samples
            ) -> None:
                # While the hook drains, the count of frames stands still: its row is the last.
                if progress.seen and psutil.pid_exists(pid):
                    kept.append((progress.phase, progress.seen, _mib(pid), _mib(server_pid)))

            answer = acquire(
                side=options.side,
                n_frames=options.frames,
                exposure_ms=options.exposure_ms,
                out=Path(folder) / "raw" if saving else None,
                address=server.address,
                outbox_mb=64,  # a backlog that drains within minutes even on a slow machine
                on_progress=sample,
            )
        accounts["saving" if saving else "not saving"] = answer.hook.sentence
        for point in POINTS:
            acquiring = [sample for sample in samples if sample[0] == "acquiring"]
            rows.append(_row(saving, min(acquiring, key=lambda s: abs(s[1] - point * options.frames))))
        rows.append(_row(saving, samples[-1]))
        print(f"saving {saving}: {answer.hook.sentence}")
    report("memory", rows, {**vars(options), "accounts": accounts})


def _row(saving: bool, sample: Sample) -> dict[str, object]:
    phase, seen, acquiring, serving = sample
    return {
        "saving": "NDTiff" if saving else "nothing",
        "phase": phase,
        "frames": seen,
        "acquisition MiB": acquiring,
        "server MiB": serving,
    }


def _mib(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20


if __name__ == "__main__":
    main()
