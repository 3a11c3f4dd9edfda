"""Isolated spots of a real microscope, cut from sparse frames, with their classically fitted positions."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from stormlive_models.fit import Fits, fit_spots
from stormlive_models.spots import Spots, find_spots, is_isolated
from stormlive_sim.errors import InputError

logger = logging.getLogger(__name__)

NEEDED_SPOTS = 200
# More add nothing but memory.
_MOST_SPOTS = 20_000
_NEEDED_DARK_PIXELS, _MOST_DARK_PIXELS = 2000, 20_000
# A neighbour of half this significance already spoils a crop.
_BRIGHT, _DIM = 7.0, 3.5
_REACH_PX = 12
_PLAUSIBLE_SIGMA_NM = (50.0, 500.0)
_WIDTH_TOLERANCE = 0.3
_OFF_CENTRE_PX = 1.5
_WORST_SD_PX = 0.15


@dataclass(frozen=True, kw_only=True)
class SpotLibrary:
    """Isolated spots, one per row, and the noise of the dark pixels around them.

    Attributes
    ----------
    crops : Tensor
        float32 (N, S, S), photons, background and all.
    x_px, y_px : Tensor
        float32 (N,), fitted position in the crop, pixel edges at whole numbers.
    photons, background : Tensor
        float32 (N,), fitted photons, and background photons per pixel.
    sigma_px : tuple of float
        Median fitted widths (x, y).
    noise : Tensor
        float32 (M,), deviations of dark pixels from the background, scaled to variance 1.
    read_variance : float
        Variance of a pixel without light, photons².
    excess : float
        Variance over mean of light: 1, or 2 with electron multiplication.
    pixel_size_nm : float
        Camera pixel.
    """

    crops: Tensor
    x_px: Tensor
    y_px: Tensor
    photons: Tensor
    background: Tensor
    sigma_px: tuple[float, float]
    noise: Tensor
    read_variance: float
    excess: float
    pixel_size_nm: float

    def __len__(self) -> int:
        return self.crops.shape[0]

    def select(self, rows: slice) -> "SpotLibrary":
        """Return a part of the spots; the noise is shared."""
        return replace(
            self,
            crops=self.crops[rows],
            x_px=self.x_px[rows],
            y_px=self.y_px[rows],
            photons=self.photons[rows],
            background=self.background[rows],
        )

    def to(self, device: torch.device) -> "SpotLibrary":
        """Return the same on another device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.type is Tensor}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})


def collect_spots(
    blocks: Iterable[Tensor], *, pixel_size_nm: float, expected_sigma_nm: float, excess: float = 1.0
) -> SpotLibrary:
    """Find, fit and cut out the isolated spots of sparse frames.

    Parameters
    ----------
    blocks : iterable of Tensor
        float32 (T, Y, X) photons, in order.
    pixel_size_nm : float
        Camera pixel.
    expected_sigma_nm : float
        About the width of a spot, to find it by; the width itself is then fitted, per axis.
    excess : float
        See `SpotLibrary`.

    Raises
    ------
    InputError
        When there are too few isolated spots, the frames are too small, or the spots' width or the background is
        not possible, which a wrong pixel size or baseline makes it.
    """
    sigma_px = expected_sigma_nm / pixel_size_nm
    windows: list[Tensor] = []
    dark: list[Tensor] = []
    n_frames = n_bright = n_kept = 0
    for frames in blocks:
        if min(frames.shape[1:]) < 2 * _REACH_PX + 1:
            raise InputError(
                f"expected frames of at least {2 * _REACH_PX + 1} pixels a side, got {frames.shape[2]}x"
                f"{frames.shape[1]}; record a larger region"
            )
        n_frames += len(frames)
        among = find_spots(frames, sigma_px, threshold=_DIM)
        bright = among.select(among.significance > _BRIGHT)
        n_bright += len(bright)
        lonely = bright.select(is_isolated(bright, among, _REACH_PX) & _inside(bright, frames))
        windows.append(_cut(frames, lonely, _REACH_PX))
        dark.append(_dark_deviations(frames, among))
        n_kept += len(lonely)
        if n_kept >= _MOST_SPOTS:
            break
    cut = torch.cat(windows) if windows else torch.zeros(0, 1, 1)
    counted = f"{n_frames} frames with {n_bright} spots"
    _require(len(cut), counted, "isolated")
    fits, half = _fit_all(cut, sigma_px, excess)
    widths = fits.sigma_x_px.median().item(), fits.sigma_y_px.median().item()
    _check_width(widths, pixel_size_nm)
    good = _good(fits, widths)
    _require(int(good.sum()), counted, f"well fitted (of {len(cut)} isolated)")
    cut, fits = cut[good], fits.select(good)
    deviations = torch.cat(dark)
    if len(deviations) < _NEEDED_DARK_PIXELS:
        raise InputError(
            f"found {len(deviations)} dark pixels, {_REACH_PX} pixels from any spot, in {counted}, needed "
            f"{_NEEDED_DARK_PIXELS}; give more frames, or sparser ones"
        )
    variance = deviations.square().mean().item()
    level = fits.background.mean().item()
    if level <= 0.02:
        raise InputError(
            "the dark parts of the frames hold no light at all: the baseline is above the background; check "
            "--baseline-adu"
        )
    _check_noise(variance, level, excess)
    inner = slice(_REACH_PX - half, _REACH_PX + half + 1)
    return SpotLibrary(
        crops=cut[:, inner, inner].contiguous(),
        x_px=fits.x_px - (_REACH_PX - half),
        y_px=fits.y_px - (_REACH_PX - half),
        photons=fits.photons,
        background=fits.background,
        sigma_px=widths,
        noise=deviations / max(variance, 1e-12) ** 0.5,
        read_variance=max(0.0, variance - excess * level),
        excess=excess,
        pixel_size_nm=pixel_size_nm,
    )


