"""The one light: the worst of all that speaks against a picture, with its reason and what to do."""

import math
from dataclasses import replace

from stormlive_models.judge.artifacts import ArtifactMap
from stormlive_models.judge.calibration import Comparison
from stormlive_models.judge.crowding import Crowd
from stormlive_models.judge.frames import Blinking
from stormlive_models.judge.mismatch import Figures, Gauge, Trained, Verdict, judge

LEAST_AGREEMENT = 0.5
"""Of blurred canvas and widefield picture, below which the light is red; good ones of simulated runs have 0.9."""
DOUBTFUL_AGREEMENT = 0.75
_LEAST_FRAMES = 100
_LEAST_BEST = 0.5
_ORDER: tuple[Gauge, ...] = ("red", "amber", "unknown", "green")

_NOTHING_BLINKS: dict[Blinking, Verdict] = {
    "never": Verdict(
        gauge="red",
        sentence="Nothing blinks in these frames: what shines steadily has no single emitters to localize, and a "
        "picture of it is made up. More laser power, another buffer or a dye that blinks would help.",
    ),
    "dark": Verdict(
        gauge="red",
        sentence="Nothing stands out of the noise in these frames: check laser, shutter, filters and focus.",
    ),
    "no more": Verdict(
        gauge="amber",
        sentence="Nothing blinks any more, so that more frames add nothing: end the run, or activate more emitters.",
    ),
}


def verdict(
    figures: Figures,
    trained: Trained | None,
    *,
    blinking: Blinking = "unknown",
    compared: ArtifactMap | None = None,
    n_frames: int = 0,
    calibration: Comparison | None = None,
) -> Verdict:
    """Return the worst of what is known; of equals the first in the order of the arguments after `blinking`.

    Parameters
    ----------
    figures, trained
        What the frames are like, and what the model knows.
    blinking
        Whether emitters come and go.
    compared, n_frames
        The canvas against the widefield picture of so many frames.
    calibration
        What the stream says of the camera's.
    """
    found = [
        _NOTHING_BLINKS.get(blinking),
        judge(figures, trained),
        _agreement(compared, n_frames),
        _contradiction(calibration),
    ]
    return min((one for one in found if one is not None), key=lambda one: _ORDER.index(one.gauge))


def light_of_emitters(
    figures: Figures, compared: ArtifactMap | None, n_frames: int, crowd: Crowd | None = None
) -> Figures:
    """Return figures with what only the comparison, and the light's fluctuations, tell.

    Where emitters overlap, a network counts too few: the density is at least that of the `crowd`. Photons and
    background are of it too, where no spot stood alone to measure them. As long as it is not known: the canvas counts
    emitters, so its best scale is their mean light in a frame, and its offset the background.
    """
    if compared is None or not _tells(compared, n_frames):
        return figures
    if crowd is not None:
        figures = replace(figures, density_per_um2=max(crowd.density_per_um2, figures.density_per_um2 or 0.0))
    if figures.photons is not None:
        return figures
    if crowd is not None:
        return replace(figures, photons=crowd.photons, background=crowd.background)
    if compared.rsp < DOUBTFUL_AGREEMENT * compared.best_rsp or not compared.scale > 0:
        return figures
    return replace(figures, photons=compared.scale, background=compared.offset)


def _tells(compared: ArtifactMap, n_frames: int) -> bool:
    """Return whether there is enough light in the widefield picture for a comparison to mean something."""
    return n_frames >= _LEAST_FRAMES and compared.best_rsp > _LEAST_BEST and math.isfinite(compared.rsp)


def _contradiction(calibration: Comparison | None) -> Verdict | None:
    if calibration is None or not calibration.contradicts:
        return None
    return Verdict(gauge="amber", sentence=calibration.sentence)


def _agreement(compared: ArtifactMap | None, n_frames: int) -> Verdict | None:
    if compared is None or not _tells(compared, n_frames):
        return None
    share = compared.rsp / compared.best_rsp
    if share >= DOUBTFUL_AGREEMENT:
        return None
    return Verdict(
        gauge="red" if share < LEAST_AGREEMENT else "amber",
        sentence=f"The picture, blurred, {'hardly looks' if share < LEAST_AGREEMENT else 'looks only in part'} like "
        f"the widefield (agreement {compared.rsp:.2f}): something is made up or missing. Show the errors; then check "
        "the focus, the density and the light that does not blink.",
    )
