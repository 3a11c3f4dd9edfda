"""The camera's calibration as the stream shows it, beside the one that was given."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormlive_models.judge.camera import (
    LEAST_TILES,
    TILE_PX,
    CameraEstimate,
    Transfer,
    dark_baseline,
    estimate_camera,
    pixel_transfer,
)

_KINDS = {1.0: "an sCMOS camera", 2.0: "an EMCCD"}
_DARK_NOISE_PHOTONS, _DARK_PHOTONS = 3.0, 2.0
# By how much the noise of a dark movie's brightest pixels may be above that of its darker half, photons².
_DARK_GROWTH = 4.0
_BRIGHTEST_SHARE, _LEAST_BRIGHTEST = 0.01, 25
# What was given agrees within so many errors, or these differences, which hardly change a picture.
_SIGMAS = 3.0
_LEAST_GAIN = 0.15
# Noise tells photoelectrons; how many photons each took is not known.
_LEAST_QE = 0.6
_LEAST_BASELINE_PHOTONS = 2.0
_MOST_BASELINE_PHOTONS = 20.0
# White noise has 0.74; spots of 0.75 pixels at 5 per µm² bring it to 1.5, a blur by 0.7 pixels to 12.
_MOST_SMOOTH = 2.0
_SHADE = 4.0
_BINS = 8
_GROWTH = 1.25
_MOST_BEND = 0.2


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the stream says of a calibration that was given.

    Attributes
    ----------
    sentence : str
        In what it looks unlike that; empty where it agrees or cannot be told.
    contradicts : bool
        Whether the stream shows another calibration, rather than none or, perhaps, darkness.
    """

    sentence: str = ""
    contradicts: bool = False


def comparison(tiles: Transfer, baseline_adu: float, photons_per_adu: float) -> Comparison:
    """Return in what the stream looks unlike what was given.

    Whether the camera multiplies electrons is not known: both cases are told, and it is enough that one agrees. Frames
    with hardly any light and shade, and no more noise than reading makes, may be dark ones: then the baseline is told.
    Where the noise is not that of a camera, this is told instead of figures.
    """
    if len(tiles.mean) < LEAST_TILES:
        return Comparison()
    if not has_light_and_shade(tiles):
        return Comparison(sentence=_in_the_dark(tiles, baseline_adu, photons_per_adu))
    told, why_not = estimates(tiles)
    if why_not:
        return Comparison(sentence=f"The stream tells nothing of the camera's calibration: {why_not}.")
    if not told or any(_agrees(one, baseline_adu, photons_per_adu) for one in told.values()):
        return Comparison()
    known = all(knows_baseline(one) for one in told.values())
    looks = " or ".join(_described(one, kind, with_baseline=known) for kind, one in told.items())
    given = f"{baseline_adu:g} and {photons_per_adu:g}" if known else f"{photons_per_adu:g}"
    check = "check --baseline-adu and --photons-per-adu" if known else "check --photons-per-adu"
    sentence = f"The stream looks like {looks} (photons: divide by the QE); you gave {given} photons/ADU: {check}."
    return Comparison(sentence=sentence, contradicts=True)


def estimates(tiles: Transfer) -> tuple[dict[str, CameraEstimate], str]:
    """Return what frames with light and shade say of their camera, by its kind, and why they are not to be trusted.

    Whether the camera multiplies electrons cannot be told, so there are two kinds. Empty where there are too few tiles,
    or the errors are too large.
    """
    found = {kind: estimate_camera(tiles, excess) for excess, kind in _KINDS.items()}
    told = {kind: estimate for kind, estimate in found.items() if estimate is not None}
    return told, _mistrust(tiles, list(told.values()))


@dataclass(frozen=True, kw_only=True)
class Darkness:
    """Whether frames that are said to be dark are; both False where nothing speaks against it.

    Attributes
    ----------
    shows_light : bool
        Where they are brighter they have more noise, or blink: light does so, unequal and hot pixels do not.
    may_be_lit : bool
        There is more noise than most cameras read, as under even light, or they are brighter than where the light of
        the other frames ends. A camera that reads much noise is the same in the dark.
    """

    shows_light: bool
    may_be_lit: bool


