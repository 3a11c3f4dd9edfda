"""Acquisitions that leave frames to the dataset, as a script: ``saved_scenario.py FOLDER ADDRESS N``.

The first shows them by ``image_saved_fn``. The second, after a line on stdin, hands its hook more than outbox and spool
hold, and tells it the folder; it says when it has acquired.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormlive.acquire.acquisition import AcquisitionSettings
from stormlive.acquire.core import open_core
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.saved import image_saved
from stormlive.wire.calibration import Calibration

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10)
SHAPE = (24, 32)


class NoiseCamera:
    """A frame of noise for each number."""

    shape = SHAPE
    bit_depth = 16
    n_frames = None

    def render(
        self, frame: int, x: int, y: int, w: int, h: int, binning: int, exposure_ms: float, out: NDArray
    ) -> None:
        out[...] = np.random.default_rng(frame).integers(90, 500, SHAPE)


def main(folder: Path, address: str, n: int) -> None:
    os.chdir(folder)
    with open_core(AcquisitionSettings(n_frames=n, exposure_ms=1, camera=NoiseCamera, out=folder)):
        from pycromanager import Acquisition, multi_d_acquisition_events

        hook = StreamHook(address, calibration=CALIBRATION, name="saved", outbox_mb=1)
        with Acquisition(
            directory="two  spaces", name="raw", image_saved_fn=image_saved(hook), show_display=False
        ) as acquisition:
            acquisition.acquire(multi_d_acquisition_events(num_time_points=n))
        tell(hook)
        sys.stdin.readline()

        hook = StreamHook(address, calibration=CALIBRATION, name="backfilled", outbox_mb=0.1, spool_mb=0.1)
        with Acquisition(
            directory="two  spaces", name="cell1", image_process_fn=hook, show_display=False
        ) as acquisition:
            hook.dataset = acquisition.get_dataset().path
            acquisition.acquire(multi_d_acquisition_events(num_time_points=400))
        print("acquired", flush=True)
        tell(hook)


def tell(hook: StreamHook) -> None:
    report = hook.close()
    answer = {
        "offered": report.offered,
        "in the picture": report.live.count() + report.replayed.count(),
        "sentence": report.sentence,
        "replayed": report.replayed.count(),
        "dataset": hook.dataset,
        "error": repr(hook.error),
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
