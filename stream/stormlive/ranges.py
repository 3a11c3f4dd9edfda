"""Sets of frame numbers as intervals: whatever happened to a run is told in a few of them."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence


def _first(span: tuple[int, int]) -> int:
    return span[0]


def _last(span: tuple[int, int]) -> int:
    return span[1]


class Ranges:
    """A set of frame numbers (integers ≥ 0), held as sorted, disjoint, non-touching intervals.

    Memory is proportional to the number of gaps, and appending in order costs O(1). One thread may add in
    order while others read: the last interval is replaced or appended in one step; readers work on a copy.
    """

    __slots__ = ("_spans",)

    def __init__(self, spans: Iterable[Sequence[int]] = ()) -> None:
        self._spans: list[tuple[int, int]] = []
        for first, last in spans:
            self.add_range(first, last)

    def add(self, number: int) -> None:
        """Add one frame number."""
        spans = self._spans
        if spans and number == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], number)
        else:
            self.add_range(number, number)

    def add_range(self, first: int, last: int) -> None:
        """Add the frames `first` to `last`, both included."""
        if not 0 <= first <= last:
            raise ValueError(f"a range needs 0 <= first <= last, got {first} to {last}")
        spans = self._spans
        if not spans or first > spans[-1][1] + 1:
            spans.append((first, last))
            return
        start = bisect_left(spans, first - 1, key=_last)
        stop = bisect_right(spans, last + 1, key=_first)
        if start < stop:
            first, last = min(first, spans[start][0]), max(last, spans[stop - 1][1])
        spans[start:stop] = [(first, last)]

    def discard(self, number: int) -> bool:
        """Take one frame out; False when it is not here."""
        spans = self._spans
        at = bisect_left(spans, number, key=_last)
        if at == len(spans) or number < spans[at][0]:
            return False
        first, last = spans[at]
        spans[at : at + 1] = [span for span in ((first, number - 1), (number + 1, last)) if span[0] <= span[1]]
        return True

    def merge(self, other: "Ranges") -> None:
        """Add every frame of `other`."""
        for first, last in list(other._spans):
            self.add_range(first, last)

    def subtract(self, other: "Ranges") -> "Ranges":
        """Return the frames that are here and not in `other`."""
        left: list[tuple[int, int]] = []
        holes, at = list(other._spans), 0
        for first, last in list(self._spans):
            at = bisect_left(holes, first, at, key=_last)
            hole = at
            while hole < len(holes) and holes[hole][0] <= last:
                if holes[hole][0] > first:
                    left.append((first, holes[hole][0] - 1))
                first = holes[hole][1] + 1
                hole += 1
            if first <= last:
                left.append((first, last))
        return Ranges(left)

    def union(self, *others: "Ranges") -> "Ranges":
        """Return the frames that are here or in one of `others`."""
        whole = Ranges(list(self._spans))
        for other in others:
            whole.merge(other)
        return whole

    def intersect(self, other: "Ranges") -> "Ranges":
        """Return the frames that are here and in `other`."""
        return self.subtract(self.subtract(other))

    def complement(self, n: int) -> "Ranges":
        """Return the frames of 0 … n-1 that are not here."""
        return Ranges([(0, n - 1)] if n > 0 else []).subtract(self)

    def count(self) -> int:
        """Return the number of frames."""
        return sum(last - first + 1 for first, last in list(self._spans))

    def to_list(self) -> list[tuple[int, int]]:
        """Return the intervals as ``[(first, last), …]``, both ends included, in order."""
        return list(self._spans)

    @classmethod
    def from_list(cls, spans: Iterable[Sequence[int]]) -> "Ranges":
        """Build from ``[(first, last), …]``, both ends included, in any order."""
        return cls(spans)

    def text(self, most: int = 8) -> str:
        """Return ``"0-119, 130"``, at most `most` intervals of it."""
        spans = list(self._spans)
        shown = [str(first) if first == last else f"{first}-{last}" for first, last in spans[:most]]
        if len(spans) > most:
            shown.append(f"and {len(spans) - most} more gaps")
        return ", ".join(shown)

    def covers(self, first: int, last: int) -> bool:
        """Return whether all of the frames `first` to `last` are here; so it is where `last` comes before `first`."""
        spans = self._spans
        at = bisect_left(spans, first, key=_last)
        return last < first or (at < len(spans) and spans[at][0] <= first and last <= spans[at][1])

    def holes(self, first: int, last: int) -> Iterator[int]:
        """Yield those of the frames `first` to `last` that are not here; what is here costs no time."""
        spans = self._spans
        at = bisect_left(spans, first, key=_last)
        while first <= last:
            here, until = spans[at] if at < len(spans) else (last + 1, last)
            yield from range(first, min(here, last + 1))
            first, at = until + 1, at + 1

    def __contains__(self, number: int) -> bool:
        spans = self._spans
        at = bisect_left(spans, number, key=_last)
        return at < len(spans) and spans[at][0] <= number

    def __bool__(self) -> bool:
        return bool(self._spans)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(self._spans))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._spans == other._spans

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.text(most=len(self._spans))

    def __repr__(self) -> str:
        return f"Ranges({self._spans})"


MAX_REASONS = 8


def reason_key(reason: str, known: Collection[str]) -> str:
    """Return `reason`, or ``"other reasons"`` when `known` already holds as many as an account may name."""
    return reason if reason in known or len(known) < MAX_REASONS else "other reasons"


def account_sentence(total: int, live: Ranges, replayed: Ranges, missing: Mapping[str, Ranges]) -> str:
    """Tell in one sentence which of `total` frames are in the picture, and which are missing and why."""
    if total == 0:
        return "The run has no frames."
    n = live.count() + replayed.count()
    sentence = f"{n} of {total} {'frame is' if total == 1 else 'frames are'} in the picture"
    if replayed:
        sentence += f" ({live.count()} live, {replayed.count()} replayed)"
    gone = sum(ranges.count() for ranges in missing.values())
    if not gone:
        return f"{sentence}."
    why = ", ".join(f"{ranges.text()} ({reason})" for reason, ranges in missing.items() if ranges)
    return f"{sentence}; {gone} {'is' if gone == 1 else 'are'} missing: {why}."
