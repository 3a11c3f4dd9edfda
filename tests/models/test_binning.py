"""What a network for large pixels is given of a camera with small ones."""

import pytest
import torch

from stormlive_models.binning import sum_2x2
from stormlive_sim.psf import render_gaussians


def test_it_is_what_a_camera_with_pixels_of_twice_the_side_sees() -> None:
    generator = torch.Generator().manual_seed(0)
    x_nm, y_nm = torch.rand(2, 30, generator=generator) * 2000 + 300
    frame = torch.arange(30)

    def frames(pixel_nm: float, side: int) -> torch.Tensor:
        images = torch.zeros(30, side, side)
        sigma = torch.tensor(115 / pixel_nm)
        render_gaussians(images, frame, x_nm / pixel_nm, y_nm / pixel_nm, torch.full((30,), 1000.0), sigma, radius=side)
        return images

    assert torch.allclose(sum_2x2(frames(65, 40)), frames(130, 20), atol=0.01)


def test_photons_add_and_noise_stays_white() -> None:
    photons = torch.poisson(torch.full((40, 64, 64), 5.0), torch.Generator().manual_seed(1))
    summed = sum_2x2(photons)
    assert summed.sum() == photons.sum()
    noise = summed - 20
    assert noise.square().mean() == pytest.approx(20, rel=0.03)
    for neighbours in (noise[:, 1:] * noise[:, :-1], noise[..., 1:] * noise[..., :-1]):
        assert abs(neighbours.mean()) < 4 * 20 / neighbours.numel() ** 0.5


@pytest.mark.parametrize("shape", [(8, 8), (7, 8), (8, 7), (7, 7)])
def test_the_last_odd_row_and_column_are_repeated(shape: tuple[int, int]) -> None:
    photons = torch.rand(2, *shape, generator=torch.Generator().manual_seed(2))
    summed = sum_2x2(photons)
    assert summed.shape == (2, 4, 4)
    assert torch.allclose(summed[:, 0, 0], photons[:, :2, :2].sum((1, 2)))
    rows, columns = (2 if side % 2 == 0 else 1 for side in shape)
    last = photons[:, -rows:, -columns:].sum((1, 2)) * (4 / (rows * columns))
    assert torch.allclose(summed[:, -1, -1], last)
