"""What the window shows of a run that has ended: its folder's pictures."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from stormlive.output import RUN_FILE
from stormlive.output.display import sum_pool
from stormlive.output.ome_tiff import read_image
from stormlive.viewer.saved_replay import SavedReplay
from stormlive.viewer.view import LiveView, Picture, Replay, Visible
from stormlive.wire.viewing import Judgement
from stormlive_sim.errors import InputError

_CANVAS, _WIDEFIELD, _REPLAY, _SUFFIX = "superres", "widefield", "replay", ".ome.tif"
_CORRECTED = "_drift_corrected"


@dataclass(kw_only=True)
class _Opened:
    """The canvas that is shown, and what lies beside it."""

    name: str
    canvas: Picture
    widefield: Picture
    corrected: Picture | None
    replay: SavedReplay | None
    no_replay: str

    def picture(self, at: int | None, *, corrected: bool) -> tuple[Picture, Replay | None, bool]:
        """Return the canvas at a place of the replay, which place that is, and whether it is corrected for drift."""
        found, replay = self.canvas, None
        if self.replay is not None:
            last = len(self.replay.frames) - 1
            replay = Replay(frames=self.replay.frames, at=last if at is None else max(0, min(at, last)))
            if replay.at < last:
                try:
                    pixels = self.replay.canvas(replay.at)
                    return Picture(pixels=pixels, pixel_size_nm=found.pixel_size_nm), replay, False
                except InputError as error:
                    self.replay.close()
                    self.replay, self.no_replay, replay = None, f"no time slider: {error}", None
        if corrected and self.corrected is not None:
            return self.corrected, replay, True
        return found, replay, False

    def close(self) -> None:
        """Close its files."""
        if self.replay is not None:
            self.replay.close()


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
        names = {name.removeprefix(_CANVAS).removeprefix("_"): name for name in found}
        # What is there without a widefield picture of its own is another picture of one of the canvases.
        self._names = {short: name for short, name in names.items() if self._file(_WIDEFIELD, short).exists()}
        if not self._names:
            files = f"{_CANVAS}{_SUFFIX} and {_WIDEFIELD}{_SUFFIX}"
            raise InputError(f"{folder} has no {files}: give the folder of a finished run")
        self._several = tuple(self._names) if len(self._names) > 1 else ()
        self._record = self._read_record()
        self._opened: _Opened | None = None
        self._shown: tuple[object, ...] = ()

    def __call__(self, visible: Visible) -> LiveView | None:
        """Return the view, or None where the same is wanted again."""
        opened = self._open(visible.canvas)
        canvas, replay, corrected = opened.picture(visible.at, corrected=visible.corrected)
        shape, size_nm = canvas.pixels.shape, canvas.pixel_size_nm
        levels = 1 + max(0, math.ceil(math.log2(max(shape) / 512)))
        level, rectangle = visible.with_margin(0.125).level_and_rectangle(
            shape=(shape[0], shape[1]), pixel_size_nm=size_nm, levels=levels
        )
        asked = opened.name, level, rectangle, replay, corrected
        if self._shown == asked:
            return None
        self._shown = asked
        (top, left, rows, columns), size = rectangle, 2**level
        part = sum_pool(canvas.pixels[top * size : (top + rows) * size, left * size : (left + columns) * size], size)
        return LiveView(
            widefield=opened.widefield,
            superres=Picture(
                pixels=part,
                pixel_size_nm=size_nm * size,
                x_nm=left * size * size_nm,
                y_nm=top * size * size_nm,
            ),
            field_nm=(shape[0] * size_nm, shape[1] * size_nm),
            status=f"{self._folder.name}: {self._record.get('summary', f'no {RUN_FILE}')}",
            canvases=self._several,
            canvas=opened.name,
            judgement=self._judgement(opened.name),
            corrected=corrected,
            replay=replay,
            no_replay=opened.no_replay,
        )

    def whole(self, canvas: str | None) -> Picture:
        """Return the whole canvas of that name."""
        return self._open(canvas).canvas

    def close(self) -> None:
        """Close the files."""
        if self._opened is not None:
            self._opened.close()

    def _open(self, wanted: str | None) -> _Opened:
        name = wanted if wanted in self._names else next(reversed(self._names))
        if self._opened is None or self._opened.name != name:
            self.close()
            canvas = _read(self._file(_CANVAS, name))
            corrected = self._file(_CANVAS, name, _CORRECTED)
            replay, no_replay = self._replay(name, canvas)
            self._opened = _Opened(
                name=name,
                canvas=canvas,
                widefield=_read(self._file(_WIDEFIELD, name)),
                corrected=_read(corrected) if corrected.exists() else None,
                replay=replay,
                no_replay=no_replay,
            )
        return self._opened

    def _replay(self, name: str, canvas: Picture) -> tuple[SavedReplay | None, str]:
        """Return the replay of a canvas, or why there is none."""
        path = self._file(_REPLAY, name)
        try:
            route = self._route(name)
            frames = [int(n) for n in route["replay"]]
            why_not = str(route["no_replay"])
        except (KeyError, TypeError, ValueError):
            return None, f"no time slider: {RUN_FILE} does not tell how the picture grew; older versions did not"
        if len(frames) < 2:
            return None, f"no time slider: {why_not or 'the run was too short'}"
        try:
            return SavedReplay(path, frames, canvas.pixels), ""
        except InputError as error:
            return None, f"no time slider: {error}"

    def _file(self, what: str, name: str, behind: str = "") -> Path:
        return self._folder / f"{what}{f'_{name}' if name else ''}{behind}{_SUFFIX}"

    def _route(self, name: str) -> dict[str, Any]:
        """Return what the record says of a canvas, if it does."""
        file = self._file(_CANVAS, name).name
        try:
            found: list[dict[str, Any]] = [one for one in self._record["canvases"] if file in one["files"]]
        except (KeyError, TypeError):
            return {}
        return found[0] if found else {}

    def _judgement(self, name: str) -> Judgement | None:
        """Return what the server judged last of a canvas, if it did."""
        for record in (self._route(name), self._record):
            try:
                judgement = msgspec.convert(record["judgement"]["final"], Judgement)
            except (ValueError, KeyError, TypeError):
                continue  # msgspec's errors are ValueErrors
            if judgement.canvas == name:
                return judgement
        return None

    def _read_record(self) -> dict[str, Any]:
        try:
            record = json.loads((self._folder / RUN_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


def _read(path: Path) -> Picture:
    pixels, size_nm = read_image(path)
    return Picture(pixels=pixels, pixel_size_nm=size_nm)
