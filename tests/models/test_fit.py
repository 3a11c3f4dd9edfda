import math

import pytest
import torch
from torch import Tensor

from stormlive_models.fit import Fits, fit_spots
from stormlive_models.spots import Spots, find_spots, is_isolated
from stormlive_sim.psf import render_gaussians
from stormlive_sim.sensor import emccd

# nm per axis that no unbiased estimate can beat: sigma 1.15 px, 100 nm pixels, 10 background photons, no excess noise.
LIMIT_NM = {500: 7.7, 1000: 4.8, 3000: 2.5}


def single_spots(
    n: int,
    photons: float,
    generator: torch.Generator,
    *,
    background: float = 10.0,
    sigma_px: tuple[float, float] = (1.15, 1.15),
) -> tuple[Tensor, Tensor, Tensor, Spots]:
    """Return expected photons (n, 17, 17) with a spot in the middle pixel of each, its x and y, and where to fit."""
    clean = torch.full((n, 17, 17), background)
    x, y = (torch.rand(n, generator=generator) + 8 for _ in range(2))
    sigma = torch.tensor([sigma_px]).expand(n, 2)
    render_gaussians(clean, torch.arange(n), x, y, torch.full((n,), photons), sigma, radius=8)
    middle = torch.full((n,), 8)
    return clean, x, y, Spots(frame=torch.arange(n), row=middle, column=middle, significance=torch.ones(n))


@pytest.mark.parametrize("free_widths", [0, 2])
@pytest.mark.parametrize("photons", sorted(LIMIT_NM))
def test_single_spots_are_localized_at_the_limit(photons: int, free_widths: int) -> None:
    generator = torch.Generator().manual_seed(photons)
    n = 1500
    clean, x, y, spots = single_spots(n, photons, generator)
    fits = fit_spots(torch.poisson(clean, generator), spots, sigma_px=1.15, free_widths=free_widths)  # type: ignore[arg-type]
    assert fits.converged.all()
    for found, truth, predicted in ((fits.x_px, x, fits.x_sd_px), (fits.y_px, y, fits.y_sd_px)):
        error_nm = 100 * (found - truth)
        rmse = error_nm.square().mean().sqrt().item()
        assert rmse == pytest.approx(LIMIT_NM[photons], rel=0.1)
        assert abs(error_nm.mean().item()) < 4 * rmse / math.sqrt(n)
        assert (100 * predicted).mean().item() == pytest.approx(rmse, rel=0.06)
        # No pull towards the pixel's centre or border.
        phase = truth - truth.floor() - 0.5
        slope = (error_nm * phase).mean() / phase.square().mean()
        assert abs(slope.item()) < 4 * rmse / math.sqrt(n / 12)
    for found, value, sd in ((fits.photons, photons, fits.photons_sd), (fits.background, 10.0, fits.background_sd)):
        assert abs(found.mean().item() - value) < 4 * found.std().item() / math.sqrt(n) + 0.002 * value
        assert sd.mean().item() == pytest.approx(found.std().item(), rel=0.1)
    assert fits.misfit.mean().item() == pytest.approx(1, abs=0.05)


def test_electron_multiplication_costs_a_factor_of_root_two_and_says_so() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, x, _, spots = single_spots(2000, 1000, generator)
    camera = emccd()
    frames = (camera.expose(clean, generator) - camera.baseline_adu) * camera.photons_per_adu
    fits = fit_spots(frames, spots, sigma_px=1.15, excess=2.0)
    rmse = 100 * (fits.x_px - x).square().mean().sqrt().item()
    assert rmse == pytest.approx(math.sqrt(2) * LIMIT_NM[1000], rel=0.1)
    assert 100 * fits.x_sd_px.mean().item() == pytest.approx(rmse, rel=0.08)
    assert fits.misfit.mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("free_widths", "sigma_px"), [(1, (1.4, 1.4)), (2, (1.0, 1.7)), (2, (1.9, 0.9))])
