"""How the judgement of a canvas begins: where it is looked at closely, and how much of it there is memory to keep."""

import torch

from stormlive.output.growth import MOST_BYTES, Growth
from stormlive.server.judging import Judging, judging_of
from stormlive.server.look import PART_PX, busiest_part
from stormlive.server.memory import available_bytes
from stormlive.server.protocols import Canvas
from stormlive.server.run import Run
from stormlive_models.judge.slabs import SLAB_BYTES

WHOLE_PX = 16384**2
"""Larger canvases are not copied whole, and the drift of theirs is shown but not taken out."""
GROWTH_PX = 4096**2
"""Of larger ones is not kept how they grew."""
_COPIES = 6
"""Of a canvas, that there must be memory for: two looks, the corrected one and the one before it, two on the way."""


def begin(run: Run, canvas: Canvas, beside: int) -> Judging | None:
    """Return a judgement of a canvas that knows nothing yet; None while there is nothing on a large one.

    `beside` is the number of other canvases of the run that are judged.
    """
    start = run.start
    part = busiest_part(canvas.reconstruction, start.shape, run.region, PART_PX)
    if part is None:
        return None
    (height, width), u = start.shape, part.upsampling
    n_pixels = height * width * u**2
    whole = (height * u, width * u) if _has_room_for(n_pixels, beside) else None
    if whole is None or n_pixels > GROWTH_PX:
        canvas.growth = None
        canvas.no_growth = "the canvas was too large, or the memory too short, to keep how it grew"
    elif canvas.growth is None:
        canvas.growth = Growth(whole)
    return judging_of(canvas.reconstruction, start.calibration, part, whole)


def _has_room_for(n_pixels: int, beside: int) -> bool:
    """Return whether a canvas may be copied whole, and be kept in slabs, while as many others beside it may be."""
    if n_pixels > WHOLE_PX:
        return False
    there = available_bytes(torch.device("cpu"))
    n_pixels *= 1 + beside
    # A slab has 8 bytes for each pixel that is not empty; as much again for others.
    return there is None or there > 2 * (4 * _COPIES * n_pixels + min(SLAB_BYTES + MOST_BYTES, 64 * 4 * n_pixels))
