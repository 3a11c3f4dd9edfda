import math

import pytest
import torch

from stormlive_sim.focus import Focus
from stormlive_sim.psf import render_gaussians

ASTIGMATIC = Focus(astigmatism_nm=150, defocus_nm=50, depth_of_focus_nm=300, sample_depth_nm=600)


def test_without_aberrations_the_width_is_exactly_that_in_focus() -> None:
    assert torch.equal(Focus().widening(torch.zeros(3)), torch.ones(3, 2))
    assert Focus().greatest_widening == 1


def test_each_axis_is_narrowest_in_its_own_focal_line_and_wider_by_root_two_a_depth_away() -> None:
    z = torch.tensor([200.0, -100.0, 500.0, -400.0])  # focal lines at 50 ± 150, then 300 beyond each
    x, y = ASTIGMATIC.widening(z).T
    assert (x[0].item(), y[1].item()) == (1, 1)
    assert x[2].item() == pytest.approx(math.sqrt(2))
    assert y[3].item() == pytest.approx(math.sqrt(2))
    assert x[1] > y[1]
    assert y[0] > x[0]


def test_no_label_of_the_sample_is_wider_than_the_greatest() -> None:
    z = torch.linspace(-300, 300, 101)
    assert ASTIGMATIC.widening(z).max().item() == pytest.approx(ASTIGMATIC.greatest_widening, abs=1e-6)


@pytest.mark.parametrize("focus", [Focus(defocus_nm=400), ASTIGMATIC, Focus(sample_depth_nm=1500)])
def test_widening_keeps_photons_and_second_moments(focus: Focus) -> None:
    z = torch.tensor([-0.5, 0.1, 0.5]) * focus.sample_depth_nm
    widths = 1.15 * focus.widening(z)
    frames = torch.zeros(3, 65, 65)
    one = torch.ones(3)
    radius = int(4.5 * 1.15 * focus.greatest_widening) + 1
    render_gaussians(frames, torch.arange(3), 32.3 * one, 32.8 * one, 1000 * one, widths, radius=radius)
    assert frames.sum((1, 2)).tolist() == pytest.approx([1000] * 3, rel=2e-5)
    centres = torch.arange(65) + 0.5
    variance_x = (frames.sum(1) * (centres - 32.3).square()).sum(1) / 1000
    variance_y = (frames.sum(2) * (centres - 32.8).square()).sum(1) / 1000
    assert variance_x.tolist() == pytest.approx((widths[:, 0].square() + 1 / 12).tolist(), rel=2e-3)
    assert variance_y.tolist() == pytest.approx((widths[:, 1].square() + 1 / 12).tolist(), rel=2e-3)
