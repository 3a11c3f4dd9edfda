"""What the window shows of a run that has ended: its folder's pictures."""

import json
import math
from pathlib import Path

import msgspec

from stormlive.output.display import sum_pool
from stormlive.output.ome_tiff import read_image
from stormlive.viewer.view import LiveView, Picture, Visible
from stormlive.wire.messages import Judgement
from stormlive_sim.errors import InputError

_CANVAS, _WIDEFIELD, _SUFFIX = "superres", "widefield", ".ome.tif"


class SavedView:
    """Shows the canvases of a run's folder, at the level that the screen resolves; called from one thread.

    Parameters
    ----------
    folder : Path
        With ``superres.ome.tif`` and ``widefield.ome.tif``, or one pair for each channel, position and z.

    Raises
    ------
    InputError
        When there are none in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        found = (path.name.removesuffix(_SUFFIX) for path in sorted(folder.glob(f"{_CANVAS}*{_SUFFIX}")))
        self._names = {name.removeprefix(_CANVAS).removeprefix("_"): name for name in found}
        if not self._names:
            raise InputError(f"{folder} has no {_CANVAS}{_SUFFIX}: give the folder of a finished run")
        self._several = tuple(self._names) if len(self._names) > 1 else ()
        self._read: tuple[str, Picture, Picture] | None = None
        self._shown: tuple[str, int, tuple[int, int, int, int]] | None = None

    def __call__(self, visible: Visible) -> LiveView | None:
        """Return the view, or None where the same is wanted again."""
        _, canvas, widefield = read = self._pictures(visible.canvas)
        shape, size_nm = canvas.pixels.shape, canvas.pixel_size_nm
        levels = 1 + max(0, math.ceil(math.log2(max(shape) / 512)))
        level, rectangle = visible.with_margin(0.125).level_and_rectangle(
            shape=(shape[0], shape[1]), pixel_size_nm=size_nm, levels=levels
        )
        asked = read[0], level, rectangle
        if self._shown == asked:
            return None
        self._shown = asked
        (top, left, rows, columns), size = rectangle, 2**level
        part = sum_pool(canvas.pixels[top * size : (top + rows) * size, left * size : (left + columns) * size], size)
        return LiveView(
            widefield=widefield,
            superres=Picture(
                pixels=part,
                pixel_size_nm=size_nm * size,
                x_nm=left * size * size_nm,
                y_nm=top * size * size_nm,
            ),
            field_nm=(shape[0] * size_nm, shape[1] * size_nm),
            status=f"{self._folder.name}: {self._summary()}",
            canvases=self._several,
            canvas=read[0],
            judgement=self._judgement(),
        )

    def whole(self, canvas: str | None) -> Picture:
        """Return the whole canvas of that name."""
        return self._pictures(canvas)[1]

    def _pictures(self, wanted: str | None) -> tuple[str, Picture, Picture]:
        name = wanted if wanted in self._names else next(reversed(self._names))
        if self._read is None or self._read[0] != name:
            canvas, size_nm = read_image(self._folder / f"{self._names[name]}{_SUFFIX}")
            behind = f"_{name}" if name else ""
            widefield, camera_nm = read_image(self._folder / f"{_WIDEFIELD}{behind}{_SUFFIX}")
            self._read = (
                name,
                Picture(pixels=canvas, pixel_size_nm=size_nm),
                Picture(pixels=widefield, pixel_size_nm=camera_nm),
            )
        return self._read

    def _judgement(self) -> Judgement | None:
        """Return what the server judged last, if it did."""
        try:
            record = json.loads((self._folder / "run.json").read_text())
            return msgspec.convert(record["judgement"]["final"], Judgement)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # msgspec's errors are ValueErrors

    def _summary(self) -> str:
        try:
            return str(json.loads((self._folder / "run.json").read_text())["summary"])
        except (OSError, ValueError, KeyError, TypeError):
            return "no run.json"
