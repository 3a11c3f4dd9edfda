"""Where a network must not go wrong: beyond its training, on many frames, and where nothing is."""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from _accuracy_frames import (
    CAMERAS,
    FIELD_UM2,
    PIXEL_NM,
    READ_NOISE,
    UPSAMPLING,
    Frames,
    empty,
    seeded,
    simulated,
    uniform_settings,
)
from _accuracy_methods import Method
from _accuracy_table import DETAIL, Row, Table, verdict
from _limit import limit
from numpy.typing import NDArray

from stormlive_models.evaluate import score
from stormlive_models.image_metrics import truth_histogram
from stormlive_models.training.recipe import DataSettings

Setting = float | tuple[float, float]

_ABOVE, _BELOW = 1.5, 0.5
_DENSITY = 3.0
_UP_TO = ("partial_share", "psf_ellipticity", "defocus", "background_structure")
"""Settings that are one number, up to which each frame or emitter draws its own."""
_WITH_LIMIT = ("density_per_um2", "photons", "photon_spread", "psf_sigma_nm", "background_photons", "read_noise_e")
_LIMIT_FRAMES = 2
_LEVELS = (1.0, 3.0, 10.0, 30.0, 100.0)
_EMPTY_AIM, _LONG_LEVEL = 0.001, 10.0
_PATTERN_AIM, _NYQUIST_AIM = 5.0, 4.0


def beyond_training(methods: list[Method], n: int, seed: int) -> list[Table]:
    """Return what is lost 50 % outside each range that the model's card gives."""
    rows, left_out = [], []
    for method in methods:
        trained = method.model.card.training.get("data", {})
        if not _inside(uniform_settings(_DENSITY), trained):
            left_out.append(method.name)
            continue
        for name, edge, outside in _edges(trained):
            rows.append(_fall(method, name, edge, outside, method.frames(n), seed))
    conditions = (
        f"One parameter at a time at the edge of the range in the model's card and 50 % outside, all else as in the "
        f"other tables ({_DENSITY:g} emitters/um2 of 1000 photons); the same random places. J and precision at 100 nm. "
        "< 50 nm: share of coordinates for which the Cramér-Rao bound is that low, to tell the network's loss from the "
        "light's."
    )
    if left_out:
        conditions += f" Left out, as these conditions are in no training range of theirs: {', '.join(left_out)}."
    return [Table(title="Outside the training range", conditions=conditions, rows=rows)]


def _inside(settings: DataSettings, trained: dict[str, Any]) -> bool:
    """Tell whether the conditions lie within a recipe's ranges; a method without training has none."""
    pairs = [(getattr(settings, name, None), value) for name, value in trained.items() if _is_range(value)]
    return bool(pairs) and all(own is None or (low <= own[0] and own[1] <= high) for own, (low, high) in pairs)


