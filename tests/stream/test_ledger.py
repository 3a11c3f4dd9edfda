import json
from pathlib import Path
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from stormlive.ranges import MAX_REASONS, Ranges
from stormlive.server.ledger import Ledger
from stormlive.wire.codec import encode


def all_numbers(ledger: Ledger) -> list[int]:
    """Return every accounted frame, as often as it is accounted."""
    return [n for r in (ledger.live, ledger.replayed, *ledger.missing.values()) for a, b in r for n in range(a, b + 1)]


word = st.tuples(st.sampled_from(["live", "replay", "outbox full", "server lost", "odd shape"]), st.integers(0, 30))


@given(st.lists(word, max_size=60), st.integers(0, 40), st.booleans())
def test_every_frame_is_accounted_exactly_once(words: list[tuple[str, int]], n: int, written_down: bool) -> None:
    """Against the plainest model: a table of the frames, each with its one word."""
    ledger, table = Ledger(), dict[int, str]()
    for what, seq in words:
        if what in ("live", "replay"):
            known = table.get(seq)
            assert ledger.add(seq, replay=what == "replay") is (known not in ("live", "replayed"))
            if known not in ("live", "replayed"):
                table[seq] = "live" if known is None and what == "live" else "replayed"
        else:
            ledger.add_missing(Ranges([(seq, seq + 3)]), what)
            for covered in range(seq, seq + 4):
                table.setdefault(covered, what)
        if written_down:
            ledger = Ledger.from_dict(json.loads(json.dumps(ledger.as_dict())))
    ledger.close(n)
    for seq in range(max([n, *(seq + 1 for seq in table)])):
        table.setdefault(seq, "not received")
    assert sorted(all_numbers(ledger)) == list(range(ledger.total)) == sorted(table)
    for seq, what in table.items():
        kind = {"live": ledger.live, "replayed": ledger.replayed}.get(what)
        assert seq in (ledger.missing[what] if kind is None else kind)
    final = ledger.final(UUID(int=1), "ok", None)
    assert final.frames == final.live + final.replayed + sum(final.missing.values()) == len(table)


def test_duplicates_are_counted() -> None:
    ledger = Ledger()
    assert ledger.add(0)
    assert not ledger.add(0)
    assert ledger.refused_duplicates == 1
    assert ledger.picture_count() == 1


def test_summary_and_json() -> None:
    ledger = Ledger()
    for seq in [*range(120), *range(240, 1000)]:
        ledger.add(seq)
    ledger.add_missing(Ranges([(120, 239)]), "outbox full")
    ledger.close(1000)
    text = "880 of 1000 frames are in the picture; 120 are missing: 120-239 (outbox full)."
    assert ledger.sentence() == text
    assert json.loads(json.dumps(ledger.as_dict())) == {
        "frames": 1000,
        "live": [[0, 119], [240, 999]],
        "replayed": [],
        "missing": {"outbox full": [[120, 239]]},
        "refused_duplicates": 0,
        "open_ended": False,
        "sentence": text,
    }
    assert ledger.missing_counts() == {"outbox full": 120}


def test_of_a_run_that_was_cut_off_nobody_claims_to_know_the_end() -> None:
    ledger = Ledger()
    for seq in range(60):
        ledger.add(seq)
    ledger.close(None)
    text = "60 of 60 frames are in the picture; whether the camera gave more is not known."
    assert ledger.sentence() == text
    again = Ledger.from_dict(json.loads(json.dumps(ledger.as_dict())))
    assert again.final(UUID(int=1), "sender lost", None).sentence == text
    again.close(60)
    assert again.sentence() == "60 of 60 frames are in the picture."


def test_the_folder_of_the_files_is_told_unchanged_or_not_at_all() -> None:
    folder = Path("my  data") / "run\t1"
    assert Ledger().final(UUID(int=1), "ok", folder).folder == str(folder)
    final = Ledger().final(UUID(int=1), "ok", "/" + "µ" * 500)
    assert final.folder is None
    assert final.error is not None
    assert final.error.startswith("the run is saved; its folder cannot be told: a path may have 1000 bytes")
    encode(final)


def test_strangers_cannot_invent_reasons_without_end() -> None:
    ledger = Ledger()
    for seq in range(100):
        ledger.add_missing(Ranges([(seq, seq)]), f"reason\n{seq}" + "x" * 10_000)
    assert len(ledger.missing) == MAX_REASONS + 1
    assert sum(ledger.missing_counts().values()) == 100
    assert all(len(reason) < 200 and "\n" not in reason for reason in ledger.missing)
