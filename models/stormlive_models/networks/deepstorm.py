"""The Deep-STORM network of 2018, exactly (Nehme et al., Optica 5, 458, 2018)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stormlive_models.normalize import deepstorm_input
from stormlive_models.tiling import Part, Portion, in_parts
from stormlive_sim.emitters import Emitters

# Large frames go through in tiles: a 2048x2048 frame would take 35 GB in the first layer alone.
_TILE_PX = 128
_REACH = 24
"""How many sub-pixels beyond a tile the network sees: 23, in steps of 8."""


@dataclass(frozen=True, kw_only=True)
class HeatTile:
    """What a part of frames adds to the canvas: float32 (rows, columns), from sub-pixel (row, column) on."""

    increment: Tensor
    row: int
    column: int


def _block(n_in: int, n_out: int) -> nn.Sequential:
    convolution = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    nn.init.orthogonal_(convolution.weight)
    # Keras counts momentum from the other side: its default 0.99 is 0.01 here.
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out, eps=1e-3, momentum=0.01), nn.ReLU(inplace=True))


class DeepStorm(nn.Module):
    """Encoder-decoder on the upsampled frame; 1,366,208 parameters, 24.24 GMAC for a 64x64 frame at 8.

    Parameters
    ----------
    pixel_size_nm : float
        Camera pixel in the sample.
    upsampling : int
        Sub-pixels per camera pixel and axis (8).

    Notes
    -----
    The loss of the reference code: mean squared error between the prediction, blurred by twice a 7x7 Gaussian of sigma
    1 sub-pixel, and 100 times the emitter image (0 or 1 per sub-pixel) blurred by that Gaussian once, plus the mean
    absolute value of the prediction. The factor 2 stands on the prediction's side alone.
    """

    increment_scale = 0.02
    """One emitter is 100 in the target, and the prediction is blurred by a kernel of sum 2: 50 is an emitter."""

    def __init__(self, pixel_size_nm: float = 100.0, upsampling: int = 8) -> None:
        super().__init__()
        self.pixel_size_nm = pixel_size_nm
        self.upsampling = upsampling
        self.portion = Portion(side_px=_TILE_PX)
        # What computes `maps` in its place where nothing is learnt: see `stormlive_models.runtime`.
        self.runtime: Callable[[Tensor], Tensor] | None = None
        pool, up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")
        encoder = [_block(1, 32), pool, _block(32, 64), pool, _block(64, 128), pool, _block(128, 512)]
        decoder = [up, _block(512, 128), up, _block(128, 64), up, _block(64, 32)]
        last = nn.Conv2d(32, 1, 1, bias=False)
        nn.init.orthogonal_(last.weight)
        self.layers = nn.Sequential(*encoder, *decoder, last)
        # Of the authors' training set (demo 1); training on another one replaces them.
        self.register_buffer("mean", torch.tensor(0.19608))
        self.register_buffer("std", torch.tensor(0.17764))
        axis = torch.arange(-3.0, 4.0)
        kernel = torch.exp(-(axis[:, None] ** 2 + axis**2) / 2)
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.kernel: Tensor

    @property
    def pixels_per_pixel(self) -> int:
        """Pixels that the network computes for each camera pixel, for bounding the memory of a batch."""
        return self.upsampling**2

    def calibrate(self, photons: Tensor) -> None:
        """Take the mean and standard deviation of the training set from a sample of it, (B, Y, X)."""
        raw = deepstorm_input(photons, torch.zeros(()), torch.ones(())).flatten(1)
        self.mean.fill_(raw.mean())
        # As the reference code does: the mean of the frames' own standard deviations.
        self.std.fill_(raw.std(1, correction=0).mean())

    def forward(self, photons: Tensor) -> Tensor:
        """Return the heat map, (B, Y u, X u), of frames (B, Y, X); sizes are padded to multiples of 8."""
        return self._heat(deepstorm_input(photons, self.mean, self.std))

    def _heat(self, scaled: Tensor) -> Tensor:
        """Return the heat map, (B, Y u, X u), of scaled frames (B, 1, Y, X), which are upsampled to the nearest."""
        height, width = (size * self.upsampling for size in scaled.shape[2:])
        x = scaled.repeat_interleave(self.upsampling, 2).repeat_interleave(self.upsampling, 3)
        x = functional.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        return (self.runtime or self.maps)(x)[:, 0, :height, :width]

    def maps(self, x: Tensor) -> Tensor:
        """Return the heat map (B, 1, Y u, X u) of scaled input whose sides are multiples of 8."""
        heat: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        return heat

    def input_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (channels, rows, columns) of what `maps` gets for a frame."""
        return 1, height * self.upsampling, width * self.upsampling

    def loss(self, photons: Tensor, truth: Emitters) -> Tensor:
        """Return the loss of frames (B, Y, X) and their emitters."""
        return self.heat_loss(self(photons), truth)

    def heat_loss(self, prediction: Tensor, truth: Emitters) -> Tensor:
        """Return the loss of a predicted heat map (B, Y u, X u); always computed in float32."""
        with torch.autocast(prediction.device.type, enabled=False):
            prediction = prediction.float()
            spikes = torch.zeros_like(prediction)
            sub_nm = self.pixel_size_nm / self.upsampling
            column = (truth.x_nm / sub_nm).long().clamp(0, spikes.shape[2] - 1)
            row = (truth.y_nm / sub_nm).long().clamp(0, spikes.shape[1] - 1)
            spikes[truth.frame, row, column] = 1.0
            difference = (2 * prediction - 100 * spikes)[:, None]
            blurred: Tensor = functional.conv2d(difference, self.kernel, padding=3)
            loss: Tensor = blurred.square().mean() + prediction.abs().mean()
            return loss

    @torch.no_grad()
    def add_increment(self, photons: Tensor, canvas: Tensor) -> None:
        """Add the frames (B, Y, X) to `canvas` (Y u, X u) in emitters; negative values are clipped per frame."""
        for tile in self.tiles(photons):
            self.render(tile, canvas)

    @property
    def halo_px(self) -> int:
        """Camera pixels beyond a tile that the network sees, so many that its pooling stays in step."""
        u = self.upsampling
        return next(px for px in range(1, _REACH + 1) if px * u >= _REACH and px * u % 8 == 0)

    @torch.no_grad()
    def tiles(self, photons: Tensor) -> Iterator[HeatTile]:
        """Yield what frames (B, Y, X) add, tile by tile."""
        scaled, u, halo = deepstorm_input(photons, self.mean, self.std), self.upsampling, self.halo_px

        def compute(part: Part) -> HeatTile:
            frames, rows, columns = part.window(halo)
            core = (slice(span.start * u, span.stop * u) for span in part.core(halo))
            heat = self._heat(scaled[frames, :, rows, columns])[:, *core]
            increment = heat.float().clamp_min(0).sum(0) * self.increment_scale
            return HeatTile(increment=increment, row=part.rows[0] * u, column=part.columns[0] * u)

        n, height, width = photons.shape
        yield from in_parts((n, height, width), self.portion, compute)

    @staticmethod
    def render(tile: HeatTile, canvas: Tensor) -> None:
        """Add a tile to `canvas` (Y u, X u) of the whole frame."""
        rows, columns = tile.increment.shape
        canvas[tile.row : tile.row + rows, tile.column : tile.column + columns] += tile.increment
