"""The artifact map on simulated movies, with the truth as the canvas and faults planted in it."""

from functools import lru_cache

import numpy as np
import pytest

from stormlive_models.judge.artifacts import artifact_map
from stormlive_sim.movie import Scene, SceneSettings, truth_image

N, SIDE = 150, 64
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE] + 0.5


@lru_cache
def simulated(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the true emitters on half pixels (blurred by 15 nm), and the widefield mean in photons."""
    scene = Scene(SceneSettings(density_per_um2=1.0, background_photons_per_ms=0.7, seed=seed))
    mean = np.mean([frame.numpy().astype(np.float64) for frame, _ in scene.frames(N, 30.0)], 0)
    canvas = truth_image(scene, N, 30.0, 2, sigma_nm=15.0).numpy()
    return canvas, ((mean - 100) * 0.5).astype(np.float32)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_correct_canvas_agrees_everywhere(seed: int) -> None:
    canvas, widefield = simulated(seed)
    found = artifact_map(canvas, widefield, N)
    assert found is not None
    assert found.rsp > 0.97
    assert not found.marked.any()
    assert found.excess.min() >= -1
    assert found.excess.max() <= 1
    # The PSF's width, and the background of 21 photons.
    assert found.sigma_px == pytest.approx(1.15, abs=0.1)
    assert found.offset == pytest.approx(21, rel=0.03)
    assert found.rse == pytest.approx(float(np.sqrt((found.error.astype(float) ** 2).mean())), rel=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_missing_is_marked_and_nothing_else(seed: int) -> None:
    canvas, widefield = simulated(seed)
    gone = canvas.copy()
    gone[:, :40] = 0
    found = artifact_map(gone, widefield, N)
    assert found is not None
    assert found.rsp < 0.9
    bright = widefield > np.percentile(widefield, 70)
    lost = (COLUMNS < 17) & (COLUMNS > 4) & (ROWS > 4) & (ROWS < 60) & bright
    assert found.marked[lost].mean() > 0.8
    assert (found.excess[lost] > 0).all()
    # As far as the light of what is gone reaches.
    assert not found.marked[COLUMNS > 20 + 3.5].any()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_made_up_filament_is_marked_along_its_length_and_nothing_else(seed: int) -> None:
    canvas, widefield = simulated(seed)
    rows, columns = (np.mgrid[: 2 * SIDE, : 2 * SIDE] + 0.5) / 2
    distance = np.abs(rows - 0.5 * columns - 20) / np.hypot(1, 0.5)
    # As many emitters per length as a third of the picture's, spread over the three filaments' worth of it.
    line = np.exp(-0.5 * (distance / 0.3) ** 2)
    found = artifact_map(canvas + line * (canvas.sum() / 3 / line.sum()), widefield, N)
    assert found is not None
    distance = np.abs(ROWS - 0.5 * COLUMNS - 20) / np.hypot(1, 0.5)
    inside = (COLUMNS > 4) & (COLUMNS < 60)
    # Where the true structure is bright, the false one drowns in it.
    dark = widefield < np.percentile(widefield, 60)
    assert found.marked[(distance < 1) & inside & dark].mean() > 0.9
    assert (found.excess[(distance < 1) & inside & dark] < 0).all()
    assert found.marked[distance > 5].mean() < 0.01
    assert found.sigma_px == pytest.approx(1.15, abs=0.12)


def test_a_made_up_blob_is_marked_and_nothing_else() -> None:
    canvas, widefield = simulated(0)
    row, column = np.unravel_index(widefield[10:50, 10:50].argmin(), (40, 40))
    planted = canvas.copy()
    planted[2 * (row + 10), 2 * (column + 10)] += canvas.sum() / 50
    found = artifact_map(planted, widefield, N)
    assert found is not None
    distance = np.hypot(ROWS - row - 10.5, COLUMNS - column - 10.5)
    assert found.marked[distance < 1.5].all()
    assert not found.marked[distance > 5].any()


def test_shot_noise_of_few_frames_is_no_artifact() -> None:
    scene = Scene(SceneSettings(density_per_um2=1.0, seed=3))
    frames = [frame.numpy().astype(np.float64) for frame, _ in scene.frames(4, 30.0)]
    widefield = ((np.mean(frames, 0) - 100) * 0.5).astype(np.float32)
    found = artifact_map(truth_image(scene, 4, 30.0, 2, sigma_nm=15.0).numpy(), widefield, 4)
    assert found is not None
    assert not found.marked.any()


def test_nothing_to_compare() -> None:
    empty = np.zeros((16, 16), np.float32)
    assert artifact_map(empty, empty + 1, 5) is None
    assert artifact_map(empty + 1, empty, 5) is None
    with pytest.raises(ValueError, match="expected a canvas n times"):
        artifact_map(empty[:, :8], empty, 5)
    for side in (1, 2, 5):
        noise = np.random.default_rng(side).random((side, side)).astype(np.float32)
        found = artifact_map(noise, noise + 1, 5)
        assert found is None or not found.marked.any()
