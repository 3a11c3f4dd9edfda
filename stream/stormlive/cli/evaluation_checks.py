"""Whether what is judged and the truth belong together: one movie, one field, the same frames, nanometres in both.

A score of what does not is a number like any other. What is sure to mean nothing is refused; what may be so by a poor
method or a strange sample too is told beside the score.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormlive.cli.evaluation import Evaluation, ImageEvaluation, LocalizationEvaluation
from stormlive.output import RUN_FILE
from stormlive.output.display import sum_pool
from stormlive.output.manifest import read_record
from stormlive_models.evaluate import match_tables, positions_nm
from stormlive_models.image_metrics import pearson, truth_histogram
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError

_ENOUGH = 20
"""Rows; fewer may lie anywhere by chance."""
_MOST_STRAY = 0.05
_TIMES_SMALLER = 20
"""Camera pixels are 42 nm or more: positions in pixels are that many times smaller than in nm, at least."""
_MOST_PIXELS = 10_000
_MARGIN_NM = 500.0
_NEAR_NM = 100.0
_LEAST_PEARSON = 0.1
_SAME = "give what was made of one movie, and its truth"


def check_tables(path: Path, found: Emitters, truth_path: Path, truth: Emitters) -> None:
    """Raise an InputError where localizations and truth cannot be compared: other units, or no frame in common."""
    if not len(found) or not len(truth):
        return
    _check_units(path, found, truth_path, truth)
    (first, last), (true_first, true_last) = _span(found), _span(truth)
    if first > true_last or last < true_first:
        raise InputError(
            f"{path} is of frames {first} to {last}, {truth_path} of {true_first} to {true_last}: none in common; "
            f"{_SAME}, with frames that count from its beginning"
        )


def _check_units(path: Path, found: Emitters, truth_path: Path, truth: Emitters) -> None:
    sides = [(_extent_nm(found), path, found), (_extent_nm(truth), truth_path, truth)]
    (small_nm, small, table), (large_nm, large, _) = sorted(sides, key=lambda side: side[0])
    if len(table) >= _ENOUGH and small_nm < _MOST_PIXELS and large_nm > _TIMES_SMALLER * max(small_nm, 0.0):
        raise InputError(
            f"positions reach {small_nm:.4g} nm in {small}, {large_nm:.4g} nm in {large}: the former seem to be camera "
            "pixels or µm, and nm are expected; multiply them by the pixel size in nm, or, of a Picasso table (.hdf5), "
            "check the pixel size"
        )


def warnings_of(result: Evaluation, path: Path | None, truth_path: Path, picture_path: Path | None) -> list[str]:
    """Return what makes the scores doubtful, in words.

    Raises
    ------
    InputError
        When localizations are sure to be of another movie: most lie beside the truth's field or frames, and the others
        are no nearer to its emitters than chance has it.
    """
    warnings = []
    if result.localizations is not None and path is not None:
        warnings += _of_table(result.localizations, path, truth_path, result.truth)
    if result.image is not None and picture_path is not None:
        warnings += _of_picture(result.image, picture_path, truth_path, result.truth)
    return warnings


def _of_table(result: LocalizationEvaluation, path: Path, truth_path: Path, truth: Emitters) -> list[str]:
    found = result.table
    if not len(found):
        return []
    (first, last), (true_first, true_last) = _span(found), _span(truth)
    early_or_late = ((found.frame + 1 < true_first) | (found.frame + 1 > true_last)).numpy()
    low, high = _field(truth)
    outside = ((positions_nm(found) < low - _MARGIN_NM) | (positions_nm(found) > high + _MARGIN_NM)).any(1)
    outside &= len(truth) >= _ENOUGH
    n, n_near, n_chance = len(found), *_near(result, truth)
    # What comes by chance is within three standard deviations of its mean.
    strange = n >= _ENOUGH and n_near <= min(n / 2, n_chance + 3 * np.sqrt(n_chance + 1))
    by_chance = (
        f"only {n_near} of {n} localizations lie within {_NEAR_NM:g} nm of an emitter of their frame, about as many as "
        f"by chance ({n_chance})"
    )
    stray = []
    if early_or_late.mean() > _MOST_STRAY:
        stray.append(
            f"{int(early_or_late.sum())} of {n} localizations are of frames before or after those of {truth_path} "
            f"({true_first} to {true_last})"
        )
    if outside.mean() > _MOST_STRAY:
        stray.append(
            f"{int(outside.sum())} of {n} localizations lie outside the field of {truth_path} (x {low[0]:.0f} to "
            f"{high[0]:.0f}, y {low[1]:.0f} to {high[1]:.0f} nm)"
        )
    if strange and (early_or_late | outside).mean() > 0.5:
        raise InputError(f"{path} does not belong to {truth_path}: {', and '.join([*stray, by_chance])}; {_SAME}")
    warnings = [f"{text}, and count as invented; {_SAME}" for text in stray]
    if strange:
        warnings.append(
            f"{by_chance}: the table is of another movie or shifted, or what made it finds nothing; {_SAME}"
        )
    unseen = int(((truth.frame + 1 < first) | (truth.frame + 1 > last)).sum())
    if unseen > _MOST_STRAY * len(truth):
        warnings.append(
            f"the table is of frames {first} to {last} alone; the {unseen} true emitters of the others count as "
            "missed. To judge those frames, leave the others out of the truth"
        )
    return warnings


def _near(result: LocalizationEvaluation, truth: Emitters) -> tuple[int, int]:
    """Return how many localizations are near an emitter of their frame, and near one of a frame half a movie away."""
    n_near = len(match_tables(result.table, truth, _NEAR_NM))
    if 2 * n_near > len(result.table):
        return n_near, 0
    first, n_frames = int(truth.frame.min()), int(truth.frame.max() - truth.frame.min()) + 1
    elsewhere = replace(truth, frame=(truth.frame - first + n_frames // 2) % n_frames + first)
    # Of one frame alone there is no other.
    return n_near, 0 if n_frames == 1 else len(match_tables(result.table, elsewhere, _NEAR_NM))


def check_picture(path: Path, image: NDArray[np.float32], pixel_size_nm: float, truth: Emitters) -> None:
    """Raise an InputError where picture and truth cannot be of the same field."""
    if not np.isfinite(image).all():
        raise InputError(f"{path}: {int((~np.isfinite(image)).sum())} pixels are NaN or infinite; expected numbers")
    height_nm, width_nm = (side * pixel_size_nm for side in image.shape)
    inside = (truth.x_nm >= 0) & (truth.x_nm <= width_nm) & (truth.y_nm >= 0) & (truth.y_nm <= height_nm)
    x_nm, y_nm = float(truth.x_nm.max()), float(truth.y_nm.max())
    grid = (
        f"{path} shows {width_nm:.0f} x {height_nm:.0f} nm ({image.shape[1]} x {image.shape[0]} pixels of "
        f"{pixel_size_nm:g} nm)"
    )
    advice = "give a picture of the truth's field, and check its pixel size"
    if (~inside).float().mean() > _MOST_STRAY:
        raise InputError(
            f"{grid}, but {int((~inside).sum())} of {len(truth)} true emitters lie outside, up to x {x_nm:.0f}, "
            f"y {y_nm:.0f} nm; {advice}"
        )
    # What a camera's pixel size on a finer picture does.
    if len(truth) >= _ENOUGH and x_nm < width_nm / 2 and y_nm < height_nm / 2:
        raise InputError(f"{grid}, but all {len(truth)} true emitters lie in its first quarter; {advice}")


def _of_picture(result: ImageEvaluation, path: Path, truth_path: Path, truth: Emitters) -> list[str]:
    warnings = []
    # In pixels so coarse that a poor picture agrees with its own truth too.
    factor = max(1, round(_NEAR_NM / result.pixel_size_nm))
    histogram = truth_histogram(truth, (result.image.shape[0], result.image.shape[1]), result.pixel_size_nm)
    seen, true = (sum_pool(side.astype(np.float32), factor).astype(np.float64) for side in (result.image, histogram))
    common = pearson(seen, true)
    if len(truth) >= _ENOUGH and common < _LEAST_PEARSON:
        warnings.append(
            f"{path} has next to nothing in common with {truth_path} (correlation {common:.2f} in pixels of "
            f"{factor * result.pixel_size_nm:g} nm): it is of another movie, or shifted or mirrored; {_SAME}"
        )
    n_frames, (true_first, true_last) = _frames_of(path), _span(truth)
    if n_frames is None:
        return warnings
    late = float((truth.frame >= n_frames).float().mean())
    if late > _MOST_STRAY or true_last < (1 - _MOST_STRAY) * n_frames:
        warnings.append(
            f"{path} is of {n_frames} frames, by the record beside it, {truth_path} of frames {true_first} to "
            f"{true_last}; {_SAME}"
        )
    return warnings


def _frames_of(picture: Path) -> int | None:
    """Return of how many frames a picture is, by the record that `reconstruct` or a run left beside it."""
    stem = picture.name.removesuffix(picture.suffix).removesuffix(".ome")
    for path in (picture.with_name(f"{stem}.run.json"), picture.with_name(RUN_FILE)):
        try:
            routes = read_record(path).canvases
        except InputError:
            continue  # none, or of another version
        for route in routes:
            if picture.name in route.files:
                return route.frames
    return None


def _span(table: Emitters) -> tuple[int, int]:
    """Return the first and the last frame, counted from 1 as in the CSV."""
    return int(table.frame.min()) + 1, int(table.frame.max()) + 1


def _field(table: Emitters) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    xy = positions_nm(table)
    return xy.min(0), xy.max(0)


def _extent_nm(table: Emitters) -> float:
    """Return how far positions reach, but for a few."""
    return float(np.quantile(positions_nm(table).max(1), 0.95))
