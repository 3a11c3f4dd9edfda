"""What run.json says of the live judgement: how it ended, and how it came to be."""

from collections.abc import Sequence
from typing import Any

import msgspec

from stormlive.wire.viewing import Judgement

MOST_POINTS = 500
_TEXTS = ("canvas", "sentence", "calibration")


class JudgementRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The judgement of a canvas, or of a run."""

    final: Judgement
    """The last one, of all frames."""
    series: dict[str, list[Any]]
    """Over the run: a column for each of its figures, one of them `frames`; null where there was none yet."""
    drift: list[tuple[int, float, float]]
    """Frame, and how far the sample had moved then along x and y, nm."""


def judgement_record(series: Sequence[Judgement], drift: list[tuple[int, float, float]]) -> JudgementRecord:
    """Return the record of a series of judgements, the last of which counts; thinned to 500 of them."""
    every = -(-len(series) // MOST_POINTS)
    # Counted from the last one, which is kept.
    thinned = series[::-1][::every][::-1]
    names = [name for name in Judgement.__struct_fields__ if name not in _TEXTS]
    columns = {name: [getattr(one, name) for one in thinned] for name in names}
    return JudgementRecord(final=series[-1], series=columns, drift=drift)
