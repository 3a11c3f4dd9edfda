"""The simulated cameras that a command can name, built in the process that acquires."""

import math
import time
from functools import partial

import numpy as np
import torch
from msgspec.structs import replace

from stormlive.acquire.request import MICROTUBULES, Simulated
from stormlive.wire.calibration import Calibration
from stormlive_sim.blinking import Blinking
from stormlive_sim.camera import Camera
from stormlive_sim.errors import InputError
from stormlive_sim.movie import SceneSettings
from stormlive_sim.scene_file import find_scene, read_scene
from stormlive_sim.sensor import emccd
from stormlive_sim.simulated_camera import SimulatedCamera


def demo_scene(shape: tuple[int, int], calibration: Calibration, seed: int) -> SceneSettings:
    """Return simulated microtubules under a camera of this calibration, bright enough for its exposure."""
    exposure_ms = calibration.exposure_ms
    return SceneSettings(
        shape=shape,
        pixel_size_nm=calibration.pixel_size_nm,
        psf_sigma_nm=115.0,
        density_per_um2=1.2,
        blinking=Blinking(on_ms=1.3 * exposure_ms, photons_per_ms=1500 / exposure_ms),
        background_photons_per_ms=20 / exposure_ms,
        sensor=emccd(calibration.baseline_adu, calibration.photons_per_adu),
        seed=seed,
    )


def sample(source: Simulated, calibration: Calibration) -> SceneSettings:
    """Return what a simulated camera of this calibration looks at.

    Raises
    ------
    InputError
        When its scene is none.
    """
    if source.scene == MICROTUBULES:
        return demo_scene(source.shape, calibration, seed=0)
    scene = read_scene(find_scene(source.scene))
    height, width = source.shape
    camera = {"baseline_adu": calibration.baseline_adu, "photons_per_adu": calibration.photons_per_adu}
    return replace(
        scene,
        movie=replace(scene.movie, size=(width, height), exposure_ms=calibration.exposure_ms),
        optics=replace(scene.optics, pixel_size_nm=calibration.pixel_size_nm),
        camera=replace(scene.camera, **camera),
    ).settings()


def simulated_camera(settings: SceneSettings) -> partial[Camera]:
    """Return what builds a camera on a simulated sample."""
    return partial(_simulated, settings)


def refuse_too_fast(settings: SceneSettings, exposure_ms: float) -> None:
    """Raise an InputError when this machine cannot simulate frames as fast as the camera would take them."""
    camera = _simulated(settings)
    height, width = settings.shape
    out = np.empty(settings.shape, np.uint16)
    times = []
    for frame in range(7):
        started = time.perf_counter()
        camera.render(frame, 0, 0, width, height, 1, exposure_ms, out)
        times.append(1000 * (time.perf_counter() - started))
    # The fastest: a machine that is busy for a moment is not too slow.
    if min(times) > exposure_ms:
        raise InputError(
            f"this machine takes {min(times):.1f} ms to simulate a frame of {width}x{height}, the exposure is "
            f"{exposure_ms:g} ms; choose an --exposure-ms of at least {math.ceil(2 * min(times))} or less --size"
        )


def _simulated(settings: SceneSettings) -> Camera:
    # A frame is too little work to share, and beside a busy network sharing it means waiting for the other core.
    torch.set_num_threads(1)
    return SimulatedCamera(settings)
