"""Pictures for viewers, cut from a run's canvas."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormlive.server.run import Run
from stormlive.wire.messages import Error, View, Viewed

MAX_VIEW_BYTES = 64 * 2**20


def answer(run: Run | None, view: View) -> tuple[Viewed | Error, NDArray[Any] | None]:
    """Return the answer to a viewer and its pixels, (h, w) float32 of its own; in the engine thread."""
    if run is None or run.reconstruction is None:
        return _refusal(view, "no-run", "there is no such run here (yet); ask for the latest"), None
    if view.picture != "canvas" and view.level != 0:
        return _refusal(view, "bad-view", f"the {view.picture} picture has level 0 only"), None
    reconstruction = run.reconstruction
    scale = reconstruction.upsampling if view.picture == "canvas" else 1
    rows, columns = (-(-side * scale // 2**view.level) for side in run.start.shape)
    x, y = min(view.x, columns), min(view.y, rows)
    w, h = min(view.w, columns - x), min(view.h, rows - y)
    if 4 * w * h > MAX_VIEW_BYTES:
        most = MAX_VIEW_BYTES // 4
        return _refusal(view, "too-large", f"{w} × {h} pixels are more than {most}; ask for a higher level"), None
    if w == 0 or h == 0:
        part: NDArray[Any] = np.zeros((h, w), "<f4")
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
        live=run.ledger.picture_count(),
    )
    return viewed, pixels


def _refusal(view: View, code: str, message: str) -> Error:
    return Error(code=code, fatal=False, message=message, request=view.request)
