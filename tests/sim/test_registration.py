"""Truth and light at the same place, to a nanometre, whatever lies between them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stormlive_sim.blinking import Blinking
from stormlive_sim.drift import Drift
from stormlive_sim.emitters import Emitters
from stormlive_sim.focus import Focus
from stormlive_sim.movie import Scene, SceneSettings
from stormlive_sim.sensor import Sensor
from stormlive_sim.simulated_camera import SimulatedCamera
from stormlive_sim.structure_kinds import Uniform

EXPOSURE_MS = 30.0
# So few and so bright that a frame has one emitter whose centroid the noise leaves alone.
LONELY = SceneSettings(
    shape=(44, 52),
    structure=(Uniform(per_um2=100),),
    density_per_um2=0.01,
    blinking=Blinking(on_ms=40, photons_per_ms=3e6 / EXPOSURE_MS),
    background_photons_per_ms=0.0,
    sensor=Sensor(electrons_per_adu=20.0, baseline_adu=100.0, read_noise_e=1.5),
)
FOCUS = {
    "in focus": Focus(),
    "defocused": Focus(defocus_nm=350),
    "astigmatic": Focus(astigmatism_nm=200, sample_depth_nm=400),
    "deep": Focus(sample_depth_nm=800, defocus_nm=-100, astigmatism_nm=60),
}
DRIFT = {
    "still": Drift(),
    "steady": Drift(x_nm_per_s=7.3, y_nm_per_s=-4.1),
    "walk": Drift(x_nm_per_s=-2, walk_nm_per_sqrt_s=15),
}


def lonely_frames(scene: Scene, start: int, n: int) -> list[tuple[int, Emitters]]:
    """Frames from `start` on in which a single emitter shines, well inside the field and for most of the frame."""
    found = []
    for frame in range(start, start + 5000):
        table = scene.emitters(frame, EXPOSURE_MS)
        if len(table) == 1 and 1500 < table.x_nm < 3700 and 1500 < table.y_nm < 2900 and table.photons > 1e6:
            found.append((frame, table))
        if len(found) == n:
            return found
    raise AssertionError("no frame with a single emitter")


def centroid_nm(image: torch.Tensor) -> tuple[float, float]:
    image = image.double()
    x = (image.sum(0) * (torch.arange(image.shape[1]) + 0.5)).sum() / image.sum()
    y = (image.sum(1) * (torch.arange(image.shape[0]) + 0.5)).sum() / image.sum()
    return 100 * x.item(), 100 * y.item()


@pytest.mark.parametrize("drift", DRIFT.values(), ids=DRIFT.keys())
@pytest.mark.parametrize("focus", FOCUS.values(), ids=FOCUS.keys())
def test_light_is_where_the_truth_says_and_as_much(focus: Focus, drift: Drift) -> None:
    scene = Scene(replace(LONELY, focus=focus, drift=drift))
    for start in (0, 100_000):
        for frame, table in lonely_frames(scene, start, 2):
            image = scene.photons(frame, EXPOSURE_MS)
            assert centroid_nm(image) == pytest.approx((table.x_nm.item(), table.y_nm.item()), abs=0.1)
            assert image.sum().item() == pytest.approx(table.photons.item(), rel=3e-5)


def test_the_camera_sees_it_there_too_in_a_region_and_binned() -> None:
    settings = replace(LONELY, focus=FOCUS["deep"], drift=DRIFT["walk"])
    camera, scene = SimulatedCamera(settings), Scene(settings)
    for frame, table in lonely_frames(scene, 500, 3):
        for x, y, w, h, binning in ((0, 0, 52, 44, 1), (5, 3, 42, 36, 1), (1, 2, 24, 18, 2)):
            out = np.zeros((h, w), np.uint16)
            camera.render(frame, x, y, w, h, binning, EXPOSURE_MS, out)
            # A threshold keeps the noise of empty pixels, far from the emitter, from pulling at the centroid.
            light = torch.from_numpy(out.astype(np.float64) - 100)
            light[light < 5 * binning] = 0
            seen_x, seen_y = centroid_nm(light)
            assert (binning * seen_x + 100 * x * binning) == pytest.approx(table.x_nm.item(), abs=1)
            assert (binning * seen_y + 100 * y * binning) == pytest.approx(table.y_nm.item(), abs=1)


def test_truth_is_the_label_moved_by_the_drift() -> None:
    scene = Scene(replace(LONELY, density_per_um2=2.0, drift=Drift(x_nm_per_s=40, y_nm_per_s=-30)))
    for frame in (0, 7, 3000, 100_000):
        site, _ = scene.sample.seen(frame * EXPOSURE_MS, (frame + 1) * EXPOSURE_MS)
        table = scene.emitters(frame, EXPOSURE_MS)
        x, y = scene.drift_nm(frame, EXPOSURE_MS)
        assert (x, y) == pytest.approx((40 * (frame + 0.5) * 0.03, -30 * (frame + 0.5) * 0.03))
        # Whole rounds of the sample apart, where it went round: 44 or 52 pixels and a margin of 15 on each side.
        rounds_x = (table.x_nm - x - scene.sample.sites_nm[site, 0]) / 8200
        rounds_y = (table.y_nm - y - scene.sample.sites_nm[site, 1]) / 7400
        for rounds in (rounds_x, rounds_y):
            assert (rounds - rounds.round()).abs().max() * 8200 < 0.1
        if frame < 700:
            assert rounds_x.round().abs().max() == 0


def test_a_sample_that_drifts_far_keeps_its_density() -> None:
    scene = Scene(replace(LONELY, density_per_um2=2.0, drift=Drift(x_nm_per_s=500)))
    first, last = (
        sum(len(scene.truth(frame, EXPOSURE_MS)) for frame in range(start, start + 60)) for start in (0, 100_000)
    )
    assert last == pytest.approx(first, rel=0.15)
    assert first > 1000
