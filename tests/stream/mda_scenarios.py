"""Acquisitions of pymmcore-plus, a script for `Scenarios`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mm_test_adapters
import numpy as np
import useq
from numpy.typing import NDArray
from pymmcore_plus import CMMCorePlus

from scenarios import serve
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.mda import frame_ready
from stormlive.acquire.python_camera import PythonCamera
from stormlive.wire.calibration import Calibration
from stormlive_sim.camera import MovieCamera
from stormlive_sim.recording import Recording, write_movie

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10)


class Kept:
    """What the signal gave, beside the hook."""

    def __init__(self) -> None:
        self.images: list[NDArray] = []
        self.axes: list[dict] = []

    def __call__(self, image: NDArray, event: useq.MDAEvent, meta: dict) -> None:
        self.images.append(image.copy())
        self.axes.append(dict(event.index))


def play(core: CMMCorePlus, sequence: useq.MDASequence, folder: Path, address: str) -> tuple[Kept, dict]:
    kept = Kept()
    hook = StreamHook(address, calibration=CALIBRATION, name="mda", outbox_mb=64)
    core.mda.events.frameReady.connect(kept)
    core.mda.events.frameReady.connect(frame_ready(hook))
    core.run_mda(sequence).join()
    report = hook.close()
    np.save(folder / "frames.npy", np.array(kept.images))
    answer = {
        "offered": report.offered,
        "live": report.live.count(),
        "sentence": report.sentence,
        "error": repr(hook.error),
        "axes": kept.axes[:1] + kept.axes[-1:],
        "in order": [axes.get("t") for axes in kept.axes] == list(range(len(kept.axes))),
    }
    return kept, answer


def demo_camera(folder: Path, address: str, n: str) -> dict:
    """Run the real C++ core with Micro-Manager's DemoCamera, as a hardware sequence."""
    adapters = mm_test_adapters.device_adapter_path()
    core = CMMCorePlus(adapter_paths=[adapters])
    core.loadSystemConfiguration(str(Path(adapters) / "MMConfig_demo.cfg"))
    for name, value in (
        ("PixelType", "16bit"),
        ("FastImage", "1"),
        ("OnCameraCCDXSize", "32"),
        ("OnCameraCCDYSize", "24"),
    ):
        core.setProperty(core.getCameraDevice(), name, value)
    core.setExposure(1)
    core.mda.engine.use_hardware_sequencing = True
    return play(core, useq.MDASequence(time_plan={"interval": 0, "loops": int(n)}), folder, address)[1]


def axes(folder: Path, address: str) -> dict:
    """Run over time, position, channel and z."""
    adapters = mm_test_adapters.device_adapter_path()
    core = CMMCorePlus(adapter_paths=[adapters])
    core.loadSystemConfiguration(str(Path(adapters) / "MMConfig_demo.cfg"))
    core.setROI(0, 0, 32, 24)
    sequence = useq.MDASequence(
        axis_order="tpcz",
        time_plan={"interval": 0, "loops": 2},
        stage_positions=[(0, 0), (5, 5)],
        channels=["DAPI", "FITC"],
        z_plan={"range": 2, "step": 1},
    )
    return play(core, sequence, folder, address)[1]


@contextmanager
def camera_of(movie: NDArray, folder: Path) -> Iterator[tuple[CMMCorePlus, PythonCamera]]:
    """Return a core whose camera is a Python device that plays a movie."""
    from pymmcore_plus.experimental.unicore import UniMMCore

    write_movie(folder / "movie.tif", movie, pixel_size_nm=100)
    core = UniMMCore()
    with Recording.open(folder / "movie.tif") as recording:
        camera = PythonCamera(MovieCamera(recording), exposure_ms=1)
        core.loadPyDevice("Camera", camera)
        core.initializeDevice("Camera")
        core.setCameraDevice("Camera")
        yield core, camera


def python_camera(folder: Path, address: str, n: str) -> dict:
    """Play a movie through a Python camera device, in sequence, in part of its sensor and by snaps."""
    count = int(n)
    movie = np.random.default_rng(3).integers(90, 500, (2 * count + 10, 24, 32)).astype(np.uint16)
    with camera_of(movie, folder) as (core, camera):
        kept, answer = play(core, useq.MDASequence(time_plan={"interval": 0, "loops": count}), folder, address)
        answer["movie"] = bool(np.array_equal(kept.images, movie[:count]))
        core.setROI(4, 2, 16, 12)
        snapped = [core.snap() for _ in range(3)]
        answer["snaps"] = bool(np.array_equal(snapped, movie[count : count + 3, 2:14, 4:20]))
        core.clearROI()
        answer["exposure"] = [core.getExposure(), core.setExposure(5.0), core.getExposure()][::2]
        answer["frames"] = camera.frames
    return answer


def broken_camera(folder: Path, address: str) -> dict:
    """Ask a Python camera for more frames than it has."""
    movie = np.random.default_rng(3).integers(90, 500, (20, 24, 32)).astype(np.uint16)
    with camera_of(movie, folder) as (core, camera):
        answer = play(core, useq.MDASequence(time_plan={"interval": 0, "loops": 40}), folder, address)[1]
    return {**answer, "failure": str(camera.failure)}


if __name__ == "__main__":
    serve(globals())
