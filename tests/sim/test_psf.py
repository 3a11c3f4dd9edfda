import math

import pytest
import torch

from stormlive_sim.psf import render_gaussians


def render(x: float, y: float, *, photons: float = 1000.0, sigma: float = 1.15, size: int = 32) -> torch.Tensor:
    frames = torch.zeros(1, size, size)
    one = torch.ones(1)
    render_gaussians(frames, torch.zeros(1, dtype=torch.long), one * x, one * y, one * photons, one * sigma, radius=6)
    return frames[0]


@pytest.mark.parametrize("sigma", [0.8, 1.15, 1.4])
def test_all_photons_arrive(sigma: float) -> None:
    assert render(15.3, 16.8, sigma=sigma).sum().item() == pytest.approx(1000, rel=1e-4)


@pytest.mark.parametrize(("x", "y"), [(10.0, 20.5), (10.27, 20.91), (16.5, 9.999)])
def test_truth_lies_where_the_light_does_to_a_hundredth_of_a_pixel(x: float, y: float) -> None:
    image = render(x, y).double()
    centres = torch.arange(32).double() + 0.5
    assert (image.sum(0) * centres).sum() / image.sum() == pytest.approx(x, abs=0.01)
    assert (image.sum(1) * centres).sum() / image.sum() == pytest.approx(y, abs=0.01)


def test_origin_is_the_outer_corner_of_the_first_pixel() -> None:
    image = render(0.5, 0.5)
    assert image.argmax() == 0
    assert image[0, 1] == pytest.approx(image[1, 0].item())
    # At the corner itself a quarter of the light is inside.
    assert render(0.0, 0.0).sum().item() == pytest.approx(250, rel=1e-3)


def test_pixels_hold_the_integral_of_the_gaussian() -> None:
    sigma = 1.15
    image = render(10.5, 10.5, sigma=sigma)
    share = math.erf(0.5 / (math.sqrt(2) * sigma))
    assert image[10, 10].item() == pytest.approx(1000 * share**2, rel=1e-5)


def test_emitters_outside_add_nothing_wrong_and_frames_do_not_mix() -> None:
    frames = torch.zeros(2, 16, 16)
    render_gaussians(
        frames,
        torch.tensor([1, 0]),
        torch.tensor([-30.0, 8.0]),
        torch.tensor([8.0, 200.0]),
        torch.ones(2),
        torch.ones(2),
        radius=5,
    )
    assert frames.abs().sum() == 0
    render_gaussians(
        frames,
        torch.tensor([1]),
        torch.tensor([8.0]),
        torch.tensor([8.0]),
        torch.ones(1),
        torch.ones(1),
        radius=5,
    )
    assert frames[0].sum() == 0
    assert frames[1].sum().item() == pytest.approx(1, rel=1e-4)


def test_a_shift_by_whole_pixels_shifts_the_image_exactly_also_in_a_large_field() -> None:
    small = render(10.37, 10.81)
    large = render(10.37 + 1000, 10.81 + 1000, size=1032)[1000:, 1000:]
    # float32 positions near 1000 px have steps of 6e-5 px.
    assert torch.allclose(small, large, atol=0.05)


def test_elliptical_width_is_x_then_y() -> None:
    frames = torch.zeros(1, 32, 32)
    one = torch.ones(1)
    render_gaussians(
        frames,
        torch.zeros(1, dtype=torch.long),
        one * 16,
        one * 16,
        one,
        torch.tensor([[2.0, 0.8]]),
        radius=9,
    )
    centres = torch.arange(32) + 0.5 - 16
    variance_x = (frames[0].sum(0) * centres.square()).sum()
    variance_y = (frames[0].sum(1) * centres.square()).sum()
    assert variance_x.item() == pytest.approx(4 + 1 / 12, rel=0.01)
    assert variance_y.item() == pytest.approx(0.64 + 1 / 12, rel=0.01)
