"""CEL0: the classical baseline, sparse recovery without any training.

Each frame is explained by as few emitters as possible on a grid of a quarter of a camera pixel: least squares plus the
continuous exact relaxation of the number of non-zeros (Soubies, Blanc-Féraud & Aubert, SIAM J. Imaging Sci. 8, 1607,
2015), minimised by iteratively reweighted l1 with FISTA inside (Gazagnes, Soubies & Blanc-Féraud, ISBI 2017). Unlike
there, the background is fitted along, see `Problem`.
"""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from stormlive_models.cel0_problem import MARGIN_PX, Problem
from stormlive_models.tiling import Portion
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError

_LEAST_PX = 8
_TILE_PX, _HALO_PX = 64, 8
_FRAMES = 8
"""Frames solved at once: more would not fit the processor's cache."""
_PEAK_WINDOW = 5


class Cel0:
    """CEL0 in the place of a network.

    Parameters
    ----------
    pixel_size_nm : float
        Camera pixel in the sample: the scale of `localize` and of the PSF; the method itself works in pixels.
    upsampling : int
        Sub-pixels per camera pixel and axis of the canvas.
    psf_sigma_nm : float
        Width of the pixel-integrated Gaussian PSF.
    grid : int
        Grid points per camera pixel and axis; positions are finer, being centroids.
    false_alarm : float
        Probability that anything is found in a frame of noise alone; decides the regularisation, see `Problem`.
    reweightings, iterations : int
        Outer and inner iterations.
    """

    portion = Portion(side_px=_TILE_PX)

    def __init__(
        self,
        pixel_size_nm: float = 100.0,
        upsampling: int = 8,
        *,
        psf_sigma_nm: float = 115.0,
        grid: int = 4,
        false_alarm: float = 1e-3,
        reweightings: int = 20,
        iterations: int = 200,
    ) -> None:
        self.pixel_size_nm = pixel_size_nm
        self.upsampling = upsampling
        self.psf_sigma_nm = psf_sigma_nm
        self.grid = grid
        self.false_alarm = false_alarm
        self.reweightings = reweightings
        self.iterations = iterations

    def on_pixels(self, pixel_size_nm: float) -> "Cel0":
        """Return the same for a camera with other pixels."""
        return Cel0(**{**vars(self), "pixel_size_nm": pixel_size_nm})

    @property
    def psf_sigma_px(self) -> float:
        """Width of the PSF in camera pixels."""
        return self.psf_sigma_nm / self.pixel_size_nm

    @property
    def pixels_per_pixel(self) -> int:
        """Grid points that are computed for each camera pixel, for bounding the memory of a batch."""
        return self.grid**2

    @torch.no_grad()
    def add_increment(self, photons: Tensor, canvas: Tensor) -> None:
        """Add frames (B, Y, X) to `canvas` (Y u, X u): 1 in the sub-pixel of each localization, whatever its photons.

        The canvas is in emitters per sub-pixel, and its sum is the number of localizations.
        """
        for found in self.tiles(photons):
            self.render(found, canvas)

    def tiles(self, photons: Tensor) -> Iterator[Emitters]:
        """Yield the emitters of frames (B, Y, X), all at once: they are solved in small tiles anyway."""
        yield self.localize(photons)

    def render(self, found: Emitters, canvas: Tensor) -> None:
        """Add emitters to `canvas` (Y u, X u) of the whole frame."""
        scale = self.upsampling / self.pixel_size_nm
        row = (found.y_nm * scale).long().clamp(0, canvas.shape[0] - 1)
        column = (found.x_nm * scale).long().clamp(0, canvas.shape[1] - 1)
        canvas.index_put_((row, column), canvas.new_ones(()), accumulate=True)

    @torch.no_grad()
    def localize(self, photons: Tensor) -> Emitters:
        """Return the emitters of frames (B, Y, X) in photons; `frame` is the index in the batch.

        Each peak of a solution, with no higher value within two grid points, is one emitter: with the photons of all
        non-zeros from which it is reached uphill, at their centroid. Only those are kept that noise does not explain.

        Raises
        ------
        InputError
            When the frames are smaller than 8x8 pixels.
        """
        n, height, width = photons.shape
        if min(height, width) < _LEAST_PX:
            raise InputError(f"CEL0 takes frames of at least {_LEAST_PX}x{_LEAST_PX} pixels, got {width}x{height}")
        tables = [photons.new_zeros(4, 0)]
        for first in range(0, n, _FRAMES):
            batch = photons[first : first + _FRAMES]
            for top, bottom in _tiles(height):
                for left, right in _tiles(width):
                    row, column = max(0, top - _HALO_PX), max(0, left - _HALO_PX)
                    found = self._peaks(batch[:, row : bottom + _HALO_PX, column : right + _HALO_PX])
                    found += found.new_tensor([first, column, row, 0])[:, None]
                    _, x, y, _ = found
                    tables.append(found[:, (x >= left) & (x < right) & (y >= top) & (y < bottom)])
        table = torch.cat(tables, 1)
        frame, x, y, brightness = table[:, table[0].argsort(stable=True)]
        return Emitters(
            frame=frame.long(), x_nm=x * self.pixel_size_nm, y_nm=y * self.pixel_size_nm, photons=brightness
        )

    def problem(self, photons: Tensor) -> Problem:
        """Return the minimisation that frames (B, Y, X) pose."""
        return Problem(photons, self.psf_sigma_px, self.grid, self.false_alarm)

    def iterates(self, problem: Problem) -> Iterator[Tensor]:
        """Yield the solution (B, grid rows, grid columns), in photons, after each reweighting."""
        x = torch.zeros_like(problem.threshold)
        for _ in range(self.reweightings):
            x = problem.reweighted(x, self.iterations)
            yield x

    def _peaks(self, photons: Tensor) -> Tensor:
        """Return (frame, x_px, y_px, photons) of the emitters of frames (B, Y, X), float32 (4, N)."""
        problem = self.problem(photons)
        *_, x = self.iterates(problem)
        n, rows, columns = x.shape
        highest = functional.max_pool2d(x[:, None], _PEAK_WINDOW, 1, _PEAK_WINDOW // 2, return_indices=True)[1]
        here = torch.arange(rows * columns, device=x.device).expand(n, -1)
        value = x.flatten(1)
        peak = torch.where(value > 0, highest.flatten(1), here)
        while not torch.equal(further := peak.gather(1, peak), peak):
            peak = further

        def gathered(weight: Tensor) -> Tensor:
            return torch.zeros_like(value).scatter_add_(1, peak, value * weight)

        total = gathered(torch.ones_like(value))
        found = (total > 0) & (total * total >= gathered(problem.significant.flatten(1)))
        row = here.div(columns, rounding_mode="floor")
        place = [(gathered(index.float()) / total)[found] for index in (here - columns * row, row)]
        x_px, y_px = ((index + 0.5) / self.grid - MARGIN_PX for index in place)
        return torch.stack((found.nonzero()[:, 0].float(), x_px, y_px, total[found]))


def _tiles(length: int) -> list[tuple[int, int]]:
    """Return the (first, last) pixels of tiles of about 64: the cost of a solution grows with the cube of the side."""
    n = math.ceil(length / _TILE_PX) if length > 1.5 * _TILE_PX else 1
    edges = [round(i * length / n) for i in range(n + 1)]
    return list(itertools.pairwise(edges))
