"""Pictures for viewers, cut from a run's canvas."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from stormlive.server.contrast import Part, Sample
from stormlive.server.protocols import Canvas, Reconstruction
from stormlive.server.run import Run
from stormlive.server.verdicts import judgement_of
from stormlive.server.watch import MOST_JUDGED
from stormlive.wire.fields import Picture
from stormlive.wire.messages import Error
from stormlive.wire.viewing import MAX_VIEW_BYTES, Contrast, View, Viewed


class Answer(NamedTuple):
    """A message for a viewer, and what belongs to it."""

    message: Viewed | Error
    pixels: NDArray[Any] | None = None
    """(h, w) float32, of its own."""
    measure: Callable[[], Contrast | None] | None = None
    """Finds out the contrast, where it was asked for and is not known; in another thread than the engine's."""


def answer(run: Run | None, view: View) -> Answer:
    """Return the answer to a viewer; in the engine thread."""
    if run is None or run.canvases is None:
        return _refusal(view, "no-run", "there is no such run here (yet); ask for the latest")
    if view.picture not in ("canvas", "corrected") and view.level != 0:
        return _refusal(view, "bad-view", f"the {view.picture} picture has level 0 only")
    canvas = run.canvases.named(view.canvas or None)
    if canvas is None:
        return _refusal(view, "no-canvas", "the run has no such canvas; STATUS has their names")
    n_frames, judged = canvas.n_frames, None
    if view.picture in ("errors", "corrected"):
        found = _judged(canvas, view.picture)
        if isinstance(found, str):
            return _refusal(view, "no-picture", found)
        judged, n_frames = found
    reconstruction = canvas.reconstruction
    scale = reconstruction.upsampling if view.picture in ("canvas", "corrected") else 1
    rows, columns = (-(-side * scale // 2**view.level) for side in run.start.shape)
    x, y = min(view.x, columns), min(view.y, rows)
    w, h = min(view.w, columns - x), min(view.h, rows - y)
    if 4 * w * h > MAX_VIEW_BYTES:
        most = MAX_VIEW_BYTES // 4
        return _refusal(view, "too-large", f"{w} × {h} pixels are more than {most}; ask for a higher level")
    part = _part(reconstruction, judged, view)
    # Always a copy: the next batch changes the canvas while these pixels are on their way.
    pixels = np.array(part(x, y, w, h) if w and h else np.zeros((h, w)), "<f4", order="C")
    contrast = None
    if view.contrast:
        contrast = canvas.contrasts.find((view.picture, view.level), n_frames, part, (rows, columns))
    viewed = Viewed(
        request=view.request,
        run=run.start.run,
        picture=view.picture,
        level=view.level,
        x=x,
        y=y,
        w=w,
        h=h,
        nbytes=pixels.nbytes,
        live=n_frames,
        canvas=canvas.name if run.canvases.names else UNSET,
        contrast=UNSET if contrast is None or isinstance(contrast, Sample) else contrast,
        judgement=(judgement_of(run.canvases, canvas) if run.canvases.names else None) or UNSET,
    )
    return Answer(viewed, pixels, partial(canvas.contrasts.measure, contrast) if isinstance(contrast, Sample) else None)


def _part(reconstruction: Reconstruction, judged: NDArray[np.float32] | None, view: View) -> Part:
    """Return what cuts the picture that is asked for."""
    if judged is not None:
        return partial(_pooled, judged, view.level)
    if view.picture == "canvas":
        return partial(reconstruction.view, view.level)
    whole = reconstruction.widefield() if view.picture == "widefield" else reconstruction.last()
    return lambda x, y, w, h: whole[y : y + h, x : x + w]


def _judged(canvas: Canvas, picture: Picture) -> tuple[NDArray[np.float32], int] | str:
    """Return a picture of the judge, and the frames that are in it; or why there is none."""
    judging = None if canvas.watch is None else canvas.watch.judging
    if judging is None:
        return f"this server does not judge pictures, has not begun to, or judges {MOST_JUDGED} other canvases"
    if picture == "errors":
        errors = judging.errors
        return "there is nothing to compare yet" if errors is None else (errors[0].excess, errors[1])
    if not judging.is_whole:
        return judging.uncorrected
    return judging.corrected or "the drift is not known yet"


def _pooled(picture: NDArray[np.float32], level: int, x: int, y: int, w: int, h: int) -> NDArray[np.float32]:
    """Return a rectangle of a level of a picture, as `Reconstruction.view` does."""
    size = 2**level
    part = picture[y * size : (y + h) * size, x * size : (x + w) * size]
    part = np.pad(part, ((0, h * size - part.shape[0]), (0, w * size - part.shape[1])))
    return np.asarray(part.reshape(h, size, w, size).sum((1, 3)))


def _refusal(view: View, code: str, message: str) -> Answer:
    return Answer(Error(code=code, fatal=False, message=message, request=view.request))
