"""Microtubules like the demo data of Deep-STORM: the pictures that the methods make of a movie."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from _accuracy_frames import (
    EXCESS,
    MOVIE_BACKGROUND,
    MOVIE_DENSITY,
    MOVIE_PHOTONS,
    MOVIE_SIGMA_PX,
    READ_NOISE,
    SIDE_PX,
    SUB_NM,
    UPSAMPLING,
    Frames,
    filament_movie,
    seeded,
    structure_density,
)
from _accuracy_methods import Method
from _accuracy_table import DETAIL, Table, verdict
from _limit import limit
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from stormlive_models.evaluate import score
from stormlive_models.frc import localization_frc
from stormlive_models.image_metrics import blur, score_image, truth_histogram
from stormlive_sim.emitters import Emitters

FRAMES = 361
_N1_AIM, _N3_AIM, _ARTIFACT_AIM = 25.0, 6.0, 1.5
_LIMIT_FRAMES = 8
_ZOOM = 128


def microtubules(methods: list[Method], n: int, seed: int, pictures: Path | None) -> list[Table]:
    """Return the scores of canvas and table of each method; all get all frames."""
    movie = filament_movie(n, seeded(seed, "microtubules"))
    noise = {"read_noise": READ_NOISE["EMCCD"], "excess": EXCESS["EMCCD"]}
    bound = limit(movie.first(_LIMIT_FRAMES), sigma_px=MOVIE_SIGMA_PX, background=MOVIE_BACKGROUND, **noise)
    side = SIDE_PX * UPSAMPLING
    images = {"truth": truth_histogram(movie.truth, (side, side), SUB_NM).astype(np.float32)}
    halves = [_every_other(movie, parity) for parity in (0, 1)]
    truth = _one_after_another([half.truth for half in halves], n)
    rows = []
    for method in methods:
        results = [method.run(half.photons) for half in halves]
        images[method.name] = (results[0].canvas + results[1].canvas).numpy()
        tables = [result.table for result in results]
        found = _one_after_another(tables, n)
        scores = score_image(images[method.name], movie.truth, SUB_NM)
        near, middle = (score(found, truth, tolerance) for tolerance in (50.0, 100.0))
        resolution = localization_frc(*tables).resolution_nm if all(map(len, tables)) else math.nan
        artifacts = 100 * scores.artifact_fraction
        rows.append(
            {
                "method": method.name,
                "N1 %": scores.n1_percent,
                "N1 aim": verdict(scores.n1_percent, at_most=_N1_AIM),
                "N3 %": scores.n3_percent,
                "N3 aim": verdict(scores.n3_percent, at_most=_N3_AIM),
                "artifacts %": artifacts,
                "artifact aim": verdict(artifacts, at_most=_ARTIFACT_AIM),
                "Pearson": scores.pearson,
                "canvas/true": scores.mass_ratio,
                "FRC nm": resolution,
                "recall(50)": near.recall,
                "recall(100)": middle.recall,
                "precision(100)": middle.precision,
                "J(100)": middle.jaccard,
                DETAIL: {"image": asdict(scores), "table 50 nm": asdict(near), "table 100 nm": asdict(middle)},
            }
        )
    if pictures is not None:
        _draw(images, pictures)
    conditions = (
        f"{n} frames of 64x64 px, EMCCD, {MOVIE_DENSITY:g} emitters/um2 over the field "
        f"({structure_density(movie):.1f} on the structure) of {MOVIE_PHOTONS:g} photons, background "
        f"{MOVIE_BACKGROUND:g}, sigma {MOVIE_SIGMA_PX:g} px; each emitter shines for one frame. Limit per axis: median "
        f"{bound.median_nm:.1f} nm, {100 * bound.within_50_nm:.0f} % below 50 nm. N1: raw canvas against the histogram "
        "of the truth (floor, 12.5 nm); N3: both blurred by sigma 1 sub-pixel; artifacts: intensity farther than 25 nm "
        "from any emitter; FRC: tables of odd and even frames at 1/7 (their agreement with each other, not with the "
        "truth). The aims are the demo movie's."
    )
    return [Table(title="Microtubules", conditions=conditions, rows=rows)]


def _every_other(movie: Frames, parity: int) -> Frames:
    truth = movie.truth.select(movie.truth.frame % 2 == parity)
    return Frames(photons=movie.photons[parity::2], truth=replace(truth, frame=truth.frame // 2))


def _one_after_another(tables: list[Emitters], n: int) -> Emitters:
    """Return one table in which no frames of two tables are the same."""
    return Emitters.concatenate([replace(table, frame=table.frame + n * i) for i, table in enumerate(tables)])


def _draw(images: dict[str, NDArray[np.float32]], folder: Path) -> None:
    """Write all canvases side by side: the whole field above, its fullest part below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(images), 8.4), layout="constrained")
    panels = figure.subplots(2, len(images), squeeze=False)
    inner = slice(_ZOOM // 2, 1 - _ZOOM // 2)
    fullness = uniform_filter(images["truth"], _ZOOM, mode="constant")[inner, inner]
    top, left = np.unravel_index(fullness.argmax(), fullness.shape)
    for column, (name, image) in enumerate(images.items()):
        # Blurred as N3 is, since a histogram's lone sub-pixels cannot be seen; the square root shows faint haze.
        shown = np.sqrt(blur(image.astype(np.float64)).clip(0))
        for panel, part in zip(panels[:, column], (shown, shown[top : top + _ZOOM, left : left + _ZOOM]), strict=True):
            panel.imshow(part, cmap="inferno", vmin=0, vmax=np.percentile(shown, 99.8) or 1, interpolation="nearest")
            panel.set_axis_off()
        panels[0, column].set_title(name)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "microtubules.png", dpi=130)
