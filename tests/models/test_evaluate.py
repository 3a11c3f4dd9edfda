import itertools
import math

import numpy as np
import pytest
import torch

from stormlive_models.evaluate import match, match_tables, positions_nm, score
from stormlive_models.localize import localizations
from stormlive_models.networks.livenet import Detections
from stormlive_sim.emitters import Emitters


def brute_force(found: np.ndarray, truth: np.ndarray, tolerance: float) -> tuple[int, float]:
    best = (0, 0.0)
    distance = np.hypot(*(found[:, None] - truth[None]).transpose(2, 0, 1))
    n = min(len(found), len(truth))
    for k in range(n + 1):
        for rows in itertools.combinations(range(len(found)), k):
            for columns in itertools.permutations(range(len(truth)), k):
                d = distance[list(rows), list(columns)]
                if (d <= tolerance).all() and (k > best[0] or (k == best[0] and d.sum() < best[1])):
                    best = (k, float(d.sum()))
    return best


@pytest.mark.parametrize("seed", range(25))
def test_matching_is_the_best_there_is(seed: int) -> None:
    generator = np.random.default_rng(seed)
    found, truth = generator.random((4, 2)) * 300, generator.random((generator.integers(1, 6), 2)) * 300
    pairs = match(found, truth, 100.0)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    distance = np.hypot(*(found[pairs[:, 0]] - truth[pairs[:, 1]]).T)
    assert (distance <= 100).all()
    assert (len(pairs), pytest.approx(distance.sum())) == brute_force(found, truth, 100.0)


def table(rows: list[tuple[int, float, float]]) -> Emitters:
    columns = torch.tensor(rows, dtype=torch.float32).reshape(-1, 3).T
    return Emitters(frame=columns[0].long(), x_nm=columns[1], y_nm=columns[2], photons=torch.ones(len(rows)))


def test_scores_by_hand() -> None:
    truth = table([(0, 100, 100), (0, 500, 500), (1, 100, 100), (2, 900, 900)])
    found = table([(0, 130, 140), (0, 900, 900), (1, 100, 100)])
    s = score(found, truth, 100.0)
    assert (s.n_truth, s.n_found, s.n_matched) == (4, 3, 2)
    assert s.jaccard == pytest.approx(2 / 5)
    assert s.precision == pytest.approx(2 / 3)
    assert s.recall == pytest.approx(1 / 2)
    assert s.rmse_nm == pytest.approx(math.sqrt(2500 / 2))
    assert s.efficiency == pytest.approx(100 - math.hypot(60, s.rmse_nm))


def test_errors_per_axis_and_their_bias_by_hand() -> None:
    truth = table([(0, 100, 100), (0, 500, 500), (3, 100, 100)])
    found = table([(3, 104, 98), (0, 110, 100), (0, 494, 505)])
    s = score(found, truth, 50.0)
    assert (s.bias_x_nm, s.bias_y_nm) == pytest.approx(((4 + 10 - 6) / 3, (-2 + 0 + 5) / 3))
    assert s.rmse_x_nm == pytest.approx(math.sqrt((16 + 100 + 36) / 3))
    assert s.rmse_y_nm == pytest.approx(math.sqrt((4 + 0 + 25) / 3))
    assert s.rmse_nm == pytest.approx(math.hypot(s.rmse_x_nm, s.rmse_y_nm))


def test_all_frames_at_once_are_paired_as_one_by_one() -> None:
    generator = np.random.default_rng(7)
    tables = []
    for n in (300, 240):
        frame = generator.integers(0, 12, n)
        tables.append(table(list(zip(frame, *(generator.random((2, n)) * 500), strict=True))))
    found, truth = tables
    pairs = match_tables(found, truth, 80.0)
    n = 0
    for frame in range(12):
        a, b = ((t.frame == frame).nonzero()[:, 0].numpy() for t in tables)
        alone = match(positions_nm(found)[a], positions_nm(truth)[b], 80.0)
        expected = {(a[i], b[j]) for i, j in alone}
        assert expected == {(i, j) for i, j in pairs if found.frame[i] == frame}
        n += len(expected)
    assert n == len(pairs) > 100


def test_frames_do_not_help_each_other_out() -> None:
    assert score(table([(1, 5, 5)]), table([(0, 5, 5)]), 100.0).n_matched == 0


def test_nothing_to_find_and_nothing_found_is_no_number() -> None:
    assert math.isnan(score(table([]), table([]), 50.0).jaccard)


def detections(spots: list[tuple[int, int, float, float, float]]) -> Detections:
    """Return maps with (row, column, probability, x_px, y_px) and nothing elsewhere."""
    shape = (1, 16, 16)
    p, x, y = torch.full(shape, 1e-4), torch.full(shape, -9.0), torch.full(shape, -9.0)
    for row, column, probability, x_px, y_px in spots:
        p[0, row, column], x[0, row, column], y[0, row, column] = probability, x_px, y_px
    one = torch.ones(shape)
    return Detections(
        logit=torch.logit(p),
        x_px=x,
        y_px=y,
        log_photons=one * 7,
        sigma_x_px=one,
        sigma_y_px=one,
        sigma_log_photons=one,
    )


def test_an_emitter_shared_by_two_pixels_is_one_localization() -> None:
    found = localizations(detections([(4, 4, 0.4, 4.95, 4.5), (4, 5, 0.4, 5.05, 4.5)]), 100.0)
    assert len(found) == 1
    assert found.x_nm.item() == pytest.approx(500, abs=0.1)
    assert found.photons.item() == pytest.approx(math.exp(7), rel=1e-3)


def test_two_emitters_in_neighbouring_pixels_are_two() -> None:
    found = localizations(detections([(4, 4, 0.9, 4.1, 4.5), (4, 5, 0.9, 5.6, 4.5)]), 100.0)
    assert sorted(found.x_nm.tolist()) == pytest.approx([410, 560], abs=0.1)


def test_half_believed_spots_are_not_reported() -> None:
    assert len(localizations(detections([(4, 4, 0.3, 4.5, 4.5)]), 100.0)) == 0
