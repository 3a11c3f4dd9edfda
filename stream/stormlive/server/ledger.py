"""The account of a run's frames: each is in the picture once, or missing for one reason."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from stormlive.ranges import Ranges, account_sentence, reason_key
from stormlive.wire.fields import Region
from stormlive.wire.messages import MAX_FINAL_SPANS, Final
from stormlive.wire.text import check_path, one_line
from stormlive_sim.errors import InputError


class Ledger:
    """Which frames of a run are in the picture, and why the others are not.

    A frame is live, replayed or missing for one reason. In the picture it stays; a missing one that comes after
    all is replayed. Of several reasons the first counts.

    Attributes
    ----------
    alone
        Frames in the picture that were computed without one that belongs beside them: of a model that looks at it.
    open_ended
        Whether the run was closed without its sender having told how many frames it had.
    """

    def __init__(self) -> None:
        self.live = Ranges()
        self.replayed = Ranges()
        self.missing: dict[str, Ranges] = {}
        self.refused_duplicates = 0
        self.alone = Ranges()
        self.open_ended = False
        # Where frames were computed: None is all over; the one that was used last comes last.
        self.regions: dict[Region | None, Ranges] = {}
        self._total = 0

    def __contains__(self, seq: int) -> bool:
        return seq in self.live or seq in self.replayed

    def add(self, seq: int, *, replay: bool = False, region: Region | None = None) -> bool:
        """Record a frame that is in the picture, where alone it was computed; False when it was there already."""
        if seq in self:
            self.refused_duplicates += 1
            return False
        for ranges in self.missing.values():
            if ranges.discard(seq):
                replay = True
        (self.replayed if replay else self.live).add(seq)
        if region not in list(self.regions)[-1:]:
            self.regions[region] = self.regions.pop(region, Ranges())
        self.regions[region].add(seq)
        self._total = max(self._total, seq + 1)
        return True

    def add_missing(self, ranges: Ranges, reason: str) -> None:
        """Record frames that will not be in the picture, as far as they are not known already."""
        for known in (self.live, self.replayed, *self.missing.values()):
            ranges = ranges.subtract(known)
        if not ranges:
            return
        key = reason_key(one_line(reason, 120), self.missing)
        self.missing.setdefault(key, Ranges()).merge(ranges)
        self._total = max(self._total, ranges.to_list()[-1][1] + 1)

    def close(self, n: int | None) -> None:
        """Account for all `n` frames of the run, None if nobody told how many; the rest was not received."""
        self.open_ended = n is None
        self._total = max(self._total, n or 0)
        self.add_missing(self.in_picture().complement(self._total), "not received")
        self.missing = {reason: ranges for reason, ranges in self.missing.items() if ranges}

    def in_picture(self) -> Ranges:
        """Return the frames that are in the picture."""
        return self.live.union(self.replayed)

    @property
    def total(self) -> int:
        """The number of frames of the run, as far as it is known."""
        return self._total

    def picture_count(self) -> int:
        """Return the number of frames in the picture."""
        return self.live.count() + self.replayed.count()

    def missing_counts(self) -> dict[str, int]:
        """Return the number of missing frames by reason."""
        return {reason: ranges.count() for reason, ranges in self.missing.items() if ranges}

    def gaps(self) -> int:
        """Return the number of ranges that are missing."""
        return sum(len(ranges.to_list()) for ranges in self.missing.values())

    def sentence(self) -> str:
        """Return the account as one sentence."""
        told = account_sentence(self._total, self.live, self.replayed, self.missing)
        partly = sum(ranges.count() for region, ranges in self.regions.items() if region is not None)
        if partly:
            told = f"{told[:-1]}; of {partly} of them only a region was computed."
        if self.alone:
            told = f"{told[:-1]}; {self.alone.count()} of them were computed without a frame that belongs beside them."
        return f"{told[:-1]}; whether the camera gave more is not known." if self.open_ended else told

    def as_dict(self) -> dict[str, Any]:
        """Return the account for a JSON file; ranges are ``[first, last]``, both included.

        Where only a part of some frames was computed, ``regions`` has which of which: [x, y, width, height] in camera
        pixels, null for the whole frame, in the order in which they were last used. ``alone`` has the frames that were
        computed without one that belongs beside them, where there are any.
        """
        regions = [
            {"region": region, "frames": [list(span) for span in ranges]} for region, ranges in self.regions.items()
        ]
        if set(self.regions) <= {None}:
            regions = []
        return {
            "frames": self._total,
            "live": [list(span) for span in self.live],
            "replayed": [list(span) for span in self.replayed],
            "missing": {reason: [list(span) for span in ranges] for reason, ranges in self.missing.items() if ranges},
            "refused_duplicates": self.refused_duplicates,
            "open_ended": self.open_ended,
            "sentence": self.sentence(),
            **({"regions": regions} if regions else {}),
            **({"alone": [list(span) for span in self.alone]} if self.alone else {}),
        }

    def final(self, run: UUID, exit_status: str, folder: Path | str | None, error: str | None = None) -> Final:
        """Return the last word on a run with this account; a path that no message carries is left out, and told."""
        try:
            told = None if folder is None else check_path(folder)
        except InputError as refusal:
            told, error = None, one_line(f"{error or 'the run is saved'}; its folder cannot be told: {refusal}")
        return Final(
            run=run,
            frames=self._total,
            live=self.live.count(),
            replayed=self.replayed.count(),
            missing=self.missing_counts(),
            exit_status=one_line(exit_status),
            sentence=one_line(self.sentence(), 1000),
            folder=told,
            error=error,
            live_ranges=_if_few(self.live),
            replayed_ranges=_if_few(self.replayed),
        )

    @classmethod
    def from_dict(cls, account: Mapping[str, Any]) -> "Ledger":
        """Return the ledger that wrote itself down with `as_dict`."""
        ledger = cls()
        ledger.live, ledger.replayed = Ranges(account["live"]), Ranges(account["replayed"])
        ledger.missing = {reason: Ranges(spans) for reason, spans in account["missing"].items()}
        ledger.refused_duplicates = int(account["refused_duplicates"])
        ledger.open_ended = bool(account.get("open_ended", False))  # records of earlier versions do not say
        ledger.alone = Ranges(account.get("alone", []))
        ledger._total = int(account["frames"])
        for one in account.get("regions", [{"region": None, "frames": list(ledger.in_picture())}]):
            region = None
            if one["region"] is not None:
                x, y, width, height = map(int, one["region"])
                region = x, y, width, height
            ledger.regions[region] = Ranges(one["frames"])
        return ledger


def _if_few(ranges: Ranges) -> tuple[tuple[int, int], ...]:
    spans = tuple(ranges)
    return spans if len(spans) <= MAX_FINAL_SPANS else ()
