"""livenet: a network that works at camera resolution and says where emitters are, not what an image looks like.

Per camera pixel it gives the probability of an emitter, its sub-pixel position with uncertainty, and its photons,
trained by the likelihood of DECODE (Speiser et al., Nature Methods 18, 1082, 2021). The increment is rendered from
these onto a grid of any fineness, so that no work is spent on sub-pixels where nothing is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from stormlive_models.normalize import livenet_input
from stormlive_models.tiling import Part, Portion, in_halves, in_parts
from stormlive_models.training.losses import detection_loss
from stormlive_sim.emitters import Emitters
from stormlive_sim.psf import render_gaussians

_OUTPUTS = 7
# Widths, in sub-pixels, up to which spots are drawn in windows of one size: nine hold 99.9 % of the sharpest.
_NARROW = (0.35, 0.8)
# Expected emitters. In dense frames a quarter of the places have less: together 0.1 % of the picture.
_LEAST_WEIGHT = 1e-3
# Large frames go through in tiles, so that a 2048x2048 frame needs the memory of a small one.
_TILE_PX = 512
HALO_PX = 24
"""How far beyond a tile the network sees, and what is drawn looks at the network's answer: 22 pixels, in steps of 4."""


@dataclass(frozen=True, kw_only=True)
class Detections:
    """What livenet says of each camera pixel; every map is float32 (B, Y, X).

    Attributes
    ----------
    logit : Tensor
        Log-odds that the pixel stands for an emitter.
    x_px, y_px : Tensor
        Position in pixels of the frame (pixel edges at whole numbers), up to a pixel from the pixel's centre.
    log_photons : Tensor
        Natural logarithm of the photons.
    sigma_x_px, sigma_y_px, sigma_log_photons : Tensor
        Standard deviations of the above.
    """

    logit: Tensor
    x_px: Tensor
    y_px: Tensor
    log_photons: Tensor
    sigma_x_px: Tensor
    sigma_y_px: Tensor
    sigma_log_photons: Tensor


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of large frames that went through the network at once.

    Attributes
    ----------
    found : Detections
        Of the tile and a halo around it; positions count from its own corner.
    first : int
        Number of its first frame in the batch.
    row, column : int
        Where that corner lies in the frame, in pixels.
    core : tuple of slices
        (rows, columns) of `found` that are the tile's own: each pixel of the frame is in the core of one tile.
    """

    found: Detections
    first: int
    row: int
    column: int
    core: tuple[slice, slice]


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    """Return 0 below `low`, 1 above `high`, and a smooth rise between."""
    share = ((values - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _convolutions(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1), nn.ELU(), nn.Conv2d(n_out, n_out, 3, padding=1), nn.ELU()
    )


class LiveNet(nn.Module):
    """U-Net of three levels at camera resolution with detection heads.

    Parameters
    ----------
    pixel_size_nm : float
        Camera pixel in the sample.
    upsampling : int
        Sub-pixels per camera pixel and axis of the canvas.
    width : int
        Features of the first level; doubled at each of the two below.
    context : int
        Neighbouring frames either side that it sees of each frame.

    Notes
    -----
    All methods take frames (B, Y, X), or (B, F, Y, X), the middle one of F consecutive frames, of which they use as
    many as the context has. A neighbour that there is not is a dark frame: scaled, it is 0 everywhere.
    """

    # What is shown: pixels whose 3x3 neighbourhood holds less than `fade[0]` expected emitters add nothing, those
    # above `fade[1]` all; in between smoothly, so that rounding switches nothing on or off that can be seen. So
    # thousands of frames of 1e-4 add up to no haze. The neighbourhood, because an emitter on the border of
    # pixels is shared by up to four of them, each with a small part.
    fade = (0.2, 0.6)
    # Emitters whose place is less certain (nm, geometric mean of the axes) than the first fade, beyond the second they
    # add nothing: in dense frames those are haze between the structures. They stay in the table of localizations.
    uncertain_nm = (24.0, 36.0)
    # Rendered width as a share of the predicted uncertainty, and its bounds in sub-pixels.
    sigma_share = 0.3
    sigma_bounds = (0.3, 2.0)
    pixels_per_pixel = 1  # what it computes for each camera pixel, for bounding the memory of a batch

    def __init__(self, pixel_size_nm: float = 100.0, upsampling: int = 8, width: int = 48, context: int = 0) -> None:
        super().__init__()
        self.pixel_size_nm = pixel_size_nm
        self.upsampling = upsampling
        self.context = context
        self.portion = Portion(side_px=_TILE_PX)
        # What computes `maps` in its place where nothing is learnt: see `stormlive_models.runtime`.
        self.runtime: Callable[[Tensor], Tensor] | None = None
        self.enter = _convolutions(2 * (1 + 2 * context), width)
        self.down = _convolutions(width, 2 * width)
        self.bottom = _convolutions(2 * width, 4 * width)
        self.rise = nn.Conv2d(4 * width, 2 * width, 1)
        self.join = _convolutions(4 * width, 2 * width)
        self.rise_again = nn.Conv2d(2 * width, width, 1)
        self.join_again = _convolutions(2 * width, width)
        last = nn.Conv2d(width, _OUTPUTS, 1)
        self.head = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ELU(), last)
        nn.init.normal_(last.weight, std=0.01)
        # Start from "an emitter in one pixel of a hundred, a quarter of a pixel uncertain, 1000 photons".
        last.bias = nn.Parameter(torch.tensor([-4.6, 0.0, 0.0, 0.0, -1.1, -1.1, -0.7]))

    def forward(self, photons: Tensor) -> Detections:
        """Return the detections of frames in photons; any size is taken."""
        return self.detect(self.scaled(photons))

    def scaled(self, photons: Tensor) -> Tensor:
        """Return `livenet_input` of each frame and its neighbours, one after another: (B, 2 (1 + 2 context), Y, X)."""
        frames = photons if photons.ndim == 4 else photons[:, None]
        absent = self.context - frames.shape[1] // 2
        frames = functional.pad(frames, (0, 0, 0, 0, absent, absent))
        return livenet_input(frames.flatten(0, 1)).reshape(len(frames), 2 * frames.shape[1], *frames.shape[2:])

    def detect(self, x: Tensor) -> Detections:
        """Return the detections of input as `scaled` makes it."""
        height, width = x.shape[2:]
        x = functional.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        maps = (self.runtime or self.maps)(x)[:, :, :height, :width].float()
        logit, dx, dy, log_photons, sx, sy, sn = maps.unbind(1)
        column = torch.arange(width, device=x.device) + 0.5
        row = (torch.arange(height, device=x.device) + 0.5)[:, None]
        return Detections(
            logit=logit,
            x_px=column + torch.tanh(dx),
            y_px=row + torch.tanh(dy),
            log_photons=log_photons + 6.9,
            sigma_x_px=functional.softplus(sx) + 0.01,
            sigma_y_px=functional.softplus(sy) + 0.01,
            sigma_log_photons=functional.softplus(sn) + 0.02,
        )

    def maps(self, x: Tensor) -> Tensor:
        """Return the heads' raw output (B, 7, Y, X) for scaled input whose sides are multiples of 4."""
        first = self.enter(x.contiguous(memory_format=torch.channels_last))
        second = self.down(functional.max_pool2d(first, 2))
        x = self.bottom(functional.max_pool2d(second, 2))
        x = self.join(torch.cat((functional.interpolate(self.rise(x), scale_factor=2), second), 1))
        x = self.join_again(torch.cat((functional.interpolate(self.rise_again(x), scale_factor=2), first), 1))
        maps: Tensor = self.head(x)
        return maps

    def input_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (channels, rows, columns) of what `maps` gets for a frame."""
        return 2 * (1 + 2 * self.context), height, width

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a livenet of the same width; neighbours that it did not see begin without effect."""
        name = "enter.0.weight"
        more = (self.state_dict()[name].shape[1] - weights[name].shape[1]) // 2
        self.load_state_dict({**weights, name: functional.pad(weights[name], (0, 0, 0, 0, more, more))})

    def calibrate(self, photons: Tensor) -> None:
        """Do nothing: livenet's scaling has no constants of the training set."""

    def loss(self, photons: Tensor, truth: Emitters) -> Tensor:
        """Return the negative log-likelihood of the emitters of frames, per emitter."""
        return detection_loss(self(photons), truth, self.pixel_size_nm)

    @torch.no_grad()
    def add_increment(self, photons: Tensor, canvas: Tensor) -> None:
        """Add the frames to `canvas` (Y u, X u), in expected emitters per sub-pixel."""
        for tile in self.tiles(photons):
            self.render(tile, canvas)

    @torch.no_grad()
    def tiles(self, photons: Tensor) -> Iterator[Tile]:
        """Yield the detections of frames, tile by tile."""
        scaled = self.scaled(photons)
        n, _, height, width = scaled.shape

        def compute(part: Part) -> Tile:
            frames, rows, columns = part.window(HALO_PX)
            found = self.detect(scaled[frames, :, rows, columns])
            return Tile(found=found, first=frames.start, row=rows.start, column=columns.start, core=part.core(HALO_PX))

        yield from in_parts((n, height, width), self.portion, compute)

    @torch.no_grad()
    def render(self, tile: Tile, canvas: Tensor) -> None:
        """Add a tile to `canvas` (Y u, X u) of the whole frame, in expected emitters per sub-pixel."""
        found, part = tile.found, (..., *tile.core)
        probability = torch.sigmoid(found.logit)
        together = 9 * functional.avg_pool2d(probability[:, None], 3, 1, 1)[:, 0]
        uncertainty_nm = (found.sigma_x_px * found.sigma_y_px).sqrt() * self.pixel_size_nm
        weight = (probability * _ramp(together, *self.fade) * (1 - _ramp(uncertainty_nm, *self.uncertain_nm)))[part]
        # Places instead of masks: on a GPU each mask would be waited for.
        where = (weight > _LEAST_WEIGHT).nonzero(as_tuple=True)
        sigma = torch.stack((found.sigma_x_px[part][where], found.sigma_y_px[part][where]), -1)
        sigma = (sigma * (self.sigma_share * self.upsampling)).clamp(*self.sigma_bounds)
        x = (found.x_px[part][where] + tile.column) * self.upsampling
        y = (found.y_px[part][where] + tile.row) * self.upsampling
        value, widest = weight[where], sigma.amax(1)
        # Most are narrow: windows of one size for all would be empty for the most part, and cost half of the time.
        edges = (0.0, *_NARROW, self.sigma_bounds[1])
        for least, most in pairwise(edges):
            these = ((widest > least) & (widest <= most)).nonzero()[:, 0]
            window = round(3.5 * most)

            def draw(some: slice, these: Tensor = these, window: int = window) -> None:
                at = these[some]
                frame = torch.zeros_like(at)
                render_gaussians(canvas[None], frame, x[at], y[at], value[at], sigma[at], radius=window)

            in_halves(len(these), draw)
