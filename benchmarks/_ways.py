"""One way in, as a script, since Micro-Manager may hang: ``_ways.py WAY FOLDER ADDRESS N`` prints JSON.

FOLDER holds ``movie.tif`` with N frames, which every camera but Micro-Manager's DemoCamera plays. Each way is driven as
its users drive it, and says where the raw frames lie from which the picture can be made again.
"""

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from _rig import CALIBRATION
from numpy.typing import NDArray

import stormlive
from stormlive.acquire.acquisition import AcquisitionSettings
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.report import HookReport
from stormlive.wire.calibration import Calibration
from stormlive_sim.camera import MovieCamera
from stormlive_sim.recording import Recording

TESTS = Path(__file__).parents[1] / "tests" / "stream"
MOVIE = "movie.tif"
EXPOSURE_MS = 1.0
WATCH_IDLE_S = 10.0

Answer = dict[str, Any]


def told(report: HookReport, raw: Path) -> Answer:
    """Return what the hook says, and where the raw frames lie."""
    return {"offered": report.offered, "folder": report.folder, "sentence": report.sentence, "raw": str(raw)}


def movie_camera(path: Path) -> MovieCamera:
    return MovieCamera(Recording.open(path))


def acquire(folder: Path, n: int, **functions: Any) -> Path:  # noqa: ANN401
    """Run an acquisition as a script of Pycro-Manager's does; return its dataset."""
    from pycromanager import Acquisition, multi_d_acquisition_events

    with Acquisition(directory=str(folder), name="raw", show_display=False, **functions) as acquisition:
        dataset = Path(acquisition.get_dataset().path)
        acquisition.acquire(multi_d_acquisition_events(num_time_points=n))
    return dataset


@contextmanager
def pycromanager_core(folder: Path, n: int) -> Iterator[None]:
    """Start the real core, whose camera plays the movie."""
    from stormlive.acquire.core import open_core

    camera = partial(movie_camera, folder / MOVIE)
    with open_core(AcquisitionSettings(n_frames=n, exposure_ms=EXPOSURE_MS, camera=camera, out=folder)):
        yield


def process_fn(folder: Path, address: str, n: int) -> Answer:
    """Way (a): `image_process_fn` of Pycro-Manager's Python backend."""
    with pycromanager_core(folder, n):
        hook = StreamHook(address, calibration=CALIBRATION, name="process_fn")
        raw = acquire(folder, n, image_process_fn=hook)
        return told(hook.close(), raw)


def saved_fn(folder: Path, address: str, n: int) -> Answer:
    """Way (b): `image_saved_fn`: references, which the server reads in the dataset."""
    from stormlive.acquire.saved import image_saved

    with pycromanager_core(folder, n):
        hook = StreamHook(address, calibration=CALIBRATION, name="saved_fn")
        raw = acquire(folder, n, image_saved_fn=image_saved(hook))
        return told(hook.close(), raw)


def demo_core(n: int) -> tuple[Any, Any]:
    """Return pymmcore-plus's core with Micro-Manager's DemoCamera, and its sequence."""
    import mm_test_adapters
    import useq
    from pymmcore_plus import CMMCorePlus

    adapters = mm_test_adapters.device_adapter_path()
    core = CMMCorePlus(adapter_paths=[adapters])
    core.loadSystemConfiguration(str(Path(adapters) / "MMConfig_demo.cfg"))
    properties = {
        "PixelType": "16bit",
        "OnCameraCCDXSize": "64",
        "OnCameraCCDYSize": "64",
        "Mode": "Noise",
        "Photon Flux": "2",
    }
    for name, value in properties.items():
        core.setProperty(core.getCameraDevice(), name, value)
    core.setExposure(EXPOSURE_MS)
    core.mda.engine.use_hardware_sequencing = True
    return core, useq.MDASequence(time_plan={"interval": 0, "loops": n})


@contextmanager
def python_core(folder: Path, n: int) -> Iterator[tuple[Any, Any]]:
    """Start pymmcore-plus's core with a Python camera that plays the movie."""
    import useq
    from pymmcore_plus.experimental.unicore import UniMMCore

    from stormlive.acquire.python_camera import PythonCamera

    core = UniMMCore()
    with Recording.open(folder / MOVIE) as recording:
        core.loadPyDevice("Camera", PythonCamera(MovieCamera(recording), exposure_ms=EXPOSURE_MS))
        core.initializeDevice("Camera")
        core.setCameraDevice("Camera")
        yield core, useq.MDASequence(time_plan={"interval": 0, "loops": n})


