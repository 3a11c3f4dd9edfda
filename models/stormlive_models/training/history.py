"""What a training tells of its way: every loss, every validation, and where it stands."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from stormlive_models.evaluate import Scores
from stormlive_models.training.validation import mean_jaccard


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training stands after a step.

    Attributes
    ----------
    step : int
        Steps made.
    fraction : float
        Of the whole training, by steps or by time, whichever is farther; the learning rate follows it.
    loss : float
        Of this step.
    data_s, network_s : float
        Seconds that this step took to get its frames, and to learn from them; 0 where nobody timed it.
    validation : dict of Scores, optional
        By density, whenever a new one was made.
    """

    step: int
    fraction: float
    loss: float
    data_s: float = 0.0
    network_s: float = 0.0
    validation: dict[str, Scores] | None = None


class Validation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scores at each density after so many steps."""

    step: int
    scores: dict[str, Scores]

    @property
    def jaccard(self) -> float:
        """Mean over the densities."""
        return mean_jaccard(self.scores)


class Epoch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The validation loss at the end of an epoch, after so many steps and seconds."""

    step: int
    seconds: float
    loss: float


def since_best(validations: Sequence[Validation]) -> int:
    """Return how many validations lie after the best one; 0 when the last one is the best, or there is none."""
    # NaN, where there was nothing to find, is the worst: in a comparison it would pass for the best.
    jaccard = [-1.0 if math.isnan(validation.jaccard) else validation.jaccard for validation in validations]
    return len(jaccard) - 1 - jaccard.index(max(jaccard)) if jaccard else 0
