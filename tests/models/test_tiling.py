"""However frames are cut, the canvas is the same; and where memory runs out they are cut finer, for good."""

import logging

import pytest
import torch
from torch import nn

from stormlive_models.localize import add_and_localize
from stormlive_models.networks import livenet
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.networks.livenet import HALO_PX, LiveNet
from stormlive_models.tiling import Part, Portion, in_halves, in_parts


def lively(width: int = 4) -> LiveNet:
    torch.manual_seed(0)
    net = LiveNet(width=width)
    last = net.head[-1]
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():  # untrained, but it renders something
        last.weight.mul_(30)
        last.bias[0] = -1.5
    return net.eval()


def original(upsampling: int = 8) -> DeepStorm:
    torch.manual_seed(0)
    network = DeepStorm(upsampling=upsampling).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return network


def frames(n: int, height: int, width: int) -> torch.Tensor:
    return torch.poisson(torch.full((n, height, width), 20.0), torch.Generator().manual_seed(1))


def canvas_of(network: LiveNet | DeepStorm, photons: torch.Tensor) -> torch.Tensor:
    canvas = torch.zeros(photons.shape[1] * network.upsampling, photons.shape[2] * network.upsampling)
    network.add_increment(photons, canvas)
    return canvas


class Small:
    """Memory for so many pixels of a network's input at once."""

    def __init__(self, network: LiveNet | DeepStorm, pixels: int) -> None:
        self.maps, self.pixels, self.refused = network.maps, pixels, 0
        network.runtime = self

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] * x.shape[2] * x.shape[3] > self.pixels:
            self.refused += 1
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.maps(x)


def test_an_odd_field_has_neither_crop_nor_seam() -> None:
    network, photons = lively(2), frames(1, 317, 511)
    whole = canvas_of(network, photons)
    network.portion.side_px = 128
    tiled = canvas_of(network, photons)
    assert whole[-8:].sum() > 0
    assert whole[:, -8:].sum() > 0
    assert torch.allclose(whole, tiled, atol=1e-4)


@pytest.mark.parametrize("upsampling", [8, 4])
def test_the_network_of_2018_has_no_seam_either(upsampling: int) -> None:
    network, photons = original(upsampling), frames(2, 9, 19)
    whole = canvas_of(network, photons)
    network.portion.side_px = 8
    assert whole.sum() > 0
    assert torch.allclose(whole, canvas_of(network, photons), atol=1e-5 * float(whole.max()))


def test_where_memory_runs_out_smaller_parts_go_through_for_good(caplog: pytest.LogCaptureFixture) -> None:
    network, photons = lively(), frames(3, 100, 131)
    whole = canvas_of(network, photons)
    table = add_and_localize(network, photons, torch.zeros_like(whole), 100.0)
    memory = Small(network, 100**2)
    with caplog.at_level(logging.WARNING):
        assert torch.allclose(whole, canvas_of(network, photons), atol=1e-4)
    assert memory.refused > 1
    assert "memory ran out" in caplog.text
    assert (network.portion.frames, network.portion.side_px) == (1, 72)
    memory.refused = 0
    canvas = torch.zeros_like(whole)
    again = add_and_localize(network, photons, canvas, 100.0)
    assert memory.refused == 0
    assert torch.allclose(whole, canvas, atol=1e-4)
    assert torch.equal(again.frame, table.frame)
    assert torch.allclose(again.photons.sort().values, table.photons.sort().values, rtol=1e-3)


def test_memory_that_does_not_suffice_for_anything_is_an_error() -> None:
    network = lively()
    Small(network, 1000)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        canvas_of(network, frames(2, 64, 64))


def test_other_errors_are_not_tried_again() -> None:
    tried: list[Part] = []

    def broken(part: Part) -> None:
        tried.append(part)
        raise RuntimeError("cuDNN error")

    with pytest.raises(RuntimeError, match="cuDNN"):
        list(in_parts((4, 64, 64), Portion(side_px=32), broken))
    assert len(tried) == 1


def test_drawing_takes_less_at_once_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    network, photons = lively(), frames(2, 40, 40)
    whole, draw, drawn = canvas_of(network, photons), livenet.render_gaussians, list[int]()

    def draw_few(canvas: torch.Tensor, frame: torch.Tensor, *args: torch.Tensor, radius: int) -> None:
        if len(frame) > 300:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        drawn.append(len(frame))
        draw(canvas, frame, *args, radius=radius)

    monkeypatch.setattr(livenet, "render_gaussians", draw_few)
    assert torch.allclose(whole, canvas_of(network, photons), atol=1e-5)
    assert sum(drawn) > 600
    with pytest.raises(RuntimeError, match="memory"):
        in_halves(4, lambda _: (_ for _ in ()).throw(RuntimeError("DefaultCPUAllocator: not enough memory")))


def test_parts_cover_every_pixel_of_every_frame_once() -> None:
    seen = torch.zeros(5, 70, 41)
    for part in in_parts(tuple(seen.shape), Portion(side_px=24, frames=2), lambda part: part):
        assert part.rows[0] % 8 == part.columns[0] % 8 == 0
        (first, end), (top, bottom), (left, right) = part.frames, part.rows, part.columns
        seen[first:end, top:bottom, left:right] += 1
        window, core = torch.zeros(5, 70, 41)[part.window(8)], part.core(8)
        assert window[:, *core].shape == (end - first, bottom - top, right - left)
    assert (seen == 1).all()


def test_the_halo_is_what_the_network_sees_and_no_more() -> None:
    network, side, (first, end) = lively(), 112, (48, 64)
    x = torch.randn(1, 2, side, side, generator=torch.Generator().manual_seed(2), requires_grad=True)
    # What is drawn of a tile looks one pixel beyond it.
    network.maps(x)[:, :, first - 1 : end + 1, first - 1 : end + 1].square().sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()[:, 0]
    assert first - HALO_PX <= rows.min() <= first - HALO_PX + 3
    assert end + HALO_PX - 4 <= rows.max() <= end + HALO_PX - 1


def test_the_halo_of_2018_likewise() -> None:
    network, side, (first, end) = original(), 96, (40, 48)
    x = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(2), requires_grad=True)
    network.maps(x)[:, :, first:end, first:end].square().sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()[:, 0]
    halo = network.halo_px * network.upsampling
    assert first - halo <= rows.min() <= first - halo + 7
    assert end + halo - 8 <= rows.max() <= end + halo - 1