def _is_range(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _edges(trained: dict[str, Any]) -> Iterator[tuple[str, Setting, Setting]]:
    """Yield (setting, value at the edge, value 50 % outside)."""
    for name, value in trained.items():
        if name not in DataSettings.__struct_fields__:
            continue  # of a recipe of another version
        if _is_range(value):
            low, high = value
            yield name, (high, high), (_ABOVE * high, _ABOVE * high)
            if low > 0:
                yield name, (low, low), (_BELOW * low, _BELOW * low)
        elif name in _UP_TO and value:
            yield name, value, min(1.0, _ABOVE * value)


def _fall(method: Method, name: str, edge: Setting, outside: Setting, n: int, seed: int) -> Row:
    row: Row = {"method": method.name, "frames": n, "parameter": name, "edge": _shown(edge), "outside": _shown(outside)}
    figures, details = {}, {}
    for place, value in (("edge", edge), ("outside", outside)):
        # Astigmatism and defocus are 0 unless they are what is asked for: in every frame then.
        settings = msgspec.structs.replace(uniform_settings(_DENSITY), aberrated_share=1.0, **{name: value})
        frames = simulated(settings, n, seeded(seed, f"beyond {name}"))
        scores = score(method.run(frames.photons).table, frames.truth, 100.0)
        bound = float("nan")
        if name in _WITH_LIMIT:
            bound = limit(
                frames.first(_LIMIT_FRAMES),
                sigma_px=settings.psf_sigma_nm[0] / PIXEL_NM,
                background=settings.background_photons[0],
                read_noise=settings.read_noise_e[0],
            ).within_50_nm
        figures[place] = {
            f"J {place}": scores.jaccard,
            f"precision {place}": scores.precision,
            f"< 50 nm {place}": bound,
        }
        details[place] = {"rmse_nm": scores.rmse_nm, "recall": scores.recall, "n_truth": scores.n_truth}
    for (key, inside), (other, beyond) in zip(figures["edge"].items(), figures["outside"].items(), strict=True):
        row |= {key: inside, other: beyond}
    return {**row, DETAIL: details}


def _shown(value: Setting) -> float:
    return float(value[0] if isinstance(value, tuple) else value)


def grid_pattern(methods: list[Method], n: int, seed: int) -> list[Table]:
    """Return what the camera's pixels leave behind in the sum of many frames."""
    frames = simulated(uniform_settings(_DENSITY), n, seeded(seed, "grid"))
    rows = []
    for method in methods:
        part = frames.first(method.frames(n))
        result = method.run(part.photons)
        own = _grid(result.canvas.double().numpy())
        true = _grid(truth_histogram(part.truth, tuple(result.canvas.shape), PIXEL_NM / UPSAMPLING))
        rows.append(
            {
                "method": method.name,
                "frames": len(part),
                "pattern %": own["pattern_percent"],
                "aim": verdict(own["pattern_percent"], at_most=_PATTERN_AIM),
                "by chance %": own["chance_percent"],
                "Nyquist": own["nyquist"],
                "Nyquist aim": verdict(own["nyquist"], at_most=_NYQUIST_AIM),
                "truth: pattern %": true["pattern_percent"],
                "truth: Nyquist": true["nyquist"],
            }
        )
    conditions = (
        f"Sum of frames of {_DENSITY:g} emitters/um2 of 1000 photons, folded onto one camera pixel of 8x8 sub-pixels: "
        "their RMS deviation from the mean, less what chance adds to it (measured at the frequencies around the camera "
        "pixel's and its harmonics, and given beside). Nyquist: power there over that around it. The aims are the "
        "benchmark's own: what no eye sees, and what chance exceeds once in 130 times."
    )
    return [Table(title="Grid pattern", conditions=conditions, rows=rows)]


def _grid(canvas: NDArray[np.float64]) -> dict[str, float]:
    """Return how much the camera pixel's period and Nyquist stand out of the spectrum of a canvas (Y, X)."""
    side = len(canvas)
    half = side // 2
    power = np.abs(np.fft.fft2(canvas)) ** 2
    reach = np.arange(-5, 6)
    ring = np.maximum(np.abs(reach)[:, None], np.abs(reach)) > 1

    def at_and_around(row: int, column: int) -> tuple[float, float]:
        near = power[np.ix_((row + reach) % side, (column + reach) % side)]
        return float(power[row, column]), float(near[ring].mean())

    multiples = range(0, side, side // UPSAMPLING)
    # By Parseval, the power at all multiples of 1/8 is the variance of the canvas folded to 8x8.
    at, around = np.array([at_and_around(r, c) for r in multiples for c in multiples if r or c]).sum(0)
    nyquist = [at_and_around(r, c) for r, c in ((0, half), (half, 0), (half, half))]
    total = power[0, 0]
    return {
        "pattern_percent": 100 * math.sqrt(max(0.0, at - around) / total) if total else math.nan,
        "chance_percent": 100 * math.sqrt(around / total) if total else math.nan,
        "nyquist": float(np.mean([own / near for own, near in nyquist])) if total else math.nan,
    }


def nothing(methods: list[Method], n: int, n_long: int, seed: int) -> list[Table]:
    """Return what is found where nothing is."""
    rows = []
    for camera in CAMERAS:
        for level in _LEVELS:
            wanted = n_long if (camera, level) == ("sCMOS", _LONG_LEVEL) else n
            frames = empty(level, camera, wanted, seeded(seed, f"empty {camera} {level:g}"))
            rows += [_found_in(frames, method, camera, level, method.frames(wanted)) for method in methods]
    conditions = (
        f"Pure background of so many photons/px, sCMOS with {READ_NOISE['sCMOS']:g} e of read noise and EMCCD. "
        "Density: the canvas's sum per um2 and frame; open: too few frames to see one emitter at the aim. The long run "
        f"is sCMOS at {_LONG_LEVEL:g} photons."
    )
    return [Table(title="Empty frames", conditions=conditions, rows=rows)]


def _found_in(frames: Frames, method: Method, camera: str, level: float, n: int) -> Row:
    result = method.run(frames.photons[:n])
    mass, exposure = result.canvas.sum().item(), n * FIELD_UM2
    density = mass / exposure
    seen = density > _EMPTY_AIM or exposure * _EMPTY_AIM >= 1
    return {
        "camera": camera,
        "background": level,
        "method": method.name,
        "frames": n,
        "canvas": mass,
        "brightest sub-pixel": result.canvas.max().item(),
        "localizations": len(result.table),
        "per um2 and frame": density,
        "aim": verdict(density, at_most=_EMPTY_AIM) if seen else f"≤ {_EMPTY_AIM:g} open",
    }
