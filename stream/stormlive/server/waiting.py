"""What waits for the engine, given out by route: channels may alternate from frame to frame, canvases need not."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Generic, Protocol, TypeVar

from stormlive.wire.viewing import MAX_CANVASES
from stormlive_sim.routes import Route, route_of


class _Placed(Protocol):
    @property
    def axes(self) -> Mapping[str, int | str]: ...


_Item = TypeVar("_Item", bound=_Placed)


class Waiting(Generic[_Item]):
    """A queue of frames, or of references to some; of each route they leave in the order in which they came."""

    def __init__(self) -> None:
        # More routes than there can be canvases share one line, so that a client that invents routes costs no memory.
        self._lines: OrderedDict[Route | None, deque[_Item]] = OrderedDict()
        self._n = 0

    def append(self, item: _Item) -> None:
        """Line an item up."""
        route: Route | None = route_of(item.axes)
        if route not in self._lines and len(self._lines) >= MAX_CANVASES:
            route = None
        self._lines.setdefault(route, deque()).append(item)
        self._n += 1

    def extend(self, items: Iterable[_Item]) -> None:
        """Line items up."""
        for item in items:
            self.append(item)

    def take(self, most: int) -> list[_Item]:
        """Return up to `most` items, all of a route before the next one's; who has more than that is in turn last."""
        taken: list[_Item] = []
        while self._lines and len(taken) < most:
            route, line = self._lines.popitem(last=False)
            taken += [line.popleft() for _ in range(min(most - len(taken), len(line)))]
            if line:
                self._lines[route] = line
        self._n -= len(taken)
        return taken

    def clear(self) -> None:
        """Let all go."""
        self._lines.clear()
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[_Item]:
        return chain.from_iterable(self._lines.values())
