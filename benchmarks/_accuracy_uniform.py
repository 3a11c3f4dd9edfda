"""Emitters without structure: uniform random ones, and isolated ones."""

from dataclasses import asdict

import numpy as np
from _accuracy_frames import (
    BACKGROUND,
    CAMERAS,
    EXCESS,
    PIXEL_NM,
    READ_NOISE,
    SIDE_PX,
    SIGMA_PX,
    enclosed,
    isolated,
    seeded,
    simulated,
    uniform_settings,
)
from _accuracy_methods import Method
from _accuracy_table import DETAIL, Table, verdict
from _limit import limit

from stormlive_models.evaluate import match_tables, positions_nm, score
from stormlive_models.image_metrics import truth_histogram
from stormlive_sim.emitters import Emitters

DENSITIES, PHOTONS = (0.3, 1.0, 3.0, 5.0, 6.35), (500.0, 1000.0, 3000.0)
ISOLATED_PHOTONS = (300.0, 500.0, 1000.0, 3000.0, 5000.0)
TOLERANCES_NM = (50.0, 100.0, 250.0)
# Of the default network, at 1000 photons.
_AIMS = {0.3: 0.99, 1.0: 0.98, 3.0: 0.93, 5.0: 0.88, 6.35: 0.84}
_MASS_AIM, _MASS_UP_TO = 0.10, 3.0
_RMSE_AIM = 1.15
_FOUND_AIM, _FOUND_DENSITY, _FOUND_PHOTONS, _FOUND_TOLERANCE_NM = 0.95, 5.0, 500.0, 100.0
_LIMIT_FRAMES = 8
_SCMOS = {"sigma_px": SIGMA_PX, "background": BACKGROUND, "read_noise": READ_NOISE["sCMOS"]}


def _inside(found: Emitters, truth: Emitters, tolerance_nm: float) -> float:
    """Return the Jaccard index of emitters at least one pixel from the border.

    Emitters lie outside of the frame too. One found a few nm inside for one a few nm outside counts twice against a
    table that ends at the border, though nothing is wrong: at 0.3 emitters/um2 that is half of all that is missed.
    """
    pairs = match_tables(found, truth, tolerance_nm)
    far_found, far_truth = (
        ((p >= PIXEL_NM) & (p < (SIDE_PX - 1) * PIXEL_NM)).all(1) for p in (positions_nm(found), positions_nm(truth))
    )
    alone = np.ones(len(found), bool)
    alone[pairs[:, 0]] = False
    n = int(far_truth[pairs[:, 1]].sum())
    return n / (int(far_truth.sum()) + int((alone & far_found).sum()))


def uniform(methods: list[Method], n: int, seed: int) -> list[Table]:
    """Return the scores of tables, and what the canvas sums to."""
    tables, masses = [], []
    for photons in PHOTONS:
        for density in DENSITIES:
            generator = seeded(seed, f"uniform {density:g} {photons:g}")
            # So many that sparse ones hold as many emitters as those of 3 /um2.
            wanted = n * max(1, round(3 / density))
            frames = simulated(uniform_settings(density, photons), wanted, generator)
            bound = limit(frames.first(_LIMIT_FRAMES), **_SCMOS)
            for method in methods:
                part = frames.first(method.frames(wanted))
                result = method.run(part.photons)
                near, middle, far = (score(result.table, part.truth, t) for t in TOLERANCES_NM)
                aim = _AIMS[density] if photons == 1000 else None
                condition = {"photons": photons, "per um2": density, "method": method.name, "frames": len(part)}
                tables.append(
                    {
                        **condition,
                        "J(50)": near.jaccard,
                        "J(100)": middle.jaccard,
                        "aim": verdict(middle.jaccard, at_least=aim),
                        "J(100) inside": _inside(result.table, part.truth, 100.0),
                        "RMSE(100) nm": middle.rmse_nm,
                        "limit RMS nm": bound.rms_nm,
                        "E(100) %": middle.efficiency,
                        "E(250) %": far.efficiency,
                        "limit/axis nm": bound.median_nm,
                        "limit < 50 nm": bound.within_50_nm,
                        DETAIL: {
                            f"{t:g} nm": asdict(s) for t, s in zip(TOLERANCES_NM, (near, middle, far), strict=True)
                        },
                    }
                )
                true = float(truth_histogram(part.truth, tuple(result.canvas.shape), 12.5).sum())
                ratio = result.canvas.sum().item() / true
                masses.append(
                    {
                        **condition,
                        "canvas": result.canvas.sum().item(),
                        "true emitters": true,
                        "canvas/true": ratio,
                        "aim": _mass_verdict(ratio) if density <= _MASS_UP_TO else "",
                    }
                )
    conditions = (
        f"64x64 px of 100 nm, PSF sigma {SIGMA_PX:g} px, background {BACKGROUND:g} photons/px, sCMOS (read noise "
        f"{READ_NOISE['sCMOS']:g} e). "
    )
    return [
        Table(
            title="Uniform random emitters",
            conditions=conditions
            + "J, RMSE (lateral, of pairs) and efficiency E = 100 - sqrt((100 - 100 J)² + RMSE²) at the tolerance in "
            "brackets, nm. Limit: Cramér-Rao bound of all emitters of a frame and the background, their number known, "
            f"first {_LIMIT_FRAMES} frames: lateral RMS of the emitters with less than 100 nm, median per axis, "
            "share of coordinates below 50 nm. An RMSE may be below: who leaves out an emitter need not locate "
            "it. Aims are those of the default network.",
            rows=tables,
        ),
        Table(
            title="What the canvas sums to, uniform random emitters",
            conditions=f"{conditions}Aim up to 3 emitters/um2: within 10 %.",
            rows=masses,
        ),
    ]


