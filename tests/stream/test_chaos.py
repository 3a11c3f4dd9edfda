"""The chaos benchmark runs, and its checker sees what it is there to see."""

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import chaos  # noqa: E402
from _chaos_check import Outcome, judge  # noqa: E402
from _chaos_plan import Event, Plan  # noqa: E402

from stormlive.ranges import Ranges, account_sentence  # noqa: E402
from stormlive_sim.routes import route_of  # noqa: E402

QUICK = {"n": 60, "shape": (12, 16), "seconds": 0.4, "frame_s": 0.0, "engine": "exact"}
PLAIN = {"channels": 1, "keys": False, "lane": "auto"}
KILLED = Event(at_s=0.2, kind="server killed", seconds=0.05)
CUT = Event(at_s=0.15, kind="connection cut", seconds=0.0)
LOUD = Event(at_s=0.1, kind="garbage clients", seconds=0.3)
COURSES = {
    "hook": {"kinds": ("server killed",), "events": (KILLED,), "outbox_frames": 20, "patient": True, "channels": 3},
    "stream": {"kinds": ("connection cut", "slow disk"), "events": (CUT, CUT), "slow_disk_s": 0.05, "lane": "tcp"},
    "refer": {"kinds": ("garbage clients",), "events": (LOUD,), "channels": 2, "keys": True},
}


@pytest.mark.parametrize("way", COURSES)
def test_a_run_with_faults_is_good(way: str, tmp_path: Path) -> None:
    plan = replace(Plan.draw(1), way=way, **{**QUICK, **PLAIN, **COURSES[way]})
    verdict, _ = chaos.run_one(plan, tmp_path / "run")
    assert verdict.problems == []
    assert verdict.good
    assert (verdict.frames, verdict.live + verdict.replayed, verdict.missing) == (60, 60, 0)
    assert not (tmp_path / "run").exists()


def plan_of(channels: int = 1) -> Plan:
    few = {"kinds": ("full outbox",), "outbox_frames": 8, "patient": False}
    return replace(Plan.draw(3), way="hook", **{**QUICK, **PLAIN, **few, "channels": channels})


def good_outcome(channels: int = 1) -> Outcome:
    """Return what a run leaves that lost frames 20 to 29 for a reason that it may have."""
    plan, live, replayed = plan_of(channels), [[0, 19], [35, 59]], [[30, 34]]
    missing = {"outbox full": [[20, 29]]}
    sentence = account_sentence(60, Ranges(live), Ranges(replayed), {"outbox full": Ranges([(20, 29)])})
    account = {"live": live, "replayed": replayed, "missing": missing}
    report = {**account, "offered": 60, "failed": None, "sentence": sentence, "folder": "there"}
    record = {"frames": {**account, "frames": 60}, "exit_status": "ok", "summary": sentence}
    movie = plan.movie().astype(np.float32)
    canvases: dict = {}
    for n in [*range(20), *range(30, 60)]:
        canvases.setdefault(route_of(plan.axes(n)), np.zeros(plan.shape, np.float32))[...] += movie[n]
    return Outcome(report=copy.deepcopy(report), records=[copy.deepcopy(record)], canvases=canvases)


def in_both(outcome: Outcome, kind: str, spans: list) -> None:
    outcome.report[kind] = outcome.records[0]["frames"][kind] = spans


def frame(number: int) -> np.ndarray:
    return plan_of().movie()[number].astype(np.float32)


def doubled(outcome: Outcome) -> None:
    outcome.canvases[()] += frame(7)


def lost(outcome: Outcome) -> None:
    outcome.canvases[()] -= frame(7)


def unsaid(outcome: Outcome) -> None:
    outcome.canvases[()] += frame(25)


def unequal(outcome: Outcome) -> None:
    outcome.canvases[()][3, 4] += 1


def without_canvas(outcome: Outcome) -> None:
    outcome.canvases.clear()


def twice_accounted(outcome: Outcome) -> None:
    in_both(outcome, "replayed", [[19, 19], [30, 34]])


def unaccounted(outcome: Outcome) -> None:
    in_both(outcome, "replayed", [[30, 33]])
    outcome.canvases[()] -= frame(34)


def contradicting(outcome: Outcome) -> None:
    outcome.report["live"], outcome.report["replayed"] = [[0, 19], [34, 59]], [[30, 33]]


def for_no_good_reason(outcome: Outcome) -> None:
    in_both(outcome, "missing", {"sunspots": [[20, 29]]})


def without_record(outcome: Outcome) -> None:
    outcome.records.clear()


def hung(outcome: Outcome) -> None:
    outcome.hung = True


@pytest.mark.parametrize("channels", [1, 2])
def test_a_good_run_is_good(channels: int) -> None:
    verdict = judge(plan_of(channels), good_outcome(channels))
    assert verdict.problems == []
    assert verdict.good
    assert (verdict.live, verdict.replayed, verdict.missing) == (45, 5, 10)


def test_a_frame_on_the_canvas_of_another_channel_is_seen() -> None:
    outcome = good_outcome(2)
    mine, other = outcome.canvases.values()
    mine -= frame(0)
    other += frame(0)
    verdict = judge(plan_of(2), outcome)
    assert verdict.unequal
    assert verdict.lost == 1


@pytest.mark.parametrize(
    ("doctor", "counts"),
    [
        (doubled, {"doubled": 1, "unequal": True}),
        (lost, {"lost": 1, "unequal": True}),
        (unsaid, {"unequal": True}),
        (unequal, {"unequal": True}),
        (without_canvas, {"unequal": True}),
        (twice_accounted, {"doubled": 1}),
        (unaccounted, {"lost": 1}),
        (contradicting, {}),
        (for_no_good_reason, {}),
        (without_record, {"lost": 60}),
        (hung, {"hung": True}),
    ],
)
def test_what_is_wrong_with_a_run_is_seen(doctor: Callable[[Outcome], None], counts: dict) -> None:
    outcome = good_outcome()
    doctor(outcome)
    verdict = judge(plan_of(), outcome)
    assert not verdict.good
    assert {name: getattr(verdict, name) for name in counts} == counts


def test_a_frame_too_few_is_seen_where_nothing_may_be_missing() -> None:
    verdict = judge(replace(plan_of(), outbox_frames=60), good_outcome())
    assert [problem for problem in verdict.problems if "though none may be" in problem]


def test_a_seed_plans_the_same_run_again(tmp_path: Path) -> None:
    for seed in range(30):
        plan = Plan.draw(seed)
        (tmp_path / "plan.json").write_text(plan.to_json())
        assert Plan.draw(seed) == Plan.read(tmp_path / "plan.json") == plan
    assert len({Plan.draw(seed).kinds for seed in range(30)}) > 10