def test_free_widths_are_found(free_widths: int, sigma_px: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(1)
    clean, x, y, spots = single_spots(500, 2000, generator, sigma_px=sigma_px)
    frames = torch.poisson(clean, generator)
    fits = fit_spots(frames, spots, sigma_px=1.25, free_widths=free_widths, radius=7)  # type: ignore[arg-type]
    assert fits.converged.float().mean() > 0.99
    assert fits.sigma_x_px.median().item() == pytest.approx(sigma_px[0], rel=0.02)
    assert fits.sigma_y_px.median().item() == pytest.approx(sigma_px[1], rel=0.02)
    for error, sd in ((fits.x_px - x, fits.x_sd_px), (fits.y_px - y, fits.y_sd_px)):
        assert (error / sd).std().item() == pytest.approx(1, abs=0.15)
    wrong = fit_spots(frames, spots, sigma_px=1.25, free_widths=0, radius=7)
    assert wrong.misfit.median() > 1.1 * fits.misfit.median()


@pytest.mark.parametrize("background", [0.0, 0.3])
def test_hardly_any_background_is_no_obstacle(background: float) -> None:
    generator = torch.Generator().manual_seed(2)
    clean, x, _, spots = single_spots(400, 1000, generator, background=background)
    fits = fit_spots(torch.poisson(clean, generator), spots, sigma_px=1.15, free_widths=2)
    assert fits.converged.float().mean() > 0.99
    assert 100 * (fits.x_px - x).square().mean().sqrt().item() == pytest.approx(115 / math.sqrt(1000), rel=0.15)


def test_two_spots_in_one_window_stand_out_by_their_misfit() -> None:
    generator = torch.Generator().manual_seed(3)
    clean, x, y, spots = single_spots(300, 1500, generator)
    pairs = clean.clone()
    ones = torch.full((300,), 1500.0)
    render_gaussians(pairs, torch.arange(300), x + 2.5, y, ones, torch.tensor(1.15), radius=7)
    alone, together = (
        fit_spots(torch.poisson(c, generator), spots, sigma_px=1.15, free_widths=1) for c in (clean, pairs)
    )
    assert together.misfit.quantile(0.02) > alone.misfit.quantile(0.98)


def test_spots_at_the_border_are_fitted_in_a_window_inside() -> None:
    clean = torch.full((4, 20, 24), 5.0)
    x, y = torch.tensor([0.6, 23.3, 12.2, 1.4]), torch.tensor([0.7, 19.1, 0.4, 18.8])
    render_gaussians(clean, torch.arange(4), x, y, torch.full((4,), 3000.0), torch.tensor(1.2), radius=6)
    spots = find_spots(torch.poisson(clean, torch.Generator().manual_seed(4)), 1.2)
    assert spots.frame.tolist() == [0, 1, 2, 3]
    fits = fit_spots(clean, spots, sigma_px=1.2)
    assert torch.allclose(fits.x_px, x, atol=0.02)
    assert torch.allclose(fits.y_px, y, atol=0.02)
    with pytest.raises(ValueError, match="at least 11 pixels, the fit's window, got 24x9"):
        fit_spots(clean[:, :9], spots, sigma_px=1.2, radius=5)


def test_sparse_spots_are_found_and_noise_is_not() -> None:
    generator = torch.Generator().manual_seed(5)
    dark = torch.poisson(torch.full((100, 64, 64), 10.0), generator)
    assert len(find_spots(dark, 1.15)) <= 12
    ramp = torch.linspace(5, 40, 64).expand(50, 64, 64).contiguous()
    frame = torch.arange(50).repeat_interleave(2)
    x = torch.rand(100, generator=generator) * 16 + torch.tensor([8.0, 40.0]).repeat(50)
    y = torch.rand(100, generator=generator) * 48 + 8
    render_gaussians(ramp, frame, x, y, torch.full((100,), 800.0), torch.tensor(1.15), radius=6)
    spots = find_spots(torch.poisson(ramp, generator), 1.15)
    distance = torch.hypot(spots.column[:, None] + 0.5 - x, spots.row[:, None] + 0.5 - y)
    distance = distance.masked_fill(spots.frame[:, None] != frame, torch.inf)
    assert (distance.amin(0) < 1.5).float().mean() > 0.97
    assert (distance.amin(1) < 1.5).float().mean() > 0.95
    assert len(find_spots(torch.zeros(2, 32, 32), 1.15)) == 0


def test_a_spot_between_pixels_without_noise_counts_once() -> None:
    clean = torch.zeros(1, 24, 24)
    even = torch.tensor([12.0])
    render_gaussians(clean, torch.tensor([0]), even, even, torch.tensor([1e4]), torch.tensor(1.15), radius=6)
    spots = find_spots(clean, 1.15)
    assert len(spots) == 1
    assert spots.row.item() in (11, 12)


def test_isolation_is_a_square_within_the_same_frame() -> None:
    frame = torch.tensor([0, 0, 0, 1, 2, 2, 2])
    row = torch.tensor([10, 14, 40, 10, 5, 5, 10])
    column = torch.tensor([10, 14, 40, 11, 5, 60, 9])
    spots = Spots(frame=frame, row=row, column=column, significance=torch.ones(7))
    for distance in (3, 4, 5, 30, 60):
        gap = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
        near = (gap <= distance) & (frame[:, None] == frame)
        assert is_isolated(spots, spots, distance).tolist() == (near.sum(1) == 1).tolist()
    bright = spots.select(torch.tensor([0, 3]))
    assert is_isolated(bright, spots, 4).tolist() == [False, True]
    assert is_isolated(bright, bright, 4).tolist() == [True, True]


def test_no_spots_give_an_empty_table() -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    fits = fit_spots(
        torch.zeros(1, 20, 20),
        Spots(frame=nothing, row=nothing, column=nothing, significance=torch.zeros(0)),
        sigma_px=1.15,
    )
    assert isinstance(fits, Fits)
    assert len(fits) == 0
