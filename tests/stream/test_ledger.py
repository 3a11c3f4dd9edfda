import json

from hypothesis import given
from hypothesis import strategies as st

from stormlive.ranges import MAX_REASONS, Ranges
from stormlive.server.ledger import Ledger


def all_numbers(ledger: Ledger) -> list[int]:
    """Return every accounted frame, as often as it is accounted."""
    return [n for r in (ledger.live, *ledger.missing.values()) for a, b in r for n in range(a, b + 1)]


word = st.one_of(
    st.tuples(st.just("live"), st.integers(0, 30)),
    st.tuples(st.sampled_from(["outbox full", "server lost", "odd shape"]), st.integers(0, 30)),
)


@given(st.lists(word, max_size=60), st.integers(0, 40))
def test_every_frame_is_accounted_exactly_once_and_the_first_word_counts(words: list[tuple[str, int]], n: int) -> None:
    ledger, first_word = Ledger(), dict[int, str]()
    for what, seq in words:
        known = seq in first_word
        if what == "live":
            assert ledger.add_live(seq) is not known
        else:
            ledger.add_missing(Ranges([(seq, min(seq + 3, 33))]), what)
            for covered in range(seq, min(seq + 3, 33) + 1):
                first_word.setdefault(covered, what)
            continue
        first_word.setdefault(seq, what)
    ledger.close(n)
    assert ledger.total == max([n, *(seq + 1 for seq in first_word)])
    assert sorted(all_numbers(ledger)) == list(range(ledger.total))
    for seq, what in first_word.items():
        assert seq in (ledger.live if what == "live" else ledger.missing[what])
    assert set(all_numbers(ledger)) - set(first_word) == {
        n for a, b in ledger.missing.get("not received", Ranges()) for n in range(a, b + 1)
    }


def test_duplicates_are_counted() -> None:
    ledger = Ledger()
    assert ledger.add_live(0)
    assert not ledger.add_live(0)
    assert ledger.refused_duplicates == 1
    assert ledger.live_count() == 1


def test_summary_and_json() -> None:
    ledger = Ledger()
    for seq in [*range(120), *range(240, 1000)]:
        ledger.add_live(seq)
    ledger.add_missing(Ranges([(120, 239)]), "outbox full")
    ledger.close(1000)
    text = "880 of 1000 frames are in the picture; 120 are missing: 120-239 (outbox full)."
    assert ledger.sentence() == text
    assert json.loads(json.dumps(ledger.as_dict())) == {
        "frames": 1000,
        "live": [[0, 119], [240, 999]],
        "missing": {"outbox full": [[120, 239]]},
        "refused_duplicates": 0,
        "sentence": text,
    }
    assert ledger.missing_counts() == {"outbox full": 120}


def test_strangers_cannot_invent_reasons_without_end() -> None:
    ledger = Ledger()
    for seq in range(100):
        ledger.add_missing(Ranges([(seq, seq)]), f"reason\n{seq}" + "x" * 10_000)
    assert len(ledger.missing) == MAX_REASONS + 1
    assert sum(ledger.missing_counts().values()) == 100
    assert all(len(reason) < 200 and "\n" not in reason for reason in ledger.missing)
