import math

import numpy as np
import pytest
import torch

from stormlive_models.frc import block_halves, localization_frc, ring_correlation
from stormlive_sim.emitters import Emitters


def table(xy: np.ndarray, frame: np.ndarray | None = None) -> Emitters:
    n = len(xy)
    return Emitters(
        frame=torch.zeros(n, dtype=torch.long) if frame is None else torch.from_numpy(frame),
        x_nm=torch.from_numpy(xy[:, 0]).float(),
        y_nm=torch.from_numpy(xy[:, 1]).float(),
        photons=torch.ones(n),
    )


@pytest.mark.parametrize(("precision_nm", "times"), [(10.0, 4), (15.0, 5), (25.0, 12)])
def test_resolution_follows_theory(precision_nm: float, times: int) -> None:
    """Sites at random, each seen `times` times per half with a normal error.

    With e = exp(-4 pi² precision² q²) the halves share N times² e and each has a power of N times (1 + (times - 1) e):
    the correlation is times e / (1 + (times - 1) e), which is 1/7 at e = 1 / (6 times + 1).
    """
    generator = np.random.default_rng(0)
    sites = generator.random((3000, 2)) * [5000, 4000]
    halves = [np.repeat(sites, times, 0) for _ in range(2)]
    halves = [xy + generator.normal(0, precision_nm, xy.shape) for xy in halves]
    expected = 2 * math.pi * precision_nm / math.sqrt(math.log(6 * times + 1))
    found = localization_frc(table(halves[0]), table(halves[1]))
    assert found.resolution_nm == pytest.approx(expected, rel=0.05)


def test_rings_against_a_plain_sum_over_the_whole_transform() -> None:
    generator = np.random.default_rng(1)
    size, pixel = 48, 10.0
    common = generator.random((size, size))
    a, b = (common + 0.4 * generator.random((size, size)) for _ in range(2))
    found = ring_correlation(a, b, pixel)
    # Tukey's window from its definition: a raised cosine over an eighth of the side at either end.
    position = np.minimum(np.arange(size), size - 1 - np.arange(size)) / (0.125 * (size - 1))
    taper = np.where(position < 1, 0.5 * (1 - np.cos(np.pi * position)), 1.0)
    window = np.outer(taper, taper)
    fa, fb = np.fft.fft2(a * window), np.fft.fft2(b * window)
    index = np.fft.fftfreq(size) * size
    radius = np.hypot(index[:, None], index[None])
    for ring in range(size // 2 + 1):
        mask = (radius >= max(0, ring - 2) - 0.5) & (radius <= min(size // 2, ring + 2) + 0.5)
        cross = (fa * fb.conj())[mask].sum().real
        expected = cross / math.sqrt((np.abs(fa[mask]) ** 2).sum() * (np.abs(fb[mask]) ** 2).sum())
        assert found.correlation[ring] == pytest.approx(expected, abs=1e-9)
        assert found.frequency_per_nm[ring] == pytest.approx(ring / (size * pixel))


def test_what_a_camera_leaves_of_its_grid_is_no_resolution() -> None:
    """Emitters found to 30 nm in both halves, more often in the middle of camera pixels of 50 nm."""
    generator = np.random.default_rng(3)
    sites = generator.random((2000, 2)) * 6400
    true, gridded = [], []
    grid = 1 + 0.5 * np.cos(2 * np.pi * (np.arange(512) + 0.5) / 4) * np.ones((512, 1))
    for _ in range(2):
        xy = np.repeat(sites, 8, 0) + generator.normal(0, 30, (16_000, 2))
        true.append(np.histogram2d(xy[:, 1], xy[:, 0], 512, [[0, 6400]] * 2)[0])
        gridded.append(true[-1] * grid * grid.T)
    plain = ring_correlation(*true, 12.5).resolution_nm
    assert ring_correlation(*true, 12.5, grid_nm=50).resolution_nm == pytest.approx(plain, rel=0.05)
    seen = ring_correlation(*gridded, 12.5)
    at_grid = np.abs(seen.frequency_per_nm - 1 / 50).argmin()
    assert seen.correlation[at_grid] > 0.2
    without = ring_correlation(*gridded, 12.5, grid_nm=50)
    assert without.correlation[at_grid] < 0.1
    assert without.resolution_nm == pytest.approx(plain, rel=0.1)


def test_equal_halves_have_no_limit_and_unrelated_ones_none() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=(2, 64, 80))
    same = ring_correlation(a, a, 5.0)
    assert np.allclose(same.correlation, 1)
    assert math.isnan(same.resolution_nm)
    assert np.abs(ring_correlation(a, b, 5.0).correlation[10:]).max() < 0.3


def test_the_pixel_of_an_oblong_picture_is_square() -> None:
    generator = np.random.default_rng(3)
    a = generator.normal(size=(2, 40, 120))
    frequency = ring_correlation(a[0], a[1], 20.0).frequency_per_nm
    assert frequency[-1] == pytest.approx(0.5 / 20)


@pytest.mark.parametrize(("n_frames", "length"), [(1, 1), (39, 1), (40, 2), (999, 49), (1000, 50), (5000, 50)])
def test_halves_are_alternate_blocks_of_frames(n_frames: int, length: int) -> None:
    """Only at a block's edge have frames of different halves been beside each other."""
    frame = 7 + np.arange(n_frames)
    first, second, found = block_halves(table(np.zeros((n_frames, 2)), frame))
    assert found == length
    assert sorted(torch.cat((first.frame, second.frame)).tolist()) == frame.tolist()
    assert 0 <= len(first) - len(second) <= length
    assert set(first.frame.tolist()) & set((second.frame + 1).tolist()) == set(frame[2 * length :: 2 * length].tolist())
    assert [len(half) for half in block_halves(table(np.zeros((0, 2))))[:2]] == [0, 0]


def test_what_neighbouring_frames_share_is_no_resolution() -> None:
    """Spots are found in two frames in a row, each time at the same wrong place, as by a network that saw both."""
    generator = np.random.default_rng(5)
    sites = generator.random((400, 2)) * 3000
    xy = sites[generator.integers(0, 400, 12_000)] + generator.normal(0, 40, (12_000, 2))
    frame = np.arange(12_000) // 12
    alone = localization_frc(*block_halves(table(xy, frame))[:2]).resolution_nm
    twice = table(np.concatenate((xy, xy)), np.concatenate((frame, frame + 1)))
    odd = twice.frame % 2 == 1
    # As if there were no limit.
    assert math.isnan(localization_frc(twice.select(odd), twice.select(~odd)).resolution_nm)
    assert localization_frc(*block_halves(twice)[:2]).resolution_nm == pytest.approx(alone, rel=0.1)


def test_an_empty_half_or_unlike_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        localization_frc(table(np.ones((3, 2))), table(np.ones((0, 2))))
    with pytest.raises(ValueError, match="one shape"):
        ring_correlation(np.ones((4, 4)), np.ones((4, 5)), 1.0)


def test_localizations_in_one_place_have_no_resolution() -> None:
    spot = table(np.full((3, 2), 17.0))
    assert math.isnan(localization_frc(spot, spot).resolution_nm)
