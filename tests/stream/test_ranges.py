from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormlive.ranges import MAX_REASONS, Ranges, account_sentence, reason_key

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1])), max_size=12)


def numbers(ranges: Ranges) -> set[int]:
    return {n for first, last in ranges for n in range(first, last + 1)}


def expected(pairs: list[tuple[int, int]]) -> set[int]:
    return {n for first, last in pairs for n in range(first, last + 1)}


@given(spans)
def test_it_is_the_set_and_its_form_is_the_smallest(pairs: list[tuple[int, int]]) -> None:
    ranges = Ranges.from_list(pairs)
    assert numbers(ranges) == expected(pairs)
    assert ranges.count() == len(expected(pairs))
    flat = [edge for span in ranges for edge in span]
    assert flat == sorted(flat)
    assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(ranges))
    assert Ranges.from_list(ranges.to_list()) == ranges


@given(st.lists(st.integers(0, 40), max_size=30))
def test_adding_numbers_in_any_order(given_numbers: list[int]) -> None:
    ranges = Ranges()
    for number in given_numbers:
        ranges.add(number)
    assert numbers(ranges) == set(given_numbers)
    assert all((n in ranges) == (n in set(given_numbers)) for n in range(45))


@given(spans, spans, st.integers(0, 80))
def test_set_operations(a: list[tuple[int, int]], b: list[tuple[int, int]], n: int) -> None:
    left, right = Ranges(a), Ranges(b)
    assert numbers(left.subtract(right)) == expected(a) - expected(b)
    assert numbers(left.complement(n)) == set(range(n)) - expected(a)
    assert all(left.covers(first, n) == (set(range(first, n + 1)) <= expected(a)) for first in range(0, 82, 3))
    left.merge(right)
    assert numbers(left) == expected(a) | expected(b)


def test_memory_is_the_number_of_gaps() -> None:
    ranges = Ranges()
    for number in range(100_000):
        if number != 70_000:
            ranges.add(number)
    assert ranges.to_list() == [(0, 69_999), (70_001, 99_999)]


def test_text() -> None:
    assert str(Ranges([(0, 119), (130, 130)])) == "0-119, 130"
    assert str(Ranges()) == ""
    assert Ranges([(n, n) for n in range(0, 20, 2)]).text(most=2) == "0, 2, and 8 more gaps"


@pytest.mark.parametrize("span", [(-1, 3), (5, 4)])
def test_impossible_ranges_are_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="0 <= first <= last"):
        Ranges([span])


def test_sentences() -> None:
    assert account_sentence(361, Ranges([(0, 360)]), Ranges(), {}) == "361 of 361 frames are in the picture."
    gap = {"outbox full": Ranges([(120, 239)])}
    assert (
        account_sentence(1000, Ranges([(0, 119), (240, 999)]), Ranges(), gap)
        == "880 of 1000 frames are in the picture; 120 are missing: 120-239 (outbox full)."
    )
    assert account_sentence(1, Ranges(), Ranges(), {"no server": Ranges([(0, 0)])}) == (
        "0 of 1 frame is in the picture; 1 is missing: 0 (no server)."
    )
    assert account_sentence(0, Ranges(), Ranges(), {}) == "The run has no frames."


def test_reasons_are_bounded() -> None:
    known: dict[str, int] = {}
    for number in range(50):
        known[reason_key(f"reason {number}", known)] = number
    assert len(known) == MAX_REASONS + 1
    assert reason_key("reason 3", known) == "reason 3"


@given(spans, st.integers(0, 60), st.integers(-1, 20))
def test_holes_are_what_is_not_there(pairs: list[tuple[int, int]], first: int, length: int) -> None:
    wanted = [number for number in range(first, first + length) if number not in expected(pairs)]
    assert list(Ranges.from_list(pairs).holes(first, first + length - 1)) == wanted
