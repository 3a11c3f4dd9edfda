import pytest
import torch
from torch import nn
from torch.nn import functional

from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.normalize import deepstorm_input
from stormlive_sim.emitters import Emitters


def emitters(x_nm: list[float], y_nm: list[float], frame: list[int]) -> Emitters:
    return Emitters(
        frame=torch.tensor(frame),
        x_nm=torch.tensor(x_nm),
        y_nm=torch.tensor(y_nm),
        photons=torch.ones(len(x_nm)),
    )


def test_has_the_published_size_and_cost() -> None:
    network = DeepStorm().eval()
    assert sum(p.numel() for p in network.parameters()) == 1_366_208
    macs = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        assert isinstance(module, nn.Conv2d)
        macs += module.weight.numel() * output.shape[2] * output.shape[3]

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.rand(1, 64, 64))
    assert macs / 1e9 == pytest.approx(24.24, abs=0.01)


def test_input_is_scaled_frame_by_frame_then_standardised() -> None:
    frames = torch.rand(3, 5, 6) * torch.tensor([1.0, 100.0, 1e4])[:, None, None] + 50
    x = deepstorm_input(frames, torch.tensor(0.2), torch.tensor(0.5))
    assert x.shape == (3, 1, 5, 6)
    raw = x * 0.5 + 0.2
    assert torch.allclose(raw.amin((1, 2, 3)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(raw.amax((1, 2, 3)), torch.ones(3), atol=1e-6)


def test_a_frame_without_contrast_gives_no_nan() -> None:
    assert DeepStorm().eval()(torch.full((1, 16, 16), 7.0)).isfinite().all()


def test_the_loss_is_that_of_the_reference_code() -> None:
    network = DeepStorm().eval()
    photons = torch.rand(2, 16, 16)
    truth = emitters([812.0, 400.0, 401.0], [306.0, 700.0, 700.0], [0, 1, 1])
    heat = network(photons)
    spikes = torch.zeros(2, 128, 128)
    spikes[0, 24, 64] = 1  # floor(306 / 12.5), floor(812 / 12.5)
    spikes[1, 56, 32] = 1  # two emitters in one sub-pixel are one spike there
    axis = torch.arange(-3.0, 4)
    kernel = torch.exp(-(axis[:, None] ** 2 + axis**2) / 2)
    kernel = kernel / kernel.sum()

    def blur(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(image[:, None], kernel[None, None], padding=3)

    # The prediction's kernel is the one with the factor 2.
    expected = (blur(heat, 2 * kernel) - 100 * blur(spikes, kernel)).square().mean() + heat.abs().mean()
    assert network.loss(photons, truth).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_best_prediction_of_one_emitter_is_one_emitter_on_the_canvas() -> None:
    network = DeepStorm(upsampling=1, pixel_size_nm=100.0)
    truth = emitters([1650.0], [1650.0], [0])
    prediction = torch.zeros(1, 33, 33, requires_grad=True)
    optimizer = torch.optim.Adam([prediction], lr=0.3)
    for step in range(1500):
        for group in optimizer.param_groups:
            group["lr"] = 0.3 * (1 - step / 1500)
        optimizer.zero_grad()
        network.heat_loss(prediction, truth).backward()
        optimizer.step()
    # 50 but for what the absolute value takes away.
    mass = prediction.detach().clamp_min(0).sum().item()
    assert mass == pytest.approx(48.2, abs=1.0)
    assert mass * DeepStorm.increment_scale == pytest.approx(1, abs=0.06)


def test_increment_clips_negative_values_per_frame_before_the_sum() -> None:
    network = DeepStorm().eval()
    photons = torch.rand(3, 12, 20)  # neither side is a multiple of what the pooling needs
    canvas = torch.ones(96, 160)
    network.add_increment(photons, canvas)
    with torch.no_grad():
        expected = 1 + network(photons).clamp_min(0).sum(0) / 50
    assert torch.allclose(canvas, expected, atol=1e-6)
