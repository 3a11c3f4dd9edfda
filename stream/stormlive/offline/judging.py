"""The judgement of a picture that is made offline: what the live server would say, from a sample of the frames."""

import logging

import numpy as np
from msgspec.structs import replace

from stormlive.server.judging import judging_of
from stormlive.server.look import PART_PX, Part, busiest_part, look_at
from stormlive.server.reconstruction import Reconstruction
from stormlive.wire.calibration import Calibration
from stormlive.wire.fields import Region
from stormlive.wire.viewing import Judgement
from stormlive_sim.recording import Recording

_log = logging.getLogger(__name__)

_LOOKS, _LOOK_FRAMES = 4, 16


def sampled(n_frames: int) -> list[range]:
    """Return which frames of a movie are looked at: up to 4 times 16 consecutive ones, evenly from all of it."""
    looks = max(1, min(_LOOKS, n_frames // _LOOK_FRAMES))
    firsts = [k * n_frames // looks for k in range(looks)]
    return [range(first, min(first + _LOOK_FRAMES, n_frames)) for first in firsts]


def judged(
    reconstruction: Reconstruction, movie: Recording, calibration: Calibration, region: Region | None = None
) -> Judgement | None:
    """Return the judgement of a movie's picture that is complete; None where judging fails, which the log tells.

    Parameters
    ----------
    reconstruction
        Holds all frames of the movie.
    region
        In which alone frames were computed.
    """
    shape = (movie.shape[1], movie.shape[2])
    try:
        part = busiest_part(reconstruction, shape, region, PART_PX) or _middle(shape, region, reconstruction.upsampling)
        judging = judging_of(reconstruction, calibration, part, None)
        for numbers in sampled(len(movie)):
            judging.see(np.stack([movie.frame(number)[part.on_camera] for number in numbers]))
        judging.take(
            look_at(
                reconstruction,
                shape,
                part,
                n_frames=len(movie),
                whole=False,
                compare=True,
                raw=np.zeros((0, part.height, part.width), movie.dtype),
                region=region,
            )
        )
    except Exception as error:
        # It costs nothing but the judgement.
        _log.error("the picture of %s could not be judged", movie.name, exc_info=error)
        return None
    # Whether it converges, only a picture that grows can show.
    return None if judging.judgement is None else replace(judging.judgement, converged=None)


def _middle(shape: tuple[int, int], region: Region | None, upsampling: int) -> Part:
    """Return the part in the middle of what is computed: of an empty canvas, any will do."""
    side = max(1, PART_PX // upsampling)
    x, y, width, height = region or (0, 0, shape[1], shape[0])
    (row, tall), (column, wide) = (
        (max(0, min(first + (length - side) // 2, whole - side)), min(side, whole))
        for first, length, whole in ((y, height, shape[0]), (x, width, shape[1]))
    )
    return Part(row=row, column=column, height=tall, width=wide, upsampling=upsampling)
