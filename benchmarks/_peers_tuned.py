"""Picasso and eSRRF with the parameters that suit a movie best, found by the truth of another of the same kind."""

import itertools
from dataclasses import replace

import numpy as np
import torch
from _accuracy_frames import SIDE_PX, SUB_NM, UPSAMPLING
from _peers_methods import BORDER_PX, Movie, Outcome, Parameters, Program, inner_image, inner_table

from stormlive_models.evaluate import score
from stormlive_models.image_metrics import blur, pearson, score_image, truth_histogram

FITS = {
    "Picasso, least squares": ("gausslq", "gausslq-spherical"),
    "Picasso, max. likelihood": ("gaussmle", "gaussmle-spherical"),
}
_BOXES = (3, 5, 7, 9)
_GRADIENTS = tuple(round(100 * 1.7**k) for k in range(7))
_ANY_PX = 99.0
_WIDEST_PX = (1.25, 1.5, 2.0, _ANY_PX)
_BLURS = (None, "gaussian")
# Near its default of 5, and a divisor of our picture's 8; at 8 it takes four times as long.
_MAGNIFICATION = 4
_RADII, _SENSITIVITIES, _CORRELATIONS = (0.75, 1.0, 1.5), (2, 3, 4), ("VAR", "TAC2")
_MOST_SHIFT = 8


class Picasso:
    """Picasso's localize: fit, box, gradient and greatest width by Jaccard index at 100 nm, then the drawing by N3."""

    def __init__(self, program: Program, fits: tuple[str, ...], trial: Movie) -> None:
        self._program = program
        n, truth = len(trial.adu), inner_table(trial.truth)
        best, best_jaccard = Parameters(), -1.0
        for fit, box, gradient in itertools.product(fits, _BOXES, _GRADIENTS):
            every = {"fit": fit, "box": box, "gradient": gradient, "widest": _ANY_PX, "blur": None}
            outcome = program.run(trial, n, every, timed_only=False)
            assert outcome.table is not None
            assert outcome.width_px is not None
            for widest in _WIDEST_PX:
                kept = outcome.table.select(torch.from_numpy(outcome.width_px < widest))
                jaccard = score(inner_table(kept), truth, 100.0).jaccard
                if jaccard > best_jaccard:
                    best, best_jaccard = {**every, "widest": widest}, jaccard

        def n3(drawn: str | None) -> float:
            image = program.run(trial, n, {**best, "blur": drawn}, timed_only=False).image
            assert image is not None
            return score_image(inner_image(image), truth, SUB_NM).n3_percent

        self.parameters = {**best, "blur": min(_BLURS, key=n3)}

    def run(self, movie: Movie, n: int, *, timed_only: bool = False) -> Outcome:
        return self._program.run(movie, n, self.parameters, timed_only=timed_only)


class Esrrf:
    """nanopyx's eSRRF: radius, sensitivity and correlation by Pearson's correlation with the truth.

    Its picture lies about half a pixel off, which is measured there too and undone.
    """

    def __init__(self, program: Program, trial: Movie, n: int) -> None:
        self._program = program
        side = (SIDE_PX - 2 * BORDER_PX) * UPSAMPLING
        target = blur(truth_histogram(inner_table(trial.first(n)), (side, side), SUB_NM))
        tried: list[tuple[float, int, Parameters]] = []

        def attempt(parameters: Parameters) -> None:
            image = self._picture(trial, n, parameters, timed_only=False).image
            assert image is not None
            blurred = blur(image.astype(np.float64)).astype(np.float32)
            for shift in range(-_MOST_SHIFT, _MOST_SHIFT + 1):
                moved = inner_image(np.roll(blurred, (shift, shift), (0, 1))).astype(np.float64)
                tried.append((pearson(moved, target), shift, parameters))

        for radius, sensitivity in itertools.product(_RADII, _SENSITIVITIES):
            attempt(
                {
                    "magnification": _MAGNIFICATION,
                    "radius": radius,
                    "sensitivity": sensitivity,
                    "correlation": "AVG",
                }
            )
        best = max(tried, key=lambda one: one[0])[2]
        for correlation in _CORRELATIONS:
            attempt({**best, "correlation": correlation})
        _, self._shift, self._best = max(tried, key=lambda one: one[0])
        self.parameters = {**self._best, "shift_nm": self._shift * SUB_NM}

    def _picture(self, movie: Movie, n: int, parameters: Parameters, *, timed_only: bool) -> Outcome:
        outcome = self._program.run(movie, n, parameters, timed_only=timed_only)
        if outcome.image is None:
            return outcome
        finer = torch.nn.functional.interpolate(
            torch.from_numpy(outcome.image)[None, None], scale_factor=UPSAMPLING / _MAGNIFICATION, mode="bilinear"
        )
        return replace(outcome, image=finer[0, 0].numpy())

    def run(self, movie: Movie, n: int, *, timed_only: bool = False) -> Outcome:
        outcome = self._picture(movie, n, self._best, timed_only=timed_only)
        if outcome.image is None:
            return outcome
        return replace(outcome, image=np.roll(outcome.image, (self._shift, self._shift), (0, 1)))
