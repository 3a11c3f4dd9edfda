"""The advice to stop, on simulated runs of which it is known how often each label is seen."""

import math

import numpy as np
import pytest

from stormlive_models.frc import ring_correlation
from stormlive_models.judge.convergence import Moment, advise, busiest_window, steepness

FIELD_NM, SIDE, PRECISION_NM, LABELS = 3200.0, 256, 12.0, 1500


def run(per_label: float, n_frames: int, *, bleached_after: int | None = None, step: int = 100) -> list[Moment]:
    """Return the moments of a run in which each label is seen `per_label` times per frame; it bleaches all at once."""
    generator = np.random.default_rng(0)
    labels = generator.random((LABELS, 2)) * FIELD_NM
    halves, moments = [np.zeros((SIDE, SIDE)) for _ in range(2)], []
    for k in range(n_frames // step):
        for half in halves:
            shines = bleached_after is None or k * step < bleached_after
            n = generator.poisson(per_label * LABELS * step / 2 * shines)
            xy = labels[generator.integers(0, LABELS, n)] + generator.normal(0, PRECISION_NM, (n, 2))
            half += np.histogram2d(xy[:, 1], xy[:, 0], SIDE, [[0, FIELD_NM]] * 2)[0]
        curve = ring_correlation(halves[0], halves[1], FIELD_NM / SIDE)
        moments.append(
            Moment(
                frames=(k + 1) * step,
                total=sum(float(half.sum()) for half in halves),
                resolution_nm=curve.resolution_nm,
                steepness=steepness(curve),
            )
        )
    return moments


def first_converged(moments: list[Moment]) -> int | None:
    return next((moments[i].frames for i in range(len(moments)) if advise(moments[: i + 1]).converged), None)


def test_a_run_that_sees_each_label_often_converges_but_not_at_once() -> None:
    moments = run(0.02, 6000)
    at = first_converged(moments)
    # Ten times in either half are 1000 frames; 1000 more frames are worth little from several thousand on.
    assert at is not None
    assert 2000 <= at <= 5000
    assert advise(moments).converged
    # It was right: half as many frames again as there were gave less than 5 %, but for the curve's own noise.
    then, end = (next(m.resolution_nm for m in moments if m.frames >= n) for n in (at, min(1.5 * at, 6000)))
    assert end > 0.92 * then


@pytest.mark.parametrize("per_label", [2e-5, 2e-4, 1e-3])
def test_a_run_in_which_labels_are_seen_a_few_times_has_not_converged(per_label: float) -> None:
    assert first_converged(run(per_label, 4000)) is None


def test_the_gain_that_is_told_comes_true() -> None:
    moments = run(2e-3, 6000)
    for n in (2000, 3000, 4000):
        part = [m for m in moments if m.frames <= n]
        told = advise(part).gain_percent_per_1000
        assert told is not None
        near = [m.resolution_nm for m in moments if abs(m.frames - n) <= 300]
        later = [m.resolution_nm for m in moments if abs(m.frames - n - 1000) <= 300]
        gained = 100 * (1 - np.median(later) / np.median(near))
        assert told == pytest.approx(gained, abs=4)
        assert told > 0


def test_nothing_more_is_to_be_gained_from_a_bleached_sample() -> None:
    moments = run(1e-3, 6000, bleached_after=2500)
    assert first_converged([m for m in moments if m.frames <= 2500]) is None
    assert advise(moments).gain_percent_per_1000 == 0
    assert advise(moments).converged


def test_a_run_that_has_just_begun_or_is_empty_has_not_converged() -> None:
    assert not advise([]).converged
    assert advise(run(0.05, 900)) == advise([])
    empty = run(0.0, 3000)
    assert all(math.isnan(m.resolution_nm) for m in empty)
    assert first_converged(empty) is None
    assert advise(empty).gain_percent_per_1000 is None


def test_noise_without_structure_never_converges() -> None:
    generator = np.random.default_rng(1)
    halves, moments = [np.zeros((SIDE, SIDE)) for _ in range(2)], []
    for k in range(40):
        for half in halves:
            half += generator.poisson(0.05, half.shape)
        curve = ring_correlation(halves[0], halves[1], 12.5)
        total = float(halves[0].sum() + halves[1].sum())
        moments.append(
            Moment(frames=100 * k, total=total, resolution_nm=curve.resolution_nm, steepness=steepness(curve))
        )
    assert first_converged(moments) is None


def test_steepness_of_a_known_curve() -> None:
    """For r / (1 - r) = s exp(-k q²) the slope at the resolution, where it is 1/6, is 2 ln(6 s)."""
    halves = run(0.01, 2000)[-1]
    times = 0.01 * 2000 / 2
    assert halves.steepness == pytest.approx(2 * math.log(6 * times), rel=0.15)


def test_the_busiest_window() -> None:
    picture = np.zeros((20, 30))
    picture[12:15, 20:24] = 1
    row, column = busiest_window(picture, 5)
    assert picture[row : row + 5, column : column + 5].sum() == 12
    assert busiest_window(picture, 50) == (0, 0)
