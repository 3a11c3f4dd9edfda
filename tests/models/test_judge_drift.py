"""Drift that is known, found in simulated microtubules; and the picture without it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stormlive_models.frc import ring_correlation
from stormlive_models.judge.drift import Correlator, align
from stormlive_models.judge.slabs import SLAB_FRAMES, Slabs
from stormlive_models.judge.sparse import Sparse
from stormlive_sim.drift import Drift
from stormlive_sim.movie import Scene, SceneSettings
from stormlive_sim.psf import render_gaussians

PIXEL_NM, SIDE, EXPOSURE_MS = 12.5, 400, 20.0
WHOLE = (slice(0, SIDE), slice(0, SIDE))
GRID = 100 // 12.5


def recorded(
    n_slabs: int, frames: int, *, seed: int, density: float = 1.0, drift: bool = True
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return what stretches of frames add to a canvas (localized to 15 nm), where the sample was in each, nm, and the
    picture of all without drift.

    It creeps by 100 nm along x and walks at random.
    """
    seconds = n_slabs * frames * EXPOSURE_MS / 1000
    moves = Drift(x_nm_per_s=100 / seconds, y_nm_per_s=-60 / seconds, walk_nm_per_sqrt_s=3.0) if drift else Drift()
    scene = Scene(SceneSettings(shape=(50, 50), density_per_um2=density, drift=moves, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    slabs, where, still = [], [], torch.zeros(1, SIDE, SIDE)
    for k in range(n_slabs):
        numbers = range(k * frames, (k + 1) * frames)
        positions = [scene.drift_nm(n, EXPOSURE_MS) for n in numbers]
        tables = [scene.truth(n, EXPOSURE_MS) for n in numbers]
        xy, back = (
            torch.cat([torch.stack((t.x_nm, t.y_nm), 1) - way for t, way in zip(tables, ways, strict=True)])
            for ways in ([0] * frames, [torch.tensor(p) for p in positions])
        )
        error = 15 * torch.randn(xy.shape, generator=generator)
        picture = torch.zeros(1, SIDE, SIDE)
        for canvas, points in ((picture, xy), (still, back)):
            x, y = ((points + error) / PIXEL_NM).T
            zero = torch.zeros(len(x), dtype=torch.long)
            render_gaussians(canvas, zero, x, y, torch.ones(len(x)), torch.tensor(1.0), radius=4)
        slabs.append(picture[0].numpy())
        where.append(np.mean(positions, 0))
    return slabs, np.array(where) - where[0], still[0].numpy()


def rms_nm(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.sqrt(((found - true) ** 2).sum(1).mean()))


@pytest.mark.parametrize("seed", [0, 1])
def test_known_drift_of_100_nm_is_found_within_10_nm(seed: int) -> None:
    slabs, true, _ = recorded(15, 80, seed=seed)
    assert np.abs(true).max() > 60
    correlator = Correlator((SIDE, SIDE), PIXEL_NM)
    found = align(correlator, [correlator.spectrum(slab) for slab in slabs], [])
    assert all(one.is_sure for one in found)
    assert rms_nm(np.array([one.shift_nm for one in found]), true) < 5


def test_a_still_sample_does_not_drift() -> None:
    slabs, _, _ = recorded(8, 80, seed=2, drift=False)
    correlator = Correlator((SIDE, SIDE), PIXEL_NM)
    found = align(correlator, [correlator.spectrum(slab) for slab in slabs], [])
    assert rms_nm(np.array([one.shift_nm for one in found]), np.zeros((8, 2))) < 5


def test_a_grid_of_the_camera_does_not_hold_the_drift_at_zero() -> None:
    slabs, true, _ = recorded(10, 80, seed=3)
    # A network that prefers the middles of camera pixels: half of all light goes there.
    grid = np.zeros((SIDE, SIDE))
    grid[4::8, 4::8] = 1
    mixed = [slab * (1 + 32 * grid * 0.5) for slab in slabs]
    correlator = Correlator((SIDE, SIDE), PIXEL_NM)
    found = align(correlator, [correlator.spectrum(slab) for slab in mixed], [])
    assert rms_nm(np.array([one.shift_nm for one in found]), true) < 15


def test_noise_is_not_taken_for_a_shift() -> None:
    generator = np.random.default_rng(0)
    correlator = Correlator((SIDE, SIDE), PIXEL_NM)
    pictures = [generator.poisson(0.01, (SIDE, SIDE)).astype(np.float32) for _ in range(6)]
    found = align(correlator, [correlator.spectrum(picture) for picture in pictures], [])
    assert not any(one.is_sure for one in found[1:])
    assert {one.shift_nm for one in found} == {(0.0, 0.0)}


def test_the_corrected_canvas_is_sharp_again_and_has_every_frame() -> None:
    parts, true, still = recorded(24, SLAB_FRAMES // 2, seed=4)
    slabs = Slabs(PIXEL_NM, (SIDE, SIDE), WHOLE, most=8)
    for part in parts:
        slabs.add(part, SLAB_FRAMES // 2)
    assert len(slabs.slabs) == 8
    assert sum(slab.n_frames for slab in slabs.slabs) == 12 * SLAB_FRAMES
    path = np.array(slabs.path())
    expected = np.array([np.interp(path[:, 0], (np.arange(24) + 0.5) * SLAB_FRAMES / 2, axis) for axis in true.T]).T
    assert rms_nm(path[:, 1:] - path[0, 1:], expected - expected[0]) < 10
    assert slabs.drift_nm == pytest.approx(path[-1, 1:])
    assert slabs.greatest_nm > 60

    corrected, plain = slabs.corrected(), np.sum(parts, 0)
    assert corrected is not None
    first = true[:2].mean(0) / PIXEL_NM
    aligned = np.zeros_like(still)
    Sparse.of(still).add_to(aligned, (first[0], first[1]))
    inner = slice(20, -20)

    def likeness(picture: np.ndarray) -> float:
        return float(np.corrcoef(picture[inner, inner].ravel(), aligned[inner, inner].ravel())[0, 1])

    assert likeness(corrected) > 0.8
    assert likeness(corrected) > likeness(plain) + 0.3
    # The two halves agree as finely as those of a sample that kept still, and not as those of the plain canvas.
    finest = {
        name: ring_correlation(first, second, PIXEL_NM).resolution_nm
        for name, (first, second) in (("corrected", slabs.halves), ("plain", (sum(parts[::2]), sum(parts[1::2]))))
    }
    assert slabs.half_frames == [6 * SLAB_FRAMES, 6 * SLAB_FRAMES]
    assert finest["corrected"] < 0.8 * finest["plain"], finest
    # Only what lies within the drift of an edge can have gone.
    edge = 10
    lost = plain.sum() - corrected.sum()
    assert 0 <= lost <= plain.sum() - plain[edge:-edge, edge:-edge].sum()


def test_too_little_to_go_by_is_kept_until_it_is_enough() -> None:
    slabs = Slabs(PIXEL_NM, (SIDE, SIDE), WHOLE, most=4)
    empty = np.zeros((SIDE, SIDE), np.float32)
    assert not slabs.add(empty, 10 * SLAB_FRAMES)
    assert slabs.corrected() is None
    assert slabs.drift_nm is None
    parts, _, _ = recorded(3, 80, seed=5)
    assert not slabs.add(parts[0], 1) or slabs.slabs[0].n_frames == 10 * SLAB_FRAMES + 1
    for part in parts[1:]:
        slabs.add(part, SLAB_FRAMES)
    assert len(slabs.slabs) == 3
    slabs.add(empty + 1, 5)
    corrected = slabs.corrected()
    assert corrected is not None
    assert corrected.sum() == pytest.approx(sum(p.sum() for p in parts) + SIDE**2, rel=0.05)
    slabs.release()
    assert len(slabs.path()) == 3


def test_the_memory_of_the_slabs_is_bounded() -> None:
    parts, _, _ = recorded(6, 80, seed=6)
    window = (slice(100, 300), slice(50, 350))
    slabs = Slabs(PIXEL_NM, (SIDE, SIDE), window, most=32, most_bytes=1)
    for part in parts:
        slabs.add(part, SLAB_FRAMES)
    assert len(slabs.slabs) == 2
    assert sum(slab.n_frames for slab in slabs.slabs) == 6 * SLAB_FRAMES
    assert slabs.halves[0].shape == (200, 300)
    assert slabs.corrected().sum() == pytest.approx(sum(part.sum() for part in parts), rel=0.05)
    slabs = Slabs(PIXEL_NM, (SIDE, SIDE), window, most=32)
    for part in parts:
        slabs.add(part, SLAB_FRAMES)
    assert len(slabs.slabs) == 6
    slabs.keep_within(1)
    assert len(slabs.slabs) == 2, "what there is too"
    assert slabs.corrected().sum() == pytest.approx(sum(part.sum() for part in parts), rel=0.05)


@given(st.integers(0, 2**32 - 1))
def test_what_is_kept_of_a_picture_is_that_picture(seed: int) -> None:
    generator = np.random.default_rng(seed)
    picture = generator.poisson(0.3, generator.integers(1, 30, 2)).astype(np.float32)
    sparse = Sparse.of(picture)
    assert (sparse.dense() == picture).all()
    (top, bottom), (left, right) = (np.sort(generator.integers(0, side + 1, 2)) for side in picture.shape)
    window = (slice(int(top), int(bottom)), slice(int(left), int(right)))
    assert (sparse.cut(window).dense() == picture[window]).all()


@given(st.floats(-12, 12), st.floats(-12, 12))
def test_shifting_loses_only_what_leaves(x: float, y: float) -> None:
    picture = np.zeros((40, 50), np.float32)
    picture[14:20, 15:33] = np.random.default_rng(0).random((6, 18))
    total = np.ones_like(picture)
    sparse = Sparse.of(picture)
    sparse.add_to(total, (x, y))
    assert total.sum() - total.size == pytest.approx(picture.sum(), rel=1e-4)
    rows, columns = np.mgrid[:40, :50]
    for axis, way in ((columns, x), (rows, y)):
        before, after = ((axis * weight).sum() / weight.sum() for weight in (picture, total - 1))
        assert after - before == pytest.approx(way, abs=1e-3)
    sparse.add_to(total, (60.0, 0.0))
    sparse.add_to(total, (0.0, -41.5))
    assert total.sum() - total.size == pytest.approx(picture.sum(), rel=1e-4)
