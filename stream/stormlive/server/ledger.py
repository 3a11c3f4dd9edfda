"""The account of a run's frames: each is in the picture once, or missing for one reason."""

from typing import Any

from stormlive.ranges import Ranges, account_sentence, reason_key
from stormlive.wire.messages import one_line


class Ledger:
    """Which frames of a run are in the picture, and why the others are not.

    The first word about a frame counts; what comes later about the same frame is refused.
    """

    def __init__(self) -> None:
        self.live = Ranges()
        self.missing: dict[str, Ranges] = {}
        self.refused_duplicates = 0
        self._total = 0

    def __contains__(self, seq: int) -> bool:
        return seq in self.live or any(seq in ranges for ranges in self.missing.values())

    def add_live(self, seq: int) -> bool:
        """Record a frame that is in the picture; False, and nothing recorded, when it was known already."""
        if seq in self:
            self.refused_duplicates += 1
            return False
        self.live.add(seq)
        self._total = max(self._total, seq + 1)
        return True

    def add_missing(self, ranges: Ranges, reason: str) -> None:
        """Record frames that will not be in the picture, as far as they are not known already."""
        for known in (self.live, *self.missing.values()):
            ranges = ranges.subtract(known)
        if not ranges:
            return
        key = reason_key(one_line(reason, 120), self.missing)
        self.missing.setdefault(key, Ranges()).merge(ranges)
        self._total = max(self._total, ranges.to_list()[-1][1] + 1)

    def close(self, n: int) -> None:
        """Account for all of the run's `n` frames: those never heard of were not received."""
        self._total = max(self._total, n)
        known = Ranges(self.live)
        for ranges in self.missing.values():
            known.merge(ranges)
        self.add_missing(known.complement(self._total), "not received")

    @property
    def total(self) -> int:
        """The number of frames of the run, as far as it is known."""
        return self._total

    def live_count(self) -> int:
        """Return the number of frames in the picture."""
        return self.live.count()

    def missing_counts(self) -> dict[str, int]:
        """Return the number of missing frames by reason."""
        return {reason: ranges.count() for reason, ranges in self.missing.items()}

    def sentence(self) -> str:
        """Return the account as one sentence."""
        return account_sentence(self._total, self.live, self.missing)

    def as_dict(self) -> dict[str, Any]:
        """Return the account for a JSON file; ranges are ``[first, last]``, both included."""
        return {
            "frames": self._total,
            "live": [list(span) for span in self.live],
            "missing": {reason: [list(span) for span in ranges] for reason, ranges in self.missing.items()},
            "refused_duplicates": self.refused_duplicates,
            "sentence": self.sentence(),
        }
