"""Whether what is judged and the truth belong together: one movie, one field, the same frames, nanometres in both.

A score of what does not is a number like any other. What is sure to mean nothing is refused; what may be so by a poor
method or a strange sample too is told beside the score.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormlive.cli.evaluation import Evaluation, ImageEvaluation, LocalizationEvaluation
from stormlive.cli.pictures import record_of
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
_PIXEL_NM = (40, 250)
_UM_NM = (800, 1250)
"""What positions in camera pixels, or in µm, are to be multiplied by, as far as extents tell."""
_MARGIN_NM = 500.0
_NEAR_NM = 100.0
_ASIDE_NM = 200.0
_TIMES_CHANCE = 1.4
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
    """Raise an InputError where one table reaches a plausible pixel size less far, and few of its rows are in place."""
    sides = [(_extent_nm(found), path, found), (_extent_nm(truth), truth_path, truth)]
    (small_nm, small, table), (large_nm, large, _) = sorted(sides, key=lambda side: side[0])
    if len(table) < _ENOUGH or small_nm <= 0:
        return
    for unit, (least, most), advice in (
        ("camera pixels", _PIXEL_NM, "multiply them by the pixel size in nm"),
        ("µm", _UM_NM, "multiply them by 1000"),
    ):
        # A table of one corner of the field reaches less far too, but its rows are where the other's are.
        if least < large_nm / small_nm < most and 2 * len(match_tables(found, truth, _NEAR_NM)) < len(table):
            raise InputError(
                f"positions reach {small_nm:.4g} nm in {small}, {large_nm:.4g} nm in {large}: the former seem to be "
                f"{unit}, and nm are expected; {advice}, or, of a Picasso table (.hdf5), check the pixel size"
            )


def check_scores(result: Evaluation, path: Path | None, truth_path: Path, picture_path: Path | None) -> list[str]:
    """Refuse scores that mean nothing, and return what makes others doubtful, in words.

    Raises
    ------
    InputError
        When localizations are sure to be of another movie: most lie beside the truth's field or frames, and as many
        are near its emitters by chance.
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
    # Of few, chance is three standard deviations; of many, what makes emitters crowd in some places.
    by_chance = max(_TIMES_CHANCE * n_chance, n_chance + 3 * math.sqrt(n_chance + 1))
    strange = n >= _ENOUGH and n_near <= min(n / 2, by_chance)
    few_near = (
        f"only {n_near} of {n} localizations lie within {_NEAR_NM:g} nm of an emitter of their frame, and {n_chance} "
        f"if all are moved by {_ASIDE_NM:g} nm"
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
        negative = int((positions_nm(found) < 0).any(1).sum())
        if negative > _MOST_STRAY * n:
            stray[-1] += f", {negative} at negative positions, which count from the corner of the first pixel"
    if strange and (early_or_late | outside).mean() > 0.5:
        raise InputError(f"{path} does not belong to {truth_path}: {', and '.join([*stray, few_near])}; {_SAME}")
    warnings = [f"{text}, and count as invented; {_SAME}" for text in stray]
    if strange:
        warnings.append(
            f"{few_near}: the table is of another movie, shifted or mirrored, or what made it finds nothing; {_SAME}"
        )
    unseen = int(((truth.frame + 1 < first) | (truth.frame + 1 > last)).sum())
    if unseen > _MOST_STRAY * len(truth):
        warnings.append(
            f"the table is of frames {first} to {last} alone; the {unseen} true emitters of the others count as "
            "missed. To judge those frames, leave the others out of the truth"
        )
    return warnings


def _near(result: LocalizationEvaluation, truth: Emitters) -> tuple[int, int]:
    """Return how many localizations are near an emitter of their frame, and how many by chance.

    Chance is the most that are so when all are moved a little to one side. Along a structure, and with a table that
    is shifted, that is more than half a field away; other frames would not do, where emitters shine all through.
    """
    n_near = len(match_tables(result.table, truth, _NEAR_NM))
    if 2 * n_near > len(result.table):
        return n_near, 0
    n_aside = []
    for angle in np.arange(8) * math.pi / 4:
        x_nm, y_nm = truth.x_nm + _ASIDE_NM * math.cos(angle), truth.y_nm + _ASIDE_NM * math.sin(angle)
        n_aside.append(len(match_tables(result.table, replace(truth, x_nm=x_nm, y_nm=y_nm), _NEAR_NM)))
    return n_near, max(n_aside)


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
    if math.isnan(common):
        warnings.append(f"{path} or its truth is flat, the same all over: they cannot be compared; {_SAME}")
    elif len(truth) >= _ENOUGH and common < _LEAST_PEARSON:
        warnings.append(
            f"{path} has next to nothing in common with {truth_path} (correlation {common:.2f} in pixels of "
            f"{factor * result.pixel_size_nm:g} nm): it is of another movie, or shifted or mirrored; {_SAME}"
        )
    n_frames, (true_first, true_last) = _frames_of(path), _span(truth)
    if n_frames is None:
        return warnings
    if float((truth.frame >= n_frames).float().mean()) > _MOST_STRAY:
        warnings.append(
            f"{path} is of {n_frames} frames, by the record beside it, {truth_path} of frames {true_first} to "
            f"{true_last}; {_SAME}"
        )
    elif true_last < (1 - _MOST_STRAY) * n_frames:
        warnings.append(
            f"{path} is of {n_frames} frames, by the record beside it, and the last emitter of {truth_path} shines in "
            f"frame {true_last}: if the movie was not dark from there on, the truth is of a part of it, or of another"
        )
    return warnings


def _frames_of(picture: Path) -> int | None:
    """Return of how many frames a picture is, by the record that `reconstruct` or a run left beside it."""
    for path in (record_of(picture), picture.with_name(RUN_FILE)):
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
