from pathlib import Path

import numpy as np
import pytest

from stormlive_sim.drift import Drift, DriftPath, write_drift

WALK = Drift(walk_nm_per_sqrt_s=5)


def test_steady_drift_is_velocity_times_time() -> None:
    path = DriftPath(Drift(x_nm_per_s=3, y_nm_per_s=-2), 0)
    assert path.at(0) == (0, 0)
    assert path.at(90_000) == pytest.approx((270, -180))


def test_the_walk_starts_at_zero_and_spreads_as_the_root_of_time() -> None:
    seconds = np.array([0.03, 1, 30, 3000, 100_000])
    walks = np.array([[DriftPath(WALK, seed).at(1000 * t) for t in seconds] for seed in range(400)])
    assert DriftPath(WALK, 0).at(0) == (0, 0)
    expected = 5 * np.sqrt(seconds)[:, None]
    # The standard deviation of 400 values is itself known to 3.5 %.
    assert walks.std(0) / expected == pytest.approx(np.ones((5, 2)), abs=0.15)
    assert np.abs(walks.mean(0) / expected).max() < 0.25
    x, y = walks[:, 3].T
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.2


def test_steps_are_independent_and_normal() -> None:
    path = DriftPath(WALK, 3)
    places = np.array([path.at(1000.0 * t) for t in range(1001)])
    steps = np.diff(places, axis=0)
    assert steps.std(0) == pytest.approx([5, 5], rel=0.1)
    assert np.abs(steps).max() < 5 * 5
    for axis in range(2):
        assert abs(np.corrcoef(steps[:-1, axis], steps[1:, axis])[0, 1]) < 0.12


def test_any_order_gives_the_same_path_and_the_seed_another() -> None:
    times = [0, 30, 3_000_000, 45, 29.5]
    forward, backward = DriftPath(WALK, 1), DriftPath(WALK, 1)
    there = {t: forward.at(t) for t in times}
    assert there == {t: backward.at(t) for t in reversed(times)}
    assert DriftPath(WALK, 2).at(3000) != forward.at(3000)


def test_the_walk_is_continuous() -> None:
    path = DriftPath(WALK, 5)
    # About the seams of the halvings, where an interval of years meets one of milliseconds.
    for seam in (1, 1024, 2**20):
        before, after = np.array(path.at(seam - 1e-3)), np.array(path.at(seam))
        assert np.abs(after - before).max() < 0.01


def test_frame_one_hundred_thousand_costs_a_few_deviates(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = DriftPath._draw_deviate

    def counted(path: DriftPath, node: int) -> complex:
        drawn.append(node)
        return draw(path, node)

    monkeypatch.setattr(DriftPath, "_draw_deviate", counted)
    path = DriftPath(WALK, 0)
    path.at(100_000 * 30.0)
    assert len(drawn) < 50
    path.at(100_001 * 30.0)
    assert len(drawn) < 60


def test_table_of_the_drift(tmp_path: Path) -> None:
    write_drift(tmp_path / "d.csv", iter([(0.0, 0.0), (1.234, -5.0)]))
    assert (tmp_path / "d.csv").read_text().split() == ["frame,x", "[nm],y", "[nm]", "1,0.00,0.00", "2,1.23,-5.00"]