def _inside(spots: Spots, frames: Tensor) -> Tensor:
    height, width = frames.shape[1:]
    rows = (spots.row >= _REACH_PX) & (spots.row < height - _REACH_PX)
    return rows & (spots.column >= _REACH_PX) & (spots.column < width - _REACH_PX)


def _cut(frames: Tensor, spots: Spots, half: int) -> Tensor:
    offsets = torch.arange(-half, half + 1, device=frames.device)
    rows, columns = spots.row[:, None] + offsets, spots.column[:, None] + offsets
    return frames[spots.frame[:, None, None], rows[:, :, None], columns[:, None, :]]


def _fit_all(cut: Tensor, sigma_px: float, excess: float) -> tuple[Fits, int]:
    """Fit twice, the second time with window and start of the width that the first found; return the crop radius."""
    middle = torch.full((len(cut),), _REACH_PX, device=cut.device)
    spots = Spots(
        frame=torch.arange(len(cut), device=cut.device), row=middle, column=middle, significance=torch.ones(len(cut))
    )
    for _ in range(2):
        radius = min(_REACH_PX, math.ceil(4 * sigma_px))
        fits = fit_spots(cut, spots, sigma_px=sigma_px, free_widths=2, radius=radius, excess=excess)
        wide = torch.maximum(fits.sigma_x_px.median(), fits.sigma_y_px.median()).item()
        sigma_px = math.sqrt(fits.sigma_x_px.median().item() * fits.sigma_y_px.median().item())
    return fits, min(_REACH_PX - 2, max(3, round(3.5 * wide)))


def _good(fits: Fits, widths: tuple[float, float]) -> Tensor:
    good = fits.converged & (fits.x_sd_px < _WORST_SD_PX) & (fits.y_sd_px < _WORST_SD_PX)
    for position in (fits.x_px, fits.y_px):
        good &= (position - _REACH_PX - 0.5).abs() < _OFF_CENTRE_PX
    for sigma, median in zip((fits.sigma_x_px, fits.sigma_y_px), widths, strict=True):
        good &= (sigma / median - 1).abs() < _WIDTH_TOLERANCE
    # Two spots in one have a misfit beyond the others'; a PSF that is no Gaussian raises everyone's alike.
    deviation = (fits.misfit - fits.misfit.median()).abs().median() * 1.4826
    return good & (fits.misfit < fits.misfit.median() + 4 * deviation)


def _dark_deviations(frames: Tensor, among: Spots) -> Tensor:
    """Return how pixels far from every spot deviate from the mean of such pixels around them, photons (M,)."""
    spots = torch.zeros(len(frames), 1, *frames.shape[1:], device=frames.device)
    spots[among.frame, 0, among.row, among.column] = 1.0
    side = 2 * _REACH_PX + 1
    dark = 1 - functional.max_pool2d(spots, side, 1, _REACH_PX)
    share = functional.avg_pool2d(dark, side, 1, _REACH_PX)
    mean = functional.avg_pool2d(frames[:, None] * dark, side, 1, _REACH_PX) / share.clamp_min(1e-6)
    # Among 100 pixels, the pixel itself hardly pulls the mean.
    return (frames[:, None] - mean)[(dark > 0) & (share * side**2 > 100)][:_MOST_DARK_PIXELS]


def _check_width(widths: tuple[float, float], pixel_size_nm: float) -> None:
    low, high = _PLAUSIBLE_SIGMA_NM
    sigma_nm = pixel_size_nm * math.sqrt(widths[0] * widths[1])
    if not low < sigma_nm < high:
        raise InputError(
            f"the spots are {sigma_nm:.0f} nm wide (sigma) at pixels of {pixel_size_nm:g} nm, expected {low:.0f} to "
            f"{high:.0f} nm of light microscopy; check --pixel-size-nm"
        )


def _check_noise(variance: float, level: float, excess: float) -> None:
    # Ten photons² are more than the read noise of cameras for single molecules.
    low, high = 0.7 * excess * level, 2 * excess * level + 10
    if not low < variance < high:
        logger.warning(
            "the background of %.1f photons has a variance of %.1f, expected %.1f to %.1f: check --baseline-adu, "
            "--photons-per-adu and --emccd",
            *(level, variance, low, high),
        )


def _require(n: int, counted: str, kind: str) -> None:
    if n < NEEDED_SPOTS:
        raise InputError(
            f"found {n} spots that are {kind} in {counted}, needed {NEEDED_SPOTS}; give more frames, or sparser ones "
            "(about two spots per 1000 square pixels are best), and check --baseline-adu and --photons-per-adu"
        )