def darkness(looks: Sequence[NDArray[np.generic]], found: Collection[CameraEstimate]) -> Darkness:
    """Return whether frames (T, Y, X) of some looks, ADU, may be dark.

    Parameters
    ----------
    looks : sequence of ndarray
        Two consecutive frames at least, each.
    found : collection of CameraEstimate
        What frames with light say of the same camera.
    """
    light, variance = (values.ravel() for values in pixel_transfer(looks))
    # As of an sCMOS camera; an EMCCD reads less noise, and its light has half of its variance here.
    per_adu = min(one.photons_per_adu for one in found) ** 2
    order = np.argsort(light)
    brightest = order[-max(_LEAST_BRIGHTEST, int(_BRIGHTEST_SHARE * len(order))) :]
    darker = order[: len(order) // 2]
    growth = float(np.median(variance[brightest]) - np.median(variance[darker]))
    is_noisy = float(np.median(variance)) * per_adu > _DARK_NOISE_PHOTONS**2
    level = float(np.median(light))
    is_above = all(
        level - one.baseline_adu > max(_SIGMAS * one.baseline_sd, _DARK_PHOTONS / one.photons_per_adu) for one in found
    )
    return Darkness(shows_light=growth * per_adu > _DARK_GROWTH, may_be_lit=is_noisy or is_above)


def knows_baseline(found: CameraEstimate) -> bool:
    """Return whether the baseline is known well enough to be told."""
    return found.baseline_sd * found.photons_per_adu < _MOST_BASELINE_PHOTONS


def _described(found: CameraEstimate, kind: str, *, with_baseline: bool) -> str:
    baseline = f"baseline {found.baseline_adu:.0f} ± {max(1, found.baseline_sd):.0f} ADU and " if with_baseline else ""
    return f"{baseline}{found.photons_per_adu:.3g} ± {found.photons_per_adu_sd:.1g} photoelectrons/ADU of {kind}"


def has_light_and_shade(tiles: Transfer) -> bool:
    """Return whether tiles differ in their light by more than its noise makes them."""
    noise = float(tiles.variance.mean()) / (2 * TILE_PX**2)
    return float(tiles.mean.var()) > _SHADE * noise


def _agrees(found: CameraEstimate, baseline_adu: float, photons_per_adu: float) -> bool:
    error = _SIGMAS * found.photons_per_adu_sd
    least, most = _LEAST_QE * photons_per_adu - error, photons_per_adu + max(error, _LEAST_GAIN * photons_per_adu)
    baseline_off = abs(found.baseline_adu - baseline_adu)
    least_adu = _LEAST_BASELINE_PHOTONS / found.photons_per_adu
    return least <= found.photons_per_adu <= most and baseline_off <= max(_SIGMAS * found.baseline_sd, least_adu)


def _mistrust(tiles: Transfer, found: list[CameraEstimate]) -> str:
    """Return why the noise of these tiles is none that a camera's light makes; empty where it may be."""
    if float(np.median(tiles.smooth)) > _MOST_SMOOTH * float(np.median(tiles.variance)):
        return "neighbouring pixels share their noise, as after smoothing, compression or resizing"
    order = np.argsort(tiles.mean)
    light, noise = (
        np.array([part.mean() for part in np.array_split(values[order], _BINS)])
        for values in (tiles.mean, tiles.variance)
    )
    # The baseline may be anything from zero up, so that the light grows by this factor at least.
    if light[-1] > 2 * light[0] > 0 and noise[-1] <= _GROWTH * noise[0]:
        return "its noise does not grow with the light, as if it were averaged, scaled or drawn"
    if any(one.baseline_adu + _SIGMAS * one.baseline_sd < 0 for one in found) or _is_bent(light, noise):
        return "its noise does not grow in proportion to the light, as after a gamma or a change of contrast"
    return ""


def _is_bent(light: NDArray[np.float64], noise: NDArray[np.float64]) -> bool:
    """Return whether the noise of bins is far off its straight line."""
    slope, intercept = np.polyfit(light, noise, 1, w=1 / np.maximum(noise, 1e-9))
    line = intercept + slope * light
    return bool(np.sqrt(np.mean((noise / np.maximum(line, 1e-9) - 1) ** 2)) > _MOST_BEND) if slope > 0 else False


def _in_the_dark(tiles: Transfer, baseline_adu: float, photons_per_adu: float) -> str:
    found, spread = dark_baseline(tiles)
    noise = math.sqrt(float(np.median(tiles.variance))) * photons_per_adu
    if noise > _DARK_NOISE_PHOTONS or (found - baseline_adu) * photons_per_adu > _DARK_PHOTONS:
        return ""
    spread = max(0.1, spread)
    if abs(found - baseline_adu) <= max(_SIGMAS * spread, 1.0):
        return ""
    return f"If these frames are dark, the baseline is {found:.1f} ± {spread:.1f} ADU; you gave {baseline_adu:g}."
