"""An acquisition that shows its frames by ``image_saved_fn``, as a script: ``saved_scenario.py FOLDER ADDRESS N``."""

import json
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


def main(folder: Path, address: str, n: int) -> dict:
    with open_core(AcquisitionSettings(n_frames=n, exposure_ms=1, camera=NoiseCamera, out=folder)):
        from pycromanager import Acquisition, multi_d_acquisition_events

        hook = StreamHook(address, calibration=CALIBRATION, name="saved", outbox_mb=1)
        with Acquisition(
            directory=str(folder), name="raw", image_saved_fn=image_saved(hook), show_display=False
        ) as acquisition:
            acquisition.acquire(multi_d_acquisition_events(num_time_points=n))
        report = hook.close()
    return {
        "offered": report.offered,
        "in the picture": report.live.count() + report.replayed.count(),
        "sentence": report.sentence,
        "error": repr(hook.error),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))), flush=True)
