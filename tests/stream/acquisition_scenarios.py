"""Acquisitions on the real core, for `Scenarios` or alone: ``acquisition_scenarios.py NAME FOLDER`` prints JSON."""

import json
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scenarios import serve
from stormlive.acquire import engine_run
from stormlive.acquire import process as process_module
from stormlive.acquire.acquisition import AcquisitionProgress, AcquisitionSettings, HookSettings
from stormlive.acquire.core import open_core
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.micromanager import acquire
from stormlive.acquire.process import AcquisitionProcess
from stormlive.wire.calibration import Calibration
from stormlive_sim.camera import MovieCamera
from stormlive_sim.errors import InputError
from stormlive_sim.recording import Recording, write_movie

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=2)


DEMO_CAMERA = """Device,DHub,DemoCamera,DHub
Device,Cam1,DemoCamera,DCam
Parent,Cam1,DHub
Property,Core,Initialize,1
Property,Core,Camera,Cam1
"""


def pattern(frame: int, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Return pixels that tell their frame, row and column apart."""
    rows, columns = np.indices(shape, np.uint32)
    return ((frame * 7919 + rows * 251 + columns * 13) % 60_000).astype(np.uint16)


class PatternCamera:
    """Endless; raises at frame `broken_at`."""

    def __init__(self, shape: tuple[int, int] = (48, 64), broken_at: int = -1) -> None:
        self.shape = shape
        self.bit_depth = 16
        self.n_frames = None
        self.broken_at = broken_at

    def render(
        self, frame: int, x: int, y: int, w: int, h: int, binning: int, exposure_ms: float, out: NDArray
    ) -> None:
        if frame == self.broken_at:
            raise ValueError(f"no light in frame {frame}")
        assert (binning, out.shape) == (1, (h, w))
        out[...] = pattern(frame, self.shape)[y : y + h, x : x + w]


def settings(folder: Path, **changes: object) -> AcquisitionSettings:
    return AcquisitionSettings(**{"n_frames": 60, "exposure_ms": 2, "camera": PatternCamera, "out": folder, **changes})


def frames_of(path: Path) -> NDArray:
    with Recording.open(path) as recording:
        return np.concatenate([block for _, block in recording.blocks(64)])


def failure(asked: AcquisitionSettings, **options: object) -> dict:
    started = time.monotonic()
    try:
        acquire(asked, **options)
    except InputError as error:
        text = str(error)
        return {
            "kind": type(error).__name__,
            "message": text,
            "cause": repr(error.__cause__),
            "seconds": time.monotonic() - started,
            "saved": getattr(getattr(error, "result", None), "saved", 0),
            "readable": sum(len(frames_of(folder)) for folder in [*asked.out.glob("raw_*")] if any(folder.iterdir()))
            if asked.out
            else 0,
            "stuck": getattr(error, "stuck", False),
        }
    return {"kind": None}


class Kept:
    """A hook that keeps what it is shown."""

    def __init__(self) -> None:
        self.dataset: Path | None = None
        self.images: list[NDArray] = []
        self.metadata: list[dict] = []

    def open(self, dataset: Path | None) -> "Kept":
        self.dataset = dataset
        return self

    def __call__(self, image: NDArray, metadata: dict) -> None:
        self.images.append(image.copy())
        self.metadata.append(dict(metadata))


def movie(folder: Path) -> dict:
    """Play a movie: whole, in part, binned; saved and seen by a hook."""
    frames = np.random.default_rng(3).integers(0, 65536, (80, 34, 50)).astype(np.uint16)
    write_movie(folder / "movie.tif", frames, pixel_size_nm=100)
    write_movie(folder / "8bit.tif", frames.astype(np.uint8), pixel_size_nm=100)
    binned = frames.reshape(80, 17, 2, 25, 2).sum((2, 4), dtype=np.int64).clip(0, 65535)
    cases = {
        "full": ({}, frames),
        "region": ({"roi": (7, 3, 20, 25)}, frames[:, 3:28, 7:27]),
        "binned": ({"binning": 2}, binned),
        "8 bit": ({"camera": lambda: MovieCamera(coarse)}, frames.astype(np.uint8)),
        "binned region": ({"binning": 2, "roi": (4, 1, 18, 16)}, binned[:, 1:17, 4:22]),
    }
    answer = {}
    with Recording.open(folder / "movie.tif") as recording, Recording.open(folder / "8bit.tif") as coarse:
        for name, (changes, expected) in cases.items():
            kept = Kept()
            progress: list[AcquisitionProgress] = []
            result = acquire(
                settings(
                    folder,
                    **{"n_frames": 80, "camera": lambda: MovieCamera(recording), "pixel_size_nm": 108, **changes},
                ),
                make_hook=kept.open,
                on_progress=progress.append,
            )
            answer[name] = {
                "saved equals": bool(np.array_equal(frames_of(result.dataset), expected)),
                "hook equals": bool(np.array_equal(kept.images, expected)),
                "in order": [metadata["Axes"]["time"] for metadata in kept.metadata] == list(range(80)),
                "counts": [result.seen, result.saved],
                "dataset": kept.dataset == result.dataset,
                "pixel size": sorted({metadata["PixelSize_um"] for metadata in kept.metadata}),
                "rate": result.frames_per_s,
                "progress": [p.seen for p in progress] == sorted(p.seen for p in progress)
                and progress[-1].seen == progress[-1].saved == 80,
            }
    return answer


def sequence_and_snap(folder: Path) -> dict:
    """Snap, sequence, snap on one core, with pycromanager's own calls: one count of frames."""
    asked = settings(folder)
    from pycromanager import Acquisition, multi_d_acquisition_events

    kept = Kept()
    with open_core(asked):
        for n, interval_s in ((1, 0), (20, 0), (5, 0.01)):
            with Acquisition(image_process_fn=kept, show_display=False) as acquisition:
                acquisition.acquire(multi_d_acquisition_events(num_time_points=n, time_interval_s=interval_s))
    expected = [pattern(i, (48, 64)) for i in range(26)]
    return {"n": len(kept.images), "equals": bool(np.array_equal(kept.images, expected))}


def plain(folder: Path) -> dict:
    """Run without a hook, without saving, and on a configuration file of the user's own."""
    unhooked = acquire(settings(folder))
    unsaved = acquire(settings(folder, out=None))
    demo = folder / "demo.cfg"
    demo.write_text(DEMO_CAMERA)
    own = acquire(settings(folder, camera=None, mm_config=demo, roi=(0, 0, 32, 16)))
    return {
        "unhooked": bool(np.array_equal(frames_of(unhooked.dataset), [pattern(i, (48, 64)) for i in range(60)])),
        "unsaved": [unsaved.seen, unsaved.saved, unsaved.dataset],
        "own": frames_of(own.dataset).shape,
        "rates": [unhooked.frames_per_s, unsaved.frames_per_s],
    }


def bad_settings(folder: Path) -> dict:
    """Ask for what cannot be."""

    class Short(PatternCamera):
        def __init__(self) -> None:
            super().__init__()
            self.n_frames = 10

    (folder / "no_adapter.cfg").write_text("Device,Camera,NoSuchAdapter,DCam\nProperty,Core,Initialize,1\n")
    (folder / "no_camera.cfg").write_text("Property,Core,Initialize,1\n")
    (folder / "colour.cfg").write_text(DEMO_CAMERA + "Property,Cam1,PixelType,32bitRGB\n")
    own = {"camera": None}
    cases = {
        "roi": {"roi": (60, 0, 16, 16)},
        "binning": {"binning": 3},
        "exposure": {"exposure_ms": 20_000},
        "too many": {"camera": Short},
        "tiny": {"camera": partial(PatternCamera, shape=(4, 4))},
        "no config": {**own, "mm_config": folder / "absent.cfg"},
        "no adapter": {**own, "mm_config": folder / "no_adapter.cfg"},
        "no camera": {**own, "mm_config": folder / "no_camera.cfg"},
        "colour": {**own, "mm_config": folder / "colour.cfg"},
        "no mm dir": {**own, "mm_config": folder / "no_camera.cfg", "mm_dir": folder / "absent"},
    }
    answer = {name: failure(settings(folder, out=None, **changes)) for name, changes in cases.items()}
    answer["afterwards"] = acquire(settings(folder, out=None, n_frames=5)).seen
    hook = HookSettings(address="tcp://127.0.0.1:1", calibration=CALIBRATION, region=(50, 0, 64, 64))
    beside = AcquisitionProcess(settings(folder / "beside"), hook=hook)
    report = beside.run(lambda progress: None)
    answer["beside"] = [report.failure, report.hook is None, [path.name for path in folder.glob("beside/*")]]
    return answer


def simulator_error(folder: Path) -> dict:
    """Break the camera in a sequence and in a snap."""
    return {
        "sequence": failure(settings(folder / "a", camera=partial(PatternCamera, broken_at=30))),
        "snap": failure(settings(folder / "b", camera=partial(PatternCamera, broken_at=0), n_frames=1)),
    }


def slow_hook(folder: Path) -> dict:
    """Let the hook be slower than the camera until the core's buffer overflows."""
    return failure(
        settings(folder, n_frames=3000, exposure_ms=1, camera=partial(PatternCamera, shape=(512, 512)), buffer_mb=4),
        make_hook=lambda dataset: lambda image, metadata: time.sleep(0.02),
    )


def raising_hook(folder: Path) -> dict:
    """Let the hook raise."""

    def hook(image: NDArray, metadata: dict) -> None:
        if metadata["Axes"]["time"] == 20:
            raise KeyError("nothing there")

    return failure(settings(folder), make_hook=lambda dataset: hook)


def full_disk(folder: Path) -> dict:
    """Let the disk be full after 25 frames, with all queues full behind it."""
    from ndstorage.ndtiff_dataset import NDTiffDataset

    put_image = NDTiffDataset.put_image
    count = 0

    def put_some(self: NDTiffDataset, *args: object) -> None:
        nonlocal count
        count += 1
        if count > 25:
            time.sleep(0.5)
            raise OSError(28, "No space left on device")
        put_image(self, *args)

    NDTiffDataset.put_image = put_some
    answer = {}
    try:
        for name, options in (
            ("hooked", {"make_hook": lambda dataset: lambda image, metadata: None}),
            ("plain", {}),
        ):
            count = 0
            answer[name] = failure(settings(folder / name, n_frames=1000), **options)
    finally:
        NDTiffDataset.put_image = put_image
    return answer


def stop(folder: Path) -> dict:
    """Stop early: once frames come, and while the engine still takes in its many events."""
    answer = {}
    for name, least, n_frames in (("middle", 1, 5000), ("at once", 0, 100_000)):
        event = threading.Event()
        if not least:
            event.set()

        def tell(progress: AcquisitionProgress, event: threading.Event = event, least: int = least) -> None:
            if progress.saved >= least:
                event.set()

        result = acquire(settings(folder / name, n_frames=n_frames), stop=event, on_progress=tell)
        saved = frames_of(result.dataset) if result.saved else np.empty((0, 48, 64))
        expected = np.array([pattern(i, (48, 64)) for i in range(len(saved))]).reshape(saved.shape)
        answer[name] = [result.stopped, result.seen == result.saved == len(saved), len(saved)]
        assert np.array_equal(saved, expected)
    return answer


def stall(folder: Path) -> dict:
    """Let the hook never return: nothing can end that but leaving the process."""
    engine_run._ABORT_PATIENCE_S = 1.0
    return failure(
        settings(folder, n_frames=1000, stall_timeout_s=1.0),
        make_hook=lambda dataset: lambda image, metadata: threading.Event().wait(),
    )


def chatty_camera() -> PatternCamera:
    """Print to Python's and to C's own streams, as drivers do."""
    import os

    print("chatter from Python")
    os.write(2, b"chatter from C\n")
    return PatternCamera()


def crashing_camera() -> PatternCamera:
    """End the process the hard way."""
    import os

    os.abort()


def sleeping_camera() -> PatternCamera:
    """Never come back."""
    threading.Event().wait()
    raise AssertionError


def process(folder: Path) -> dict:
    """Run in a child process, without a hook: well, failing, crashing."""
    answer = {}
    for name, camera in (
        ("good", chatty_camera),
        ("failing", partial(PatternCamera, broken_at=30)),
        ("crashing", crashing_camera),
        ("hanging", sleeping_camera),
    ):
        if name == "hanging":
            process_module._PATIENCE_S["starting"] = 2.0
        process = AcquisitionProcess(settings(folder / name, camera=camera))
        report = process.run()
        answer[name] = {
            "failure": report.failure,
            "saved": None if report.result is None else report.result.saved,
            "readable": len(frames_of(report.result.dataset)) if report.result else None,
            "log": process.log.read_text(),
        }
    return answer


def process_with_hook(folder: Path, address: str) -> dict:
    """Run in a child process that feeds a server."""
    progress = []
    report = AcquisitionProcess(
        settings(folder, n_frames=300),
        hook=HookSettings(address=address, calibration=CALIBRATION, name="pattern"),
    ).run(progress.append)
    return {
        "failure": report.failure,
        "saved": report.result.saved,
        "offered": report.hook.offered,
        "complete": report.hook.complete,
        "folder": report.hook.folder,
        "phases": list(dict.fromkeys(p.phase for p in progress)),
        "counted": max((p.hook.offered for p in progress if p.hook), default=0),
    }


class SpotCamera(PatternCamera):
    """A spot elsewhere in each frame."""

    def __init__(self) -> None:
        super().__init__((24, 32))

    def render(
        self, frame: int, x: int, y: int, w: int, h: int, binning: int, exposure_ms: float, out: NDArray
    ) -> None:
        rows, columns = np.indices(self.shape)
        at_row, at_column = 6 + frame * 7 % 13, 6 + frame * 11 % 19
        out[...] = 105 + 2000 * np.exp(-((rows - at_row) ** 2 + (columns - at_column) ** 2) / 3)


def channels_and_z(folder: Path, address: str) -> dict:
    """Go through channels and z as a user's script does, with the hook as its ``image_process_fn``."""
    from pycromanager import Acquisition, multi_d_acquisition_events

    events = multi_d_acquisition_events(
        num_time_points=6, channel_group="Channel", channels=["Cy5", "DAPI"], z_start=0, z_end=1, z_step=1, order="tcz"
    )
    with open_core(settings(folder, n_frames=len(events), exposure_ms=1, camera=SpotCamera)):
        hook = StreamHook(address, calibration=CALIBRATION, name="cell", outbox_mb=4)
        with Acquisition(directory=str(folder), name="raw", image_process_fn=hook, show_display=False) as acquisition:
            raw = acquisition.get_dataset().path
            acquisition.acquire(events)
        report = hook.close()
    return {"offered": report.offered, "complete": report.complete, "folder": report.folder, "raw": raw}


def process_interrupted(folder: Path) -> dict:
    """Tell when frames come, for the test to press Ctrl-C; end in order."""
    # A shell that starts its jobs in the background gives them a SIGINT that is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    told = []

    def tell(progress: object) -> None:
        if progress.seen and not told:
            told.append(True)
            print("running", flush=True)

    report = AcquisitionProcess(settings(folder, n_frames=30_000)).run(tell)
    return {
        "failure": report.failure,
        "stopped": report.result.stopped,
        "saved": report.result.saved,
        "readable": len(frames_of(report.result.dataset)),
    }


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve(globals())
    else:
        print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))), flush=True)
