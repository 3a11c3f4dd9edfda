import math

import pytest
import torch
from torch import Tensor

from stormlive_models.limits import position_limits
from stormlive_sim.psf import render_gaussians


def limits(*rows: tuple[float, float, float], **conditions: float) -> Tensor:
    """Return the bounds of (x, y, photons) in a frame of 24x24 pixels."""
    settings = {"sigma_px": 1.15, "background": 10.0, **conditions}
    x, y, photons = torch.tensor(rows).T
    return position_limits(x, y, photons, shape=(24, 24), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sigma_px", "background", "expected_nm"),
    [
        (1.15, 5.0, {300: 9.6, 1000: 4.4, 5000: 1.8}),
        (1.15, 50.0, {300: 18.8, 1000: 6.8, 5000: 2.2}),
        (1.30, 10.0, {300: 13.3, 1000: 5.6, 5000: 2.1}),
    ],
)
def test_a_lone_emitter_has_the_published_bound(
    sigma_px: float, background: float, expected_nm: dict[int, float]
) -> None:
    phases = [(i + 0.5) / 4 for i in range(4)]
    for photons, expected in expected_nm.items():
        found = [
            limits((12 + a, 12 + b, photons), sigma_px=sigma_px, background=background) for a in phases for b in phases
        ]
        assert 100 * torch.cat(found).mean().item() == pytest.approx(expected, abs=0.06)


def test_many_emitters_have_the_bound_of_finite_differences() -> None:
    truth = torch.tensor([[10.3, 9.1, 900.0], [11.9, 10.2, 1500.0], [6.2, 15.7, 700.0]], dtype=torch.float64)
    step, read_noise, excess = 1e-4, 1.5, 2.0

    def expected(parameters: Tensor) -> Tensor:
        frame = torch.full((1, 24, 24), 0.0, dtype=torch.float64)
        x, y, photons = parameters[:-1].view(3, 3).T
        which = torch.zeros(3, dtype=torch.long)
        render_gaussians(frame, which, x, y, photons, torch.tensor(1.15, dtype=torch.float64), radius=20)
        return frame.flatten() + parameters[-1]

    centre = torch.cat((truth.flatten(), torch.tensor([10.0], dtype=torch.float64)))
    moves = torch.eye(len(centre), dtype=torch.float64) * step
    slopes = torch.stack([(expected(centre + move) - expected(centre - move)) / (2 * step) for move in moves])
    information = (slopes / (excess * expected(centre) + read_noise**2)) @ slopes.T
    by_hand = torch.linalg.inv(information).diagonal()[:-1].view(3, 3)[:, :2].sqrt()
    rows = [tuple(row) for row in truth.tolist()]
    assert torch.allclose(limits(*rows, read_noise=read_noise, excess=excess), by_hand, rtol=1e-4)


def test_a_neighbour_costs_precision_the_more_the_nearer() -> None:
    alone = limits((8.4, 8.7, 1000.0))[0, 0].item()
    near = [limits((8.4, 8.7, 1000.0), (8.4 + d, 8.7, 1000.0))[0, 0].item() for d in (9.0, 3.0, 2.0, 1.0, 0.2)]
    assert near[0] == pytest.approx(alone, rel=0.01)
    assert near == sorted(near)
    assert near[-1] > 5 * alone
    assert all(math.isfinite(d) for d in limits((8.4, 8.7, 1000.0), (8.4, 8.7, 1000.0)).flatten().tolist())


def test_noise_costs_what_theory_says() -> None:
    spot = (12.2, 11.8, 1000.0)
    plain = limits(spot)
    assert torch.allclose(limits(spot, excess=2.0), math.sqrt(2) * plain)
    # Read noise is as much more background, whose level must be found too.
    assert torch.allclose(limits(spot, read_noise=2.0), limits(spot, background=14.0))
    with pytest.raises(ValueError, match="above 0, got neither"):
        limits(spot, background=0.0)


def test_x_runs_along_columns() -> None:
    x, y = torch.tensor([2.0]), torch.tensor([12.0])
    cut = position_limits(x, y, torch.tensor([800.0]), sigma_px=1.2, background=5.0, shape=(24, 4))
    turned = position_limits(y, x, torch.tensor([800.0]), sigma_px=1.2, background=5.0, shape=(4, 24))
    assert torch.allclose(cut, turned.flip(1))
    # The light beyond the sides is lost, and told the most of x.
    assert cut[0, 0] > 1.02 * cut[0, 1]
