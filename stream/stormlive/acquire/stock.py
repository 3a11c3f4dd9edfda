"""Every frame that the sender may have to send, or to send again, and where its pixels are.

A frame waits in the outbox, is in flight until the server acknowledges that it is in the picture, and is kept until
the server has it in a checkpoint: a server that is killed before asks for it again. Where memory is short its pixels
move to the spool, or are let go when the server reads the acquisition's own dataset; then it is replayed later, when
nothing newer waits.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from stormlive.acquire.outbox import Outbox, Parcel
from stormlive.acquire.spool import Spool
from stormlive.ranges import Ranges

# What is moved to disk before the socket is looked at again.
_MOST_MOVED_BYTES = 16 * 2**20
# Frames that the server may be looking for in the dataset: its writer may be late, and new frames must not wait.
MOST_REFERRED = 256


class Stock:
    """The sender's frames; in its thread only.

    Attributes
    ----------
    in_flight
        Sent on this connection and not acknowledged, with the word whether as a replay.
    later
        To be replayed.
    by_dataset
        Whether the server reads frames from the acquisition's dataset.
    """

    def __init__(self, outbox: Outbox, spool: Spool) -> None:
        self.outbox = outbox
        self.spool = spool
        self.in_flight: dict[int, tuple[Parcel, bool]] = {}
        self.later: dict[int, Parcel] = {}
        self.by_dataset = False
        self._kept: dict[int, Parcel] = {}
        # Of what is kept or to be replayed, the frames whose pixels are in the outbox, and some that no longer are.
        self._movable: deque[int] = deque()
        self._referred = 0

    @property
    def unsent(self) -> bool:
        """Whether there is anything left to send."""
        return bool(self.outbox.waiting or self.later or (self.by_dataset and self.outbox.overflow))

    @property
    def sendable(self) -> bool:
        """Whether `take` has something."""
        if self.outbox.waiting and len(self.in_flight) - self._referred < self.outbox.most_in_flight:
            return True
        if self.by_dataset and not self.outbox.refers:
            while self.outbox.overflow:
                parcel = self.outbox.overflow.popleft()
                self.later[parcel.seq] = parcel
        if self._has_new_reference:
            return True
        first = next(iter(self.later.values()), None)
        if first is None or first.place != "dataset":
            return first is not None and len(self.in_flight) - self._referred < self.outbox.most_in_flight
        return self._referred < MOST_REFERRED

    def take(self) -> tuple[Parcel, bool] | None:
        """Return the frame to send next and whether it is a replay: what is new comes first."""
        if not self.sendable:
            return None
        if len(self.in_flight) - self._referred < self.outbox.most_in_flight:
            try:
                return self.outbox.waiting.popleft(), False
            except IndexError:
                pass
        if self._has_new_reference:
            return self.outbox.overflow.popleft(), False
        seq = next(iter(self.later), None)
        return None if seq is None else (self.later.pop(seq), True)

    def give_back(self, parcels: Sequence[Parcel], *, replay: bool) -> None:
        """Take back frames that could not be sent now."""
        if replay:
            self.later = {**{parcel.seq: parcel for parcel in parcels}, **self.later}
        else:
            self._line_up_new(parcels)

    def sent(self, parcels: Sequence[Parcel], *, replay: bool) -> None:
        """Note what is in flight now."""
        for parcel in parcels:
            self.in_flight[parcel.seq] = parcel, replay
            self._referred += parcel.place == "dataset"

    def run_of_references(self, first: Parcel, most: int, *, replay: bool) -> list[Parcel]:
        """Return a frame that is to be read from the dataset, with those that follow it in number and in line."""
        run, new = [first], self.outbox.overflow
        while len(run) < min(most, MOST_REFERRED - self._referred):
            seq = first.seq + len(run)
            if replay and (parcel := self.later.get(seq)) is not None and parcel.place == "dataset":
                run.append(self.later.pop(seq))
            elif not replay and new and new[0].seq == seq:
                run.append(new.popleft())
            else:
                break
        return run

    def pixels(self, parcel: Parcel) -> NDArray[Any] | None:
        """Return the pixels of a frame in memory or in the spool; None when the disk fails."""
        if parcel.place == "spool":
            return self.spool.get(parcel.slot, self.outbox.like)
        return self.outbox.pixels(parcel)

    def acknowledge(self, seq: int, *, keep: bool) -> Parcel | None:
        """Note that a frame is in the picture, and `keep` it until it is durable; None when it was not in flight."""
        parcel = self._land(seq)
        if parcel is None:
            return None
        if not keep:
            self.release(parcel)
        elif parcel.place == "memory" and self.by_dataset and parcel.axes:
            self.release(parcel)
            self._kept[seq] = replace(parcel, place="dataset", slot=-1)
        else:
            self._kept[seq] = parcel
            if parcel.place == "memory":
                self._movable.append(seq)
        return parcel

    def refused(self, ranges: Ranges) -> None:
        """Let go of frames that the server could not read."""
        for seq in [seq for seq in self.in_flight if seq in ranges]:
            parcel = self._land(seq)
            if parcel is not None:
                self.release(parcel)

    def strand(self) -> Ranges:
        """Let go of frames that only a server that reads the dataset could have, and return them."""
        stranded = [seq for seq, parcel in self.later.items() if parcel.place == "dataset"]
        for seq in stranded:
            del self.later[seq]
        while self.outbox.refers and self.outbox.overflow:
            stranded.append(self.outbox.overflow.popleft().seq)
        return Ranges((seq, seq) for seq in stranded)

    def durable(self, ranges: Ranges) -> None:
        """Let go of frames that the server will have even if it is killed."""
        for seq in [seq for seq in self._kept if seq in ranges]:
            self.release(self._kept.pop(seq))
        while self._movable and not (self._movable[0] in self._kept or self._movable[0] in self.later):
            self._movable.popleft()

    def release(self, parcel: Parcel) -> None:
        """Free the place of a frame."""
        if parcel.place == "memory":
            self.outbox.release(parcel)
        elif parcel.place == "spool":
            self.spool.release(parcel.slot)

    def disconnected(self) -> None:
        """Line up again what was sent and not acknowledged, in front of all else."""
        if self.outbox.segment is not None:
            # First of all: these frames may move and their slots be used again, while a server still reads them.
            self.outbox.segment.renew()
        again = sorted(self.in_flight.items())
        self.in_flight.clear()
        self._referred = 0
        self._line_up_new([parcel for _, (parcel, replay) in again if not replay])
        self._line_up(parcel for _, (parcel, replay) in again if replay)

    def bring_back(self, gone: Ranges) -> Ranges:
        """Line up frames again that were in the picture of a server that was lost; return those that nobody has."""
        back = [seq for seq in self._kept if seq in gone]
        self._line_up(self._kept.pop(seq) for seq in back)
        return gone.subtract(Ranges((seq, seq) for seq in back))

    def ask(self, wanted: Ranges) -> Ranges:
        """Line up frames that the server asks for; return those that cannot be had."""
        again = [self._land(seq) for seq in list(self.in_flight) if seq in wanted]
        self._line_up(parcel for parcel in again if parcel is not None)
        rest = self.bring_back(wanted.subtract(Ranges((seq, seq) for seq in self.later)))
        return rest.subtract(Ranges((seq, seq) for seq in self.later))

    def relieve(self) -> None:
        """Make room in the outbox when it gets full: to the dataset or the spool, what is in the picture already first.

        Where there is no other place, what is kept against the loss of the server goes: a new frame is worth more.
        """
        outbox, moved_bytes = self.outbox, 0
        while outbox.crowded and self._movable and moved_bytes < _MOST_MOVED_BYTES:
            seq = self._movable.popleft()
            home = self._kept if seq in self._kept else self.later
            parcel = home.get(seq)
            if parcel is None or parcel.place != "memory":
                continue
            aside = self._set_aside(parcel)
            if aside is not None:
                home[seq] = aside
            elif home is self._kept:
                del home[seq]
            else:
                self._movable.appendleft(seq)
                return
            outbox.release(parcel)
            moved_bytes += outbox.frame_bytes
        while outbox.crowded and outbox.mode == "account" and moved_bytes < _MOST_MOVED_BYTES:
            try:
                parcel = outbox.waiting.popleft()
            except IndexError:
                return
            aside = self._set_aside(parcel)
            if aside is None:
                outbox.waiting.appendleft(parcel)
                return
            self.later[aside.seq] = aside
            outbox.release(parcel)
            moved_bytes += outbox.frame_bytes

    def _set_aside(self, parcel: Parcel) -> Parcel | None:
        """Return a frame with its pixels elsewhere than in the outbox; None where there is no such place."""
        if self.by_dataset and parcel.axes:
            return replace(parcel, place="dataset", slot=-1)
        place = self.spool.put(self.outbox.pixels(parcel))
        return None if place is None else replace(parcel, place="spool", slot=place)

    @property
    def _has_new_reference(self) -> bool:
        """Whether there is a frame to refer to that was never to come another way."""
        outbox = self.outbox
        return self.by_dataset and outbox.refers and bool(outbox.overflow) and self._referred < MOST_REFERRED

    def _line_up_new(self, parcels: Sequence[Parcel]) -> None:
        """Put frames in front of those that came after them."""
        for parcel in reversed(parcels):
            (self.outbox.overflow if parcel.place == "dataset" else self.outbox.waiting).appendleft(parcel)

    def _land(self, seq: int) -> Parcel | None:
        """Return a frame that is no longer in flight."""
        parcel, _ = self.in_flight.pop(seq, (None, False))
        if parcel is not None:
            self._referred -= parcel.place == "dataset"
        return parcel

    def _line_up(self, parcels: Iterable[Parcel]) -> None:
        """Put frames among those to be replayed, in order."""
        parcels = list(parcels)
        self._movable.extend(parcel.seq for parcel in parcels if parcel.place == "memory")
        together = itertools.chain(parcels, self.later.values())
        self.later = {parcel.seq: parcel for parcel in sorted(together, key=lambda parcel: parcel.seq)}
