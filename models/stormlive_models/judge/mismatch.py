"""Whether the frames are like those that a model was trained on.

A network is as good as its training was like the experiment: beyond it, it fails without a word (Speiser et al., Nature
Methods 18, 1082, 2021; Saguy et al., Nature Methods 20, 1939, 2023). So width, light, background and density are
measured classically, on spots that stand alone, and compared with the ranges on the model's card.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from stormlive_models.fit import Fits, fit_spots
from stormlive_models.spots import find_spots, is_isolated

Gauge = Literal["unknown", "green", "amber", "red"]
Range = tuple[float, float]

LEAST_SPOTS = 30
"""Spots from which their medians mean something."""
RED = 0.25
"""How far outside its range a figure may be, as a share of the range's end, before amber becomes red."""
USUAL_SIGMA_NM = 120.0
USUAL_SIGMAS_NM = (70.0, 170.0)
"""From 520 nm at NA 1.49 to 700 nm at NA 0.9, as 0.21 wavelengths / NA has it, with a little for pixels and focus."""
_LEAST_SIGMA_PX = 0.5
_MOST_SPOTS = 200
# Two spots as one have the wrong shape. The best quarter tells what misfit a single spot has with this camera, which is
# 1, or 2 with electron multiplication; where it is far more, even the best quarter overlaps.
_MISFIT_SPREAD = 1.4
_MOST_MISFIT = 3.0
_MOST_WIDTH_ERROR = 0.15


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the frames are like; None for what could not be measured.

    Attributes
    ----------
    psf_sigma_nm : float or None
        Median width of isolated spots.
    photons : float or None
        Median light of an isolated spot in a frame.
    background : float or None
        Photons per camera pixel, median around isolated spots.
    density_per_um2 : float or None
        Emitters in a frame.
    """

    psf_sigma_nm: float | None = None
    photons: float | None = None
    background: float | None = None
    density_per_um2: float | None = None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """(Least, greatest) of each figure in the training, for frames of one camera; the fields are those of `Figures`."""

    psf_sigma_nm: Range
    photons: Range
    background: Range
    density_per_um2: Range

    @classmethod
    def from_card(cls, training: Mapping[str, Any], pixel_size_nm: float, binning: int = 1) -> "Trained | None":
        """Return the ranges of a card's `training` for a camera; None where it does not tell.

        A network knows pixels and no nanometres: on a camera with other pixels than in the training, which may also
        be summed `binning` x `binning`, lengths scale with the pixel.
        """
        data = training.get("data")
        if not isinstance(data, Mapping):
            return None
        ranges = {}
        for ours, theirs in _ON_THE_CARD.items():
            try:
                low, high = (float(end) for end in data[theirs])
            except (KeyError, TypeError, ValueError):
                return None
            if not 0 < low <= high < math.inf:
                return None
            ranges[ours] = (low, high)
        trained_nm = data.get("pixel_size_nm")
        if not isinstance(trained_nm, int | float) or not trained_nm > 0:
            return None
        scale = pixel_size_nm * binning / trained_nm
        factor = {"psf_sigma_nm": scale, "density_per_um2": scale**-2, "background": binning**-2.0, "photons": 1.0}
        return cls(**{name: (low * factor[name], high * factor[name]) for name, (low, high) in ranges.items()})


_ON_THE_CARD = {
    "psf_sigma_nm": "psf_sigma_nm",
    "photons": "photons",
    "background": "background_photons",
    "density_per_um2": "density_per_um2",
}


@torch.no_grad()
def isolated_spots(photons: Tensor, pixel_size_nm: float, sigma_nm: float = USUAL_SIGMA_NM) -> Fits:
    """Fit the spots of frames (T, Y, X), float32 photons, that stand alone, each with a width of its own.

    They are looked for at the width `sigma_nm`; at most 200 are fitted, evenly from all. The table is empty when
    there are none, and for frames smaller than the fit's window.
    """
    sigma_px = max(_LEAST_SIGMA_PX, sigma_nm / pixel_size_nm)
    half = math.ceil(4 * sigma_px)
    height, width = photons.shape[1:]
    spots = find_spots(photons, sigma_px, threshold=3.5)
    inside = (spots.row >= half) & (spots.row < height - half) & (spots.column >= half) & (spots.column < width - half)
    bright = spots.select(inside & (spots.significance > 6))
    alone = bright.select(is_isolated(bright, spots, half))
    if len(alone) > _MOST_SPOTS:
        alone = alone.select(torch.linspace(0, len(alone) - 1, _MOST_SPOTS).long())
    if min(height, width) <= 2 * half:
        photons, alone = photons.new_zeros(1, 2 * half + 1, 2 * half + 1), alone.select(slice(0))  # type: ignore[arg-type]
    fits = fit_spots(photons, alone, sigma_px=sigma_px, free_widths=1)
    return fits.select(fits.converged)


def single_ones(fits: Fits) -> Fits:
    """Return the spots that are single emitters by their shape, if it can be told; the camera's noise is not known."""
    if not len(fits):
        return fits
    most_misfit = min(_MOST_MISFIT, _MISFIT_SPREAD * float(fits.misfit.quantile(0.25)))
    # Of a spot with few photons over its background the width says nothing.
    width_error = (1 + 8 * math.pi * fits.sigma_x_px**2 * fits.background / fits.photons).sqrt() / fits.photons.sqrt()
    return fits.select((fits.misfit <= most_misfit) & (width_error < _MOST_WIDTH_ERROR))


