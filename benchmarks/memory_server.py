"""Memory of the server and of the hook's process when every frame goes through the network.

No camera sets the pace: the next frames are sent when the last ones are in the picture, so that all of them are
processed on a machine of any speed, in batches of many sizes. benchmarks/memory.py is the same question under a real
acquisition.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from _report import report

from stormlive.acquire.hook import StreamHook
from stormlive.server.process import ServerProcess, ServerSettings

MOST_WAITING = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--frames", type=int, default=20_000)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    movie = (generator.poisson(20, (64, options.side, options.side)) * 2 + 100).astype(np.uint16)
    movie[:, ::9, ::7] += 600  # something to find
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        settings = ServerSettings(
            bind="tcp://127.0.0.1:0", model="livenet", device="auto", out=Path(folder) / "run", folder_per_run=False
        )
        with ServerProcess(settings) as server:
            hook = StreamHook(server.address, pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10)
            for number in range(options.frames):
                hook(movie[number % 64])
                while number % 16 == 0 and hook.progress.backlog > MOST_WAITING:
                    time.sleep(0.02)
                if (number + 1) % (options.frames // 10) == 0:
                    rows.append(
                        {
                            "frames": number + 1,
                            "server MiB": psutil.Process(server.pid).memory_info().rss / 2**20,
                            "hook's process MiB": psutil.Process().memory_info().rss / 2**20,
                        }
                    )
                    print(rows[-1], flush=True)
            account = hook.close(timeout_s=120)
    report("memory_server", rows, {"side": options.side, "frames": options.frames, "account": account.sentence})


if __name__ == "__main__":
    main()
