"""What a connection tells the server of frames that it will not get."""

from collections.abc import Callable

from stormlive.acquire.account import Account
from stormlive.acquire.outbox import Outbox
from stormlive.ranges import Ranges
from stormlive.wire.codec import span_groups
from stormlive.wire.messages import Drop


class Gaps:
    """The gaps of a run, told by DROP as they come and again where the server asks for such frames.

    Parameters
    ----------
    outbox, account
        Who knows the gaps: what the outbox refused, and what was lost since.
    post
        Sends a message of the run that START has opened; False when the socket takes no more.
    """

    def __init__(self, outbox: Outbox, account: Account, post: Callable[[Drop], bool]) -> None:
        self._outbox = outbox
        self._account = account
        self._post = post
        self._told: dict[str, Ranges] = {}
        self._owed = Ranges()

    def tell(self) -> bool:
        """Tell the server of the gaps since the last time; False when the socket takes no more."""
        for reason, ranges in self._known():
            told = self._told.setdefault(reason, Ranges())
            for group in span_groups(ranges.subtract(told)):
                if not self._drop(group, reason):
                    return False
                told.merge(Ranges(group))
        return True

    def owe(self, asked: Ranges) -> None:
        """Note frames that the server asks for and nobody has."""
        self._owed.merge(asked)

    def answer(self) -> bool:
        """Answer for what is owed; False when the socket takes no more."""
        if not self._owed:
            return True
        for reason, ranges in [*self._known(), ("not kept by the sender", self._owed)]:
            for group in span_groups(self._owed.intersect(ranges)):
                if not self._drop(group, reason):
                    return False
                self._owed = self._owed.subtract(Ranges(group))
        return True

    def _known(self) -> list[tuple[str, Ranges]]:
        return [*self._outbox.refused.items(), *self._account.lost.items()]

    def _drop(self, group: tuple[tuple[int, int], ...], reason: str) -> bool:
        return self._post(Drop(run=self._account.run, ranges=group, reason=reason))