def none_outside(methods: list[Method], n: int, seed: int) -> list[Table]:
    """Return the scores on frames without emitters just outside, which nobody can tell from those just inside."""
    photons, rows = 1000.0, []
    for density in DENSITIES:
        wanted = n * max(1, round(3 / density))
        frames = enclosed(density, photons, wanted, seeded(seed, f"enclosed {density:g}"))
        for method in methods:
            part = frames.first(method.frames(wanted))
            scores = score(method.run(part.photons).table, part.truth, 100.0)
            rows.append(
                {
                    "per um2": density,
                    "method": method.name,
                    "emitters": scores.n_truth,
                    "J(100)": scores.jaccard,
                    "±": (scores.jaccard * (1 - scores.jaccard) / max(1, scores.n_truth)) ** 0.5,
                    "aim": verdict(scores.jaccard, at_least=_AIMS[density]),
                    "recall": scores.recall,
                    "precision": scores.precision,
                    "RMSE(100) nm": scores.rmse_nm,
                    DETAIL: asdict(scores),
                }
            )
    return [
        Table(
            title="Uniform random emitters, none outside of the frame",
            conditions=f"{photons:g} photons, otherwise as above; ±: standard error of a share. Aims are those of the "
            "default network.",
            rows=rows,
        )
    ]


def _mass_verdict(ratio: float) -> str:
    return f"±{100 * _MASS_AIM:g} % {'met' if abs(ratio - 1) <= _MASS_AIM else 'short'}"


def dots(methods: list[Method], n: int, seed: int) -> list[Table]:
    """Return the share of emitters found at the paper's quantum-dot conditions."""
    settings = uniform_settings(_FOUND_DENSITY, _FOUND_PHOTONS)
    frames = simulated(settings, n, seeded(seed, "dots"))
    rows = []
    for method in methods:
        part = frames.first(method.frames(n))
        scores = score(method.run(part.photons).table, part.truth, _FOUND_TOLERANCE_NM)
        rows.append(
            {
                "method": method.name,
                "frames": len(part),
                "emitters found": scores.recall,
                "the paper's": verdict(scores.recall, at_least=_FOUND_AIM),
                "precision": scores.precision,
                "J(100)": scores.jaccard,
                "RMSE nm": scores.rmse_nm,
                DETAIL: asdict(scores),
            }
        )
    return [
        Table(
            title="The 2018 paper's quantum-dot conditions, in its own terms",
            conditions=f"{_FOUND_DENSITY:g} emitters/um2 of {_FOUND_PHOTONS:g} photons, background {BACKGROUND:g}, "
            f"sigma {SIGMA_PX:g} px, sCMOS, tolerance {_FOUND_TOLERANCE_NM:g} nm; found: recall. A point set at random "
            "has an emitter within 100 nm with a probability of 15 %.",
            rows=rows,
        )
    ]


def lone(methods: list[Method], n: int, seed: int) -> list[Table]:
    """Return precision against the limit where no emitter has a neighbour."""
    rows = []
    for camera in CAMERAS:
        for photons in ISOLATED_PHOTONS:
            frames = isolated(photons, camera, 2 * n, seeded(seed, f"isolated {camera} {photons:g}"))
            noise = {"read_noise": READ_NOISE[camera], "excess": EXCESS[camera]}
            bound = limit(frames.first(_LIMIT_FRAMES), sigma_px=SIGMA_PX, background=BACKGROUND, **noise)
            for method in methods:
                part = frames.first(method.frames(2 * n))
                scores = score(method.run(part.photons).table, part.truth, 250.0)
                ratio = scores.rmse_nm / bound.rms_nm
                rows.append(
                    {
                        "camera": camera,
                        "photons": photons,
                        "method": method.name,
                        "emitters": scores.n_truth,
                        "RMSE x nm": scores.rmse_x_nm,
                        "RMSE y nm": scores.rmse_y_nm,
                        "lateral nm": scores.rmse_nm,
                        "limit nm": bound.rms_nm,
                        "RMSE/limit": ratio,
                        "± %": 100 / (2 * max(1, scores.n_matched) ** 0.5),
                        "aim": verdict(ratio, at_most=_RMSE_AIM),
                        "recall": scores.recall,
                        "precision": scores.precision,
                        DETAIL: {**asdict(scores), "limit_per_axis_nm": bound.median_nm},
                    }
                )
    return [
        Table(
            title="Isolated emitters",
            conditions=f"At least 8 px from each other and 12 from the border, sigma {SIGMA_PX:g} px, background "
            f"{BACKGROUND:g}, tolerance 250 nm. Limit: lateral Cramér-Rao bound, with the EMCCD's excess noise; ±: "
            "standard error of the RMSE.",
            rows=rows,
        )
    ]
