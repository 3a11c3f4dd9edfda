"""Of a model that looks at the frames before and after each one: frames wait here until those beside them are there.

Beside a frame are the next ones of its canvas by the sender's numbers. It is *held* until both have come, and kept
until they are computed too, since it is beside them: of a stream without gaps two frames of each canvas, and one frame
of latency. Where numbers are missing, the frames beside the gap wait for the replay, so that the picture is that of
`stormlive reconstruct`. What never comes is dark, and the account tells which frames lack it.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormlive.ranges import Ranges
from stormlive.server.kept_frames import Kept, KeptFrame, NeighboursMoment, Stretch
from stormlive.server.kept_pixels import KeptPixels, Saved
from stormlive.server.protocols import Canvas
from stormlive.wire.frame import Frame

ARRAYS = "neighbours/"
"""What the pixels that a checkpoint keeps are called begins with it."""

# Of one run, and of a canvas at least: four frames wait beside a gap.
_MOST_BYTES = 256 * 2**20
_LEAST_OF_A_CANVAS = 4
# Of one run, when the pixels are in the dataset.
_MOST_FRAMES = 100_000
# So many are read from it at a time.
_MOST_READ = 16


class Neighbours:
    """The frames of a run that wait for others, and those for which others wait; in the engine's thread only.

    Beyond `most_bytes` the oldest are left to the dataset; what it does not have is computed beside what there is.

    Parameters
    ----------
    saved
        The run's dataset, where there is one.
    latest
        Whether no frame comes later than one with a higher number: then nothing waits for a gap to be filled.

    Attributes
    ----------
    held
        Numbers of the frames that are still to be computed.
    """

    def __init__(self, saved: Saved | None, *, latest: bool, most_bytes: int = _MOST_BYTES) -> None:
        self._latest = latest
        self._pixels = KeptPixels(saved, most_bytes)
        self.held = Ranges()
        # All frames that came, of whatever canvas: only where no number is missing between two of a canvas is one
        # beside the other. Of those that are let go both neighbours are computed, so that none is ever skipped.
        self._known = Ranges()
        self._news = Ranges()
        self._kept: dict[int, Kept] = {}
        self._lines: dict[Canvas, list[int]] = {}
        self._todo: dict[Canvas, list[int]] = {}
        self._queued: Collection[int] = ()
        self._total: int | None = None

    @property
    def busy(self) -> bool:
        """Whether there are frames that can be computed now, and must be before others are taken."""
        return bool(self._todo)

    def take(self, canvas: Canvas, frames: Sequence[Frame], pixels: NDArray[Any], live_ns: Mapping[int, int]) -> None:
        """Hold frames with their pixels (B, Y, X); `live_ns` says when the hook was handed those that came live."""
        line = self._lines.setdefault(canvas, [])
        for frame, image in zip(frames, pixels, strict=True):
            offered_ns = live_ns.get(frame.seq)
            self._kept[frame.seq] = Kept(
                seq=frame.seq, axes=frame.axes, canvas=canvas, replay=frame.replay, offered_ns=offered_ns
            )
            self._pixels.lend(frame.seq, image)
            insort(line, frame.seq)
            self.held.add(frame.seq)
        self.pass_by([frame.seq for frame in frames])

    def pass_by(self, numbers: Collection[int]) -> None:
        """Note that frames have come, of whatever canvas or of none."""
        for seq in numbers:
            self._known.add(seq)
            self._news.add(seq)

    def settle(self, n: int) -> None:
        """Let nothing wait any more, since no more is to come of the `n` frames of the run that are known of."""
        self._total = n
        self._todo = {canvas: due for canvas, line in self._lines.items() if (due := self._due(line, line))}

    def ready(self, most: int, queued: Collection[int] = ()) -> Iterator[Stretch]:
        """Yield about `most` frames that can be computed now; a stretch counts as computed when the next is asked for.

        `queued` are numbers that are here and were not taken yet: where nothing comes later, between two of a canvas
        these are of others.
        """
        self._queued = queued if self._total is None else ()
        news, self._news = self._news, Ranges()
        for canvas, line in self._lines.items():
            if due := self._due(line, _near(line, news)):
                self._todo[canvas] = sorted({*self._todo.get(canvas, ()), *due})
        while self._todo and most > 0:
            canvas, numbers = next(iter(self._todo.items()))
            portion = self._portion(numbers[:most])
            del numbers[: len(portion)]
            if not numbers:
                del self._todo[canvas]
            most -= len(portion)
            yield from self._work_off(self._lines[canvas], portion)
            self._pixels.give_back(self._least())
        if self._total is not None and not self._todo:
            # Should one come after all, it finds none beside it.
            self._total, self._known, self._kept, self._lines = None, Ranges(), {}, {}
            self._pixels.here.clear()
        elif not self._todo:
            yield from self._make_room()
        self._pixels.own()

    def moment(self, canvases: Sequence[Canvas]) -> NeighboursMoment:
        """Return what is kept of frames in the picture; those that are held will be sent again."""
        frames = [
            KeptFrame(seq=kept.seq, canvas=canvases.index(kept.canvas), axes=kept.axes)
            for kept in self._kept.values()
            if not kept.held
        ]
        return NeighboursMoment(known=self._known.subtract(self.held).to_list(), frames=frames)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return the pixels of these frames, but for those that are in the dataset only."""
        return {f"{ARRAYS}{seq}": image for seq, image in self._pixels.here.items() if not self._kept[seq].held}

    def restore(self, moment: NeighboursMoment, canvases: Sequence[Canvas], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `moment` and `snapshot` gave."""
        self._known = Ranges(moment.known)
        for frame in moment.frames:
            canvas = canvases[frame.canvas]
            self._kept[frame.seq] = Kept(seq=frame.seq, axes=frame.axes, canvas=canvas, held=False)
            insort(self._lines.setdefault(canvas, []), frame.seq)
            if (image := arrays.get(f"{ARRAYS}{frame.seq}")) is not None:
                self._pixels.here[frame.seq] = image

    def _due(self, line: list[int], numbers: Sequence[int]) -> list[int]:
        """Return those of a line's frames that are to be computed and need not wait."""
        return [seq for seq in numbers if seq in self._kept and self._kept[seq].held and not self._waits(line, seq)]

    def _portion(self, numbers: list[int]) -> list[int]:
        """Return the first of some frames: no more than may be read into memory at once."""
        to_read = 0
        for at, seq in enumerate(numbers):
            to_read += seq not in self._pixels.here
            if to_read > _MOST_READ:
                return numbers[:at]
        return numbers

    def _work_off(self, line: list[int], numbers: list[int]) -> Iterator[Stretch]:
        """Yield what can be computed of some frames of a line."""
        for seq in self._due(line, numbers):
            if self._image(seq) is None:
                self._forget(seq)
        for group in self._groups(line, self._due(line, numbers)):
            stretch = self._stretch(line, group)
            around = self._around(line, group)
            yield stretch
            self._computed(stretch)
            for seq in [kept.seq for kept in around if self._is_done(line, kept)]:
                self._let_go(seq)

    def _least(self) -> int:
        return _LEAST_OF_A_CANVAS * len(self._lines)

    def _make_room(self) -> Iterator[Stretch]:
        """Leave frames to the dataset, or yield and forget them, while there are too many."""
        while (too_many := len(self._kept) > _MOST_FRAMES) or self._pixels.too_many(self._least()):
            kept = self._kept[next(iter(self._kept if too_many else self._pixels.here))]
            if not too_many and self._pixels.leave(kept.seq, kept.axes):
                continue
            if kept.held and self._image(kept.seq) is not None:
                stretch = self._stretch(self._lines[kept.canvas], [kept.seq])
                yield stretch
                self._computed(stretch)
            self._forget(kept.seq)

    def _before(self, line: list[int], seq: int) -> tuple[Kept | None, bool]:
        """Return the frame before one, if there is one, and whether there is no gap in between."""
        at = bisect_left(line, seq)
        sure = self._came(line[at - 1] + 1 if at else 0, seq - 1)
        return (self._kept[line[at - 1]] if at and sure else None), sure

    def _after(self, line: list[int], seq: int) -> tuple[Kept | None, bool]:
        """Return the frame after one, if there is one, and whether there is no gap in between."""
        at = bisect_right(line, seq)
        if at == len(line):
            return None, self._total is not None and self._came(seq + 1, self._total - 1)
        sure = self._came(seq + 1, line[at] - 1)
        return (self._kept[line[at]] if sure else None), sure

    def _came(self, first: int, last: int) -> bool:
        """Return whether all of these numbers have come."""
        if self._known.covers(first, last):
            return True
        return bool(self._queued) and all(seq in self._queued for seq in self._known.holes(first, last))

    def _waits(self, line: list[int], seq: int) -> bool:
        """Return whether a frame may still come beside one."""
        if self._total is not None:
            return False
        if self._latest:
            return seq == line[-1]
        return not (self._before(line, seq)[1] and self._after(line, seq)[1])

    def _is_done(self, line: list[int], kept: Kept) -> bool:
        """Return whether nobody needs a frame any more."""
        if kept.held or self._waits(line, kept.seq):
            return False
        beside = (self._before(line, kept.seq)[0], self._after(line, kept.seq)[0])
        return all(other is None or not other.held for other in beside)

    def _groups(self, line: list[int], due: list[int]) -> list[list[int]]:
        """Return frames of which one is beside the other together."""
        groups: list[list[int]] = []
        for seq in due:
            before, _ = self._before(line, seq)
            if groups and before is not None and before.seq == groups[-1][-1]:
                groups[-1].append(seq)
            else:
                groups.append([seq])
        return groups

    def _around(self, line: list[int], group: list[int]) -> list[Kept]:
        """Return the frames of a group and those beside them."""
        before, after = self._before(line, group[0])[0], self._after(line, group[-1])[0]
        frames = [before, *(self._kept[seq] for seq in group), after]
        return [kept for kept in frames if kept is not None]

    def _stretch(self, line: list[int], group: list[int]) -> Stretch:
        """Return a group, whose pixels are there, with those beside it."""
        sides = self._before(line, group[0]), self._after(line, group[-1])
        before, after = (None if kept is None else self._image(kept.seq) for kept, _ in sides)
        images = [image for image in (before, *(self._pixels.here[seq] for seq in group), after) if image is not None]
        first = int(before is not None)
        alone = {
            seq
            for seq, image, (kept, sure) in zip((group[0], group[-1]), (before, after), sides, strict=True)
            if not sure or (kept is not None and image is None)
        }
        return Stretch(
            canvas=self._kept[group[0]].canvas,
            frames=[self._kept[seq] for seq in group],
            pixels=np.stack(images),
            own=slice(first, first + len(group)),
            alone=alone,
        )

    def _computed(self, stretch: Stretch) -> None:
        for kept in stretch.frames:
            kept.held = False
            self.held.discard(kept.seq)

    def _image(self, seq: int) -> NDArray[Any] | None:
        return self._pixels.get(seq, self._kept[seq].axes)

    def _let_go(self, seq: int) -> None:
        line = self._lines[self._kept.pop(seq).canvas]
        del line[bisect_left(line, seq)]
        self._pixels.let_go(seq)
        self.held.discard(seq)

    def _forget(self, seq: int) -> None:
        """Let go of a frame as if it had never come: those beside it must not take another for it."""
        self._let_go(seq)
        self._known.discard(seq)


def _near(line: list[int], news: Ranges) -> list[int]:
    """Return the frames of a line among new ones, and the next one on either side of these."""
    places: set[int] = set()
    for first, last in news:
        places.update(range(max(0, bisect_left(line, first) - 1), min(len(line), bisect_right(line, last) + 1)))
    return [line[at] for at in sorted(places)]
