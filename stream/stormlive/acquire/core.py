"""Micro-Manager's core in this process: loaded, given its camera, and set up for one acquisition."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stormlive.acquire.acquisition import AcquisitionError, AcquisitionSettings, check_roi
from stormlive.acquire.simulated_core import SimulatedCore
from stormlive.wire.text import one_line
from stormlive_sim.camera import Camera
from stormlive_sim.errors import InputError

_DEMO_CONFIG = "MMConfig_demo.cfg"
# The core touches all of its buffer at once; a larger one only hides that the hook or the disk is too slow.
_LEAST_BUFFER_MB, _MOST_BUFFER_MB = 16, 512


@dataclass(frozen=True, kw_only=True)
class OpenCore:
    """A running core, ready to acquire; `simulated` is None on a real microscope."""

    core: Any
    simulated: SimulatedCore | None


@contextmanager
def open_core(settings: AcquisitionSettings) -> Iterator[OpenCore]:
    """Start the core for `settings` without acquiring; it is unloaded at the end."""
    from mmpycorex import is_pymmcore_active, terminate_core_instances
    from pycromanager.acquisition.acq_eng_py.internal.engine import Engine

    if is_pymmcore_active():
        raise RuntimeError("Micro-Manager's core is already running in this process; close it first")
    camera = None if settings.camera is None else settings.camera()
    if camera is not None:
        _check_camera(camera, settings)
    core = _load_core(settings)
    stuck = False
    try:
        simulated = None
        if camera is not None:
            _become(core, camera, settings)
            simulated = SimulatedCore(core, camera)
        _configure(core, settings)
        Engine(core)
        yield OpenCore(core=core, simulated=simulated)
    except AcquisitionError as error:
        stuck = error.stuck
        raise
    finally:
        if not stuck:
            engine = Engine.get_instance()
            if engine is not None:
                engine.shutdown()
                # Without this the next core of this process would be driven by this engine.
                del Engine.singleton
            terminate_core_instances()


def _check_camera(camera: Camera, settings: AcquisitionSettings) -> None:
    if camera.n_frames is not None and settings.n_frames > camera.n_frames:
        raise InputError(
            f"expected at most the {camera.n_frames} frames that the simulated camera has, got "
            f"{settings.n_frames} to acquire; ask for fewer, or let the movie loop"
        )
    if camera.bit_depth > 16:
        raise InputError(f"expected a camera of at most 16 bits, got {camera.bit_depth}")


def _load_core(settings: AcquisitionSettings) -> Any:  # noqa: ANN401 - a class made at run time
    import mm_test_adapters
    from mmpycorex import Core, create_core_instance

    adapters = Path(mm_test_adapters.device_adapter_path())
    folder = adapters if settings.mm_dir is None else settings.mm_dir
    if settings.mm_dir is not None:
        # On Windows the vendors' libraries beside the adapters are found through it.
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    config = adapters / _DEMO_CONFIG if settings.mm_config is None else settings.mm_config
    if not folder.is_dir():
        raise InputError(f"expected Micro-Manager's folder at {folder}, but there is none; check the path")
    if not config.is_file():
        raise InputError(
            f"expected a Micro-Manager configuration file at {config}, but there is none; check the path, or "
            "write one with Micro-Manager's Hardware Configuration Wizard"
        )
    try:
        create_core_instance(str(folder), str(config.resolve()), python_backend=True, buffer_size_mb=_LEAST_BUFFER_MB)
    # What pymmcore raises for the core's own errors.
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"Micro-Manager could not load {config}: {one_line(error)}; device adapters were sought in "
            f"{folder}: name the folder of your Micro-Manager if they lie elsewhere, of a version that fits "
            f"pymmcore {version('pymmcore')}"
        ) from None
    core = Core()
    if not core.get_camera_device():
        from mmpycorex import terminate_core_instances

        terminate_core_instances()
        raise InputError(
            f"expected a configuration with a camera, got none in {config}; add a line Property,Core,Camera,NAME"
        )
    return core


def _become(core: Any, camera: Camera, settings: AcquisitionSettings) -> None:  # noqa: ANN401
    """Give the DemoCamera the sensor of the simulated camera."""
    label = core.get_camera_device()
    height, width = camera.shape
    try:
        core.set_property(label, "OnCameraCCDXSize", str(width))
        core.set_property(label, "OnCameraCCDYSize", str(height))
    except (OSError, RuntimeError):
        raise InputError(
            f"expected a sensor that Micro-Manager's DemoCamera can have (16 × 16 pixels or more), got "
            f"{width} × {height}; use a larger movie"
        ) from None
    core.set_property(label, "PixelType", "8bit" if camera.bit_depth <= 8 else "16bit")
    core.set_property(label, "FastImage", "1")  # its own pattern generator is slow, and painted over
    if settings.pixel_size_nm is not None:
        core.set_pixel_size_um(core.get_current_pixel_size_config(), settings.pixel_size_nm / 1000)


def _configure(core: Any, settings: AcquisitionSettings) -> None:  # noqa: ANN401
    label = core.get_camera_device()
    _set_binning(core, label, settings.binning)
    core.clear_roi()
    if settings.roi is not None:
        _set_roi(core, settings.roi)
    try:
        core.set_exposure(settings.exposure_ms)
        exposure_ms = core.get_exposure()
    except (OSError, RuntimeError) as error:
        raise InputError(f"the camera refuses an exposure of {settings.exposure_ms} ms: {one_line(error)}") from None
    if not math.isclose(exposure_ms, settings.exposure_ms, rel_tol=0.05):
        raise InputError(
            f"expected an exposure of {settings.exposure_ms:g} ms, got {exposure_ms:g} ms from the camera; "
            "ask for one that it can do"
        )
    _refuse_colour(core, label)
    width, height = core.get_image_width(), core.get_image_height()
    buffer_mb = settings.buffer_mb or _buffer_mb(width * height * core.get_bytes_per_pixel(), exposure_ms)
    try:
        core.set_circular_buffer_memory_footprint(buffer_mb)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the core refuses a buffer of {buffer_mb} MiB for frames of {width} × {height} pixels: "
            f"{one_line(error)}; choose another size"
        ) from None


def _refuse_colour(core: Any, label: str) -> None:  # noqa: ANN401
    channels, samples = core.get_number_of_camera_channels(), core.get_number_of_components()
    if channels != 1 or samples != 1 or core.get_bytes_per_pixel() not in (1, 2):
        raise InputError(
            f"expected a camera of one channel with grey pixels of 8 or 16 bit, got {label} with {channels} channels, "
            f"{samples} samples and {core.get_bytes_per_pixel()} bytes per pixel; "
            "set its pixel type in the configuration"
        )


def _set_binning(core: Any, label: str, binning: int) -> None:  # noqa: ANN401
    if not core.has_property(label, "Binning"):
        if binning != 1:
            raise InputError(f"the camera {label} cannot bin; use binning 1")
        return
    # Some adapters name it "2", others "2x2".
    names = list(core.get_allowed_property_values(label, "Binning")) or [str(binning)]
    name = next((name for name in names if name in (str(binning), f"{binning}x{binning}")), None)
    if name is None:
        raise InputError(f"expected a binning of {', '.join(sorted(names))} for {label}, got {binning}")
    core.set_property(label, "Binning", name)


def _set_roi(core: Any, roi: tuple[int, int, int, int]) -> None:  # noqa: ANN401
    # Not every camera adapter checks it: DemoCamera invents pixels beyond its sensor.
    check_roi(roi, (core.get_image_height(), core.get_image_width()))
    try:
        core.set_roi(*roi)
    except (OSError, RuntimeError) as error:
        raise InputError(f"the camera refuses the region {roi}: {one_line(error)}") from None
    got = tuple(core.get_roi())
    if got != tuple(roi):
        raise InputError(f"expected the region {tuple(roi)}, got {got} from the camera; ask for one that it can do")


def _buffer_mb(frame_bytes: int, exposure_ms: float) -> int:
    frames = max(64, math.ceil(500 / exposure_ms))
    return min(max(math.ceil(frames * frame_bytes / 2**20), _LEAST_BUFFER_MB), _MOST_BUFFER_MB)