def measure(fits: Fits, pixel_size_nm: float, density_per_um2: float | None = None) -> Figures:
    """Return the medians of isolated spots, all None but the density where they are fewer than 30."""
    single = single_ones(fits)
    if len(single) < LEAST_SPOTS:
        return Figures(density_per_um2=density_per_um2)
    return Figures(
        psf_sigma_nm=float(single.sigma_x_px.median()) * pixel_size_nm,
        photons=float(single.photons.median()),
        background=float(single.background.median()),
        density_per_um2=density_per_um2,
    )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A colour, and a sentence for a person that says why, by how much, and what to do."""

    gauge: Gauge
    sentence: str


_WORDS = {
    "psf_sigma_nm": ("PSF width", "nm", "wide", "narrow"),
    "photons": ("light of an emitter", "photons", "bright", "dim"),
    "background": ("background", "photons per pixel", "high", "low"),
    "density_per_um2": ("density", "emitters/µm²", "high", "low"),
}
_REMEDIES = {
    ("psf_sigma_nm", True): "check the focus and --pixel-size-nm, or train for it with `stormlive train`",
    ("psf_sigma_nm", False): "check --pixel-size-nm, or train for it with `stormlive train`",
    ("photons", True): "check --photons-per-adu, or shorten the exposure",
    ("photons", False): "check --photons-per-adu; more laser or a longer exposure gives more light",
    ("background", True): "check --baseline-adu and the focus, or train for it with `stormlive train`",
    ("background", False): "check --baseline-adu: it may be too high",
    ("density_per_um2", True): "wait for bleaching, raise the readout laser or lower the activation",
}


def judge(figures: Figures, trained: Trained | None) -> Verdict:
    """Compare figures with the ranges of a training: green inside, amber up to 25 % outside, red beyond.

    Fewer emitters than in the training are no fault. Without the width of the spots there is no green, nor where it is
    none that visible light gives.
    """
    if trained is None:
        return Verdict(gauge="unknown", sentence="The model's card does not say what it was trained on.")
    excesses = []
    for field in fields(Figures):
        value = getattr(figures, field.name)
        if value is None:
            continue
        low, high = getattr(trained, field.name)
        if value > high:
            excesses.append((value / high - 1, field.name, True))
        elif value < low and field.name != "density_per_um2":
            excesses.append((1 - value / low, field.name, False))
    if excesses:
        worst, name, above = max(excesses)
        what, unit, more, less = _WORDS[name]
        low, high = getattr(trained, name)
        share = f"{100 * worst:.0f} % " if getattr(figures, name) > 0 else ""
        by = f"{share}too {more if above else less}"
        others = "".join(f"; {_WORDS[other][0]} is out too" for _, other, _ in sorted(excesses)[:-1][-1:])
        sentence = (
            f"{what[0].upper()}{what[1:]} {_short(getattr(figures, name))} {unit}, the model knows {_short(low)} to "
            f"{_short(high)}: {by}{others}; {_REMEDIES[name, above]}."
        )
        return Verdict(gauge="red" if worst > RED else "amber", sentence=sentence)
    if figures.psf_sigma_nm is None:
        told = "The width of the spots could not be measured, too few stand alone"
        return Verdict(gauge="unknown", sentence=f"{told}{_known(figures)}.")
    low, high = USUAL_SIGMAS_NM
    if not low <= figures.psf_sigma_nm <= high:
        # The network does not mind: it knows pixels and no nanometres. The scale of the picture may be wrong.
        return Verdict(
            gauge="amber",
            sentence=f"Spots are {_short(figures.psf_sigma_nm)} nm wide (σ), where light microscopes give {low:g} to "
            f"{high:g} nm: check --pixel-size-nm and the focus.",
        )
    return Verdict(gauge="green", sentence="The frames are like those that the model was trained on.")


def _known(figures: Figures) -> str:
    """Return which figures are within the model's ranges, as the end of a sentence."""
    known = [
        f"{what} {_short(value)} {unit}"
        for name, (what, unit, _, _) in _WORDS.items()
        if (value := getattr(figures, name)) is not None
    ]
    return f"; {' and '.join(known)} would suit the model" if known else ""


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 20 else f"{value:.1f}"