def follow(core: Any, sequence: Any, folder: Path, address: str, name: str, calibration: Calibration) -> Answer:  # noqa: ANN401
    """Run a sequence with the hook on `frameReady`, and keep beside it what the signal gave."""
    from stormlive.acquire.mda import frame_ready

    kept: list[NDArray[np.uint16]] = []
    hook = StreamHook(address, calibration=calibration, name=name)
    core.mda.events.frameReady.connect(frame_ready(hook))
    core.mda.events.frameReady.connect(lambda image, event, meta: kept.append(image.copy()))
    core.run_mda(sequence).join()
    raw = folder / f"{name}.npy"
    np.save(raw, np.array(kept))
    return told(hook.close(), raw)


def frame_ready_demo(folder: Path, address: str, n: int) -> Answer:
    """Way (c): `frameReady` with the real engine and Micro-Manager's DemoCamera, which shows noise."""
    # So many photons a count, and the network takes some noise for emitters: an empty canvas would prove nothing.
    calibration = msgspec.structs.replace(CALIBRATION, photons_per_adu=5.0)
    return follow(*demo_core(n), folder, address, "frame_ready_demo", calibration)


def frame_ready_python(folder: Path, address: str, n: int) -> Answer:
    """Way (c): `frameReady` with the Python camera device."""
    with python_core(folder, n) as (core, sequence):
        return follow(core, sequence, folder, address, "frame_ready_python", CALIBRATION)


@contextmanager
def watching(path: Path, address: str) -> Iterator[None]:
    """Run ``stormlive watch`` on a recording that the block writes."""
    options = {
        "--server": address,
        "--idle": WATCH_IDLE_S,
        "--pixel-size-nm": CALIBRATION.pixel_size_nm,
        "--baseline-adu": CALIBRATION.baseline_adu,
        "--photons-per-adu": CALIBRATION.photons_per_adu,
        "--exposure-ms": CALIBRATION.exposure_ms,
    }
    words = [str(word) for pair in options.items() for word in pair]
    watch = subprocess.Popen([sys.executable, "-m", "stormlive", "watch", str(path), "--headless", *words])
    try:
        yield
        if watch.wait(120) != 0:
            raise SystemExit(f"stormlive watch ended with {watch.returncode}")
    finally:
        watch.kill()
        watch.wait()


def tail_ndtiff(folder: Path, address: str, n: int) -> Answer:
    """Way (d): Tailing an NDTiff that Pycro-Manager writes, with no hook."""
    raw = folder / "raw_1"  # how Pycro-Manager names the first of a folder
    with watching(raw, address), pycromanager_core(folder, n):
        assert acquire(folder, n) == raw
    return {"raw": str(raw)}


def tail_ome_tiff(folder: Path, address: str, n: int) -> Answer:
    """Way (d): Tailing an OME-TIFF that pymmcore-plus's own writer fills."""
    raw = folder / "raw.ome.tiff"
    with watching(raw, address), python_core(folder, n) as (core, sequence):
        core.run_mda(sequence, output=raw).join()
    return {"raw": str(raw)}


def plain(folder: Path, address: str, n: int) -> Answer:
    """Way (e): A loop of Python."""
    with (
        Recording.open(folder / MOVIE) as movie,
        stormlive.stream(address, calibration=CALIBRATION, name="plain") as live,
    ):
        for i in range(n):
            live.send(movie.frame(i))
    assert live.report is not None
    return told(live.report, folder / MOVIE)


def java(folder: Path, address: str, n: int) -> Answer:
    """Way (f): The Java backend's own Python side, fed with what its bridge delivers, as the test of it does."""
    import pytest

    with Recording.open(folder / MOVIE) as movie:
        frames = np.array([movie.frame(i) for i in range(n)])
    hook = StreamHook(address, calibration=CALIBRATION, name="java")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS))
        test = importlib.import_module("test_java_hook")
        assert test.drive(hook, test.JavaSide(frames, "GRAY16"), patch) == []
    return told(hook.close(), folder / MOVIE)


WAYS: dict[str, Callable[[Path, str, int], Answer]] = {
    way.__name__: way
    for way in (
        process_fn,
        saved_fn,
        frame_ready_demo,
        frame_ready_python,
        tail_ndtiff,
        tail_ome_tiff,
        plain,
        java,
    )
}

if __name__ == "__main__":
    name, place, where, count = sys.argv[1:]
    began = time.monotonic()
    answer = WAYS[name](Path(place), where, int(count))
    print(json.dumps({**answer, "seconds": time.monotonic() - began}), flush=True)
