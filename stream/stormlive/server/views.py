"""Pictures for viewers, cut from a run's canvas."""

from typing import Any

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from stormlive.server.protocols import Canvas
from stormlive.server.run import Run
from stormlive.wire.fields import Picture
from stormlive.wire.messages import Error
from stormlive.wire.viewing import MAX_VIEW_BYTES, View, Viewed


def answer(run: Run | None, view: View) -> tuple[Viewed | Error, NDArray[Any] | None]:
    """Return the answer to a viewer and its pixels, (h, w) float32 of its own; in the engine thread."""
    if run is None or run.canvases is None:
        return _refusal(view, "no-run", "there is no such run here (yet); ask for the latest"), None
    if view.picture not in ("canvas", "corrected") and view.level != 0:
        return _refusal(view, "bad-view", f"the {view.picture} picture has level 0 only"), None
    canvas = run.canvases.named(view.canvas or None)
    if canvas is None:
        return _refusal(view, "no-canvas", "the run has no such canvas; STATUS has their names"), None
    n_frames, judged = canvas.n_frames, None
    if view.picture in ("errors", "corrected"):
        canvas = run.canvases.first if not view.canvas else canvas
        found = _judged(run, canvas, view.picture)
        if isinstance(found, str):
            return _refusal(view, "no-picture", found), None
        judged, n_frames = found
    reconstruction = canvas.reconstruction
    scale = reconstruction.upsampling if view.picture in ("canvas", "corrected") else 1
    rows, columns = (-(-side * scale // 2**view.level) for side in run.start.shape)
    x, y = min(view.x, columns), min(view.y, rows)
    w, h = min(view.w, columns - x), min(view.h, rows - y)
    if 4 * w * h > MAX_VIEW_BYTES:
        most = MAX_VIEW_BYTES // 4
        return _refusal(view, "too-large", f"{w} × {h} pixels are more than {most}; ask for a higher level"), None
    if w == 0 or h == 0:
        part: NDArray[Any] = np.zeros((h, w), "<f4")
    elif judged is not None:
        part = _pooled(judged, view.level, x, y, w, h)
    elif view.picture == "canvas":
        part = reconstruction.view(view.level, x, y, w, h)
    elif view.picture == "widefield":
        part = reconstruction.widefield()[y : y + h, x : x + w]
    else:
        part = reconstruction.last()[y : y + h, x : x + w]
    # Always a copy: the next batch changes the canvas while these pixels are on their way.
    pixels = np.array(part, "<f4", order="C")
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
    )
    return viewed, pixels


def _judged(run: Run, canvas: Canvas, picture: Picture) -> tuple[NDArray[np.float32], int] | str:
    """Return a picture of the judge, and the frames that are in it; or why there is none."""
    if run.canvases is not None and canvas is not run.canvases.first:
        return f"only the run's first canvas, {run.canvases.first.name}, is judged"
    judging = None if run.watch is None else run.watch.judging
    if judging is None:
        return "this server does not judge pictures, or has not begun to"
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


def _refusal(view: View, code: str, message: str) -> Error:
    return Error(code=code, fatal=False, message=message, request=view.request)
