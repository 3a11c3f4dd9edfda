"""The cameras that a command can name, built in the process that acquires."""

from functools import partial
from pathlib import Path

from stormlive.wire.messages import Calibration
from stormlive_sim.blinking import Blinking
from stormlive_sim.camera import Camera, MovieCamera
from stormlive_sim.movie import SceneSettings
from stormlive_sim.recording import Recording
from stormlive_sim.sensor import emccd
from stormlive_sim.simulated_camera import SimulatedCamera


def demo_scene(shape: tuple[int, int], calibration: Calibration, seed: int) -> SceneSettings:
    """Return simulated microtubules under a camera of this calibration, bright enough for its exposure."""
    exposure_ms = calibration.exposure_ms
    return SceneSettings(
        shape=shape,
        pixel_size_nm=calibration.pixel_size_nm,
        psf_sigma_nm=1.15 * calibration.pixel_size_nm,
        density_per_um2=1.2,
        blinking=Blinking(on_ms=1.3 * exposure_ms, photons_per_ms=1500 / exposure_ms),
        background_photons_per_ms=20 / exposure_ms,
        sensor=emccd(calibration.baseline_adu, calibration.photons_per_adu),
        seed=seed,
    )


def simulated_camera(settings: SceneSettings) -> partial[Camera]:
    """Return what builds a camera on a simulated sample."""
    return partial(_simulated, settings)


def movie_camera(path: Path) -> partial[Camera]:
    """Return what builds a camera that plays a recorded movie."""
    return partial(_movie, path)


def _simulated(settings: SceneSettings) -> Camera:
    return SimulatedCamera(settings)


def _movie(path: Path) -> Camera:
    return MovieCamera(Recording.open(path))
