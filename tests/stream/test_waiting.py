"""What waits for the engine: nothing lost, nothing doubled, nobody overtaken on the way to one canvas."""

import random
from types import SimpleNamespace

import pytest

from stormlive.server.waiting import Waiting
from stormlive.wire.viewing import MAX_CANVASES


def items(places: list[int]) -> list[SimpleNamespace]:
    return [SimpleNamespace(number=n, axes={"time": n, "channel": place}) for n, place in enumerate(places)]


@pytest.mark.parametrize("n_routes", [1, 2, 5, MAX_CANVASES])
def test_all_leave_once_and_those_of_a_route_in_order(n_routes: int) -> None:
    rng = random.Random(n_routes)
    coming, waiting, gone = items([rng.randrange(n_routes) for _ in range(1000)]), Waiting(), []
    while coming or waiting:
        waiting.extend(coming[: (n := rng.randrange(200))])
        del coming[:n]
        before, most = len(waiting), rng.randrange(100)
        taken = waiting.take(most)
        assert len(taken) == min(before, most)
        assert len(waiting) == len(list(waiting)) == before - len(taken)
        gone += taken
    assert sorted(item.number for item in gone) == list(range(1000))
    for route in range(n_routes):
        numbers = [item.number for item in gone if item.axes["channel"] == route]
        assert numbers == sorted(numbers)


def test_routes_that_alternate_leave_together_and_take_turns() -> None:
    waiting = Waiting()
    waiting.extend(items([0, 1] * 50))
    places = [[item.axes["channel"] for item in waiting.take(20)] for _ in range(5)]
    assert places == [[0] * 20, [1] * 20, [0] * 20, [1] * 20, [0] * 10 + [1] * 10]


def test_invented_routes_cost_no_lines_of_their_own() -> None:
    waiting = Waiting()
    waiting.extend(items(list(range(1000))))
    assert len(waiting._lines) == MAX_CANVASES + 1
    assert [item.number for item in waiting.take(2000)] == list(range(1000))
    waiting.extend(items([1, 2]))
    waiting.clear()
    assert not waiting
    assert waiting.take(1) == []
