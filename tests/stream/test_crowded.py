"""The gauge on simulated movies of known density: it must not be green where the network cannot tell emitters apart."""

from typing import Any

import pytest
import torch

from stormlive.server.engine import Engine
from stormlive.wire.calibration import Calibration
from stormlive_models.judge.artifacts import artifact_map
from stormlive_models.judge.frames import Frames
from stormlive_models.judge.mismatch import Figures, Trained
from stormlive_models.judge.verdict import light_of_emitters, verdict
from stormlive_sim.blinking import Blinking
from stormlive_sim.movie import Scene, SceneSettings

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=20)
SIDE, N, LOOK = 32, 96, 16


@pytest.fixture(scope="module")
def small() -> Engine:
    return Engine("small", "cpu:torch")


def judged(engine: Engine, **settings: Any) -> tuple[float, Figures, str]:  # noqa: ANN401
    """Return the density that the network counts, the figures, and the light."""
    scene = Scene(SceneSettings(shape=(SIDE, SIDE), seed=3, **settings))
    frames = torch.stack([frame for frame, _ in scene.frames(N, CALIBRATION.exposure_ms)]).numpy()
    reconstruction = engine.open((SIDE, SIDE), CALIBRATION)
    notes = Frames(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, usual_sigma_nm=120)
    for first in range(0, N, LOOK):
        reconstruction.add(frames[first : first + LOOK])
        notes.see(frames[first : first + LOOK])
    canvas = reconstruction.canvas()
    counted = float(canvas.sum()) / N / (SIDE * 0.1) ** 2
    compared = artifact_map(canvas.reshape(2 * SIDE, 4, 2 * SIDE, 4).sum((1, 3)), reconstruction.widefield(), N)
    assert compared is not None
    known = Figures(psf_sigma_nm=115.0, density_per_um2=counted)
    figures = light_of_emitters(known, compared, 100, notes.crowd(compared))
    trained = Trained.from_card(reconstruction.model.card.training, 100.0)
    light = verdict(figures, trained, blinking=notes.blinking, compared=compared, n_frames=100)
    return counted, figures, light.gauge


@pytest.mark.parametrize(
    ("density", "most_counted", "gauges"),
    [
        (3.0, 5.0, {"green"}),
        (8.0, 8.0, {"green"}),
        (16.0, 8.0, {"red"}),
    ],
)
def test_the_density_is_right_where_the_networks_count_is_not(
    small: Engine, density: float, most_counted: float, gauges: set[str]
) -> None:
    counted, figures, gauge = judged(small, density_per_um2=density)
    assert counted < most_counted
    assert figures.density_per_um2 == pytest.approx(density, rel=0.35)
    assert figures.photons == pytest.approx(1000, rel=0.25)
    assert gauge in gauges


@pytest.mark.parametrize(
    ("settings", "gauges"),
    [
        # In an even field nothing tells background from emitters: the agreement with the widefield turns the light.
        ({"structure": "uniform", "density_per_um2": 16.0}, {"amber", "red"}),
        ({"density_per_um2": 3.0, "haze_photons_per_ms": 3.0}, {"green"}),
        ({"density_per_um2": 3.0, "blinking": Blinking(on_ms=400)}, {"green"}),
    ],
    ids=["uniform", "haze", "slow"],
)
def test_neither_haze_nor_slow_emitters_make_a_crowd(small: Engine, settings: dict[str, Any], gauges: set[str]) -> None:
    assert judged(small, **settings)[2] in gauges
