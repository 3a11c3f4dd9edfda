"""What the hook tells of its frames, while the run goes on and when it is over."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from stormlive.acquire.account import Account, SenderState
from stormlive.acquire.outbox import Outbox
from stormlive.ranges import Ranges, account_sentence, reason_key
from stormlive.wire.fields import Lane


@dataclass(frozen=True, kw_only=True)
class HookReport:
    """What became of a run's frames: each of the `offered` is in `live`, `replayed` or exactly one of `missing`.

    Attributes
    ----------
    run
        The run's identity on the server.
    offered
        Frames that the hook was handed.
    live
        Frames that came into the picture as the camera gave them.
    replayed
        Frames that came into it later.
    missing
        The others, by reason.
    folder
        Where the server left the run's files; None when it did not confirm the end or wrote none.
    failed
        Why the server did not take the run or could not finish it, on one line.
    sentence
        All of it in one plain sentence.
    """

    run: UUID
    offered: int
    live: Ranges
    replayed: Ranges
    missing: Mapping[str, Ranges]
    folder: str | None
    failed: str | None
    sentence: str

    @property
    def complete(self) -> bool:
        """Whether every offered frame is in the picture."""
        return self.live.count() + self.replayed.count() == self.offered


@dataclass(frozen=True, kw_only=True)
class HookProgress:
    """Counts of a run for a status line: `live` frames are in the picture, `replayed` ones among them.

    `backlog` frames wait with the sender or for the server's acknowledgement. `lane` is the way to the last server that
    was found: ``shm``, shared memory, or ``tcp``.
    """

    run: UUID
    state: SenderState
    offered: int
    live: int
    replayed: int
    missing: int
    backlog: int
    lane: Lane
    connected: bool
    failed: str | None


def make_progress(outbox: Outbox, account: Account) -> HookProgress:
    """Return the counts so far."""
    offered, in_picture = outbox.offered, account.in_picture()
    gaps = [*list(outbox.refused.values()), *list(account.lost.values())]
    live, missing = in_picture.count(), Ranges().union(*gaps).subtract(in_picture).count()
    return HookProgress(
        run=account.run,
        state=account.state,
        offered=offered,
        live=live,
        replayed=account.replayed.count(),
        missing=missing,
        backlog=max(0, offered - live - missing),
        lane="tcp" if account.welcome is None else account.welcome.lane,
        connected=account.connected,
        failed=account.failed,
    )


def make_report(outbox: Outbox, account: Account, offered: int) -> HookReport:
    """Return what became of the `offered` frames, once the sender has ended or was given up."""
    final = account.final
    live, replayed, missing = account.live, account.replayed, dict[str, Ranges]()
    accounted = account.in_picture()
    for reason, ranges in [*outbox.refused.items(), *account.lost.items()]:
        # Frames that came in while the hook was being closed are not the run's any more.
        kept = ranges.subtract(Ranges([(offered, 2**48)])).subtract(accounted)
        missing.setdefault(reason, Ranges()).merge(kept)
        accounted.merge(kept)
    rest = accounted.complement(offered)
    if rest:
        missing.setdefault(reason_key(account.remainder_reason(), missing), Ranges()).merge(rest)
    missing = {reason: ranges for reason, ranges in missing.items() if ranges}
    return HookReport(
        run=account.run,
        offered=offered,
        live=live,
        replayed=replayed,
        missing=missing,
        folder=None if final is None else final.folder,
        failed=account.failed or (None if final is None else final.error),
        sentence=account_sentence(offered, live, replayed, missing),
    )
