"""Whether a chaotic run kept its promises: the sender's account, the server's record and the canvas against the frames.

Nothing here believes an account: how often the canvas of the exact engine holds each frame is solved from its pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _chaos_plan import CALIBRATION, EXACT, EXACT_CONTEXT, Plan, between
from numpy.typing import NDArray

from stormlive.ranges import Ranges
from stormlive_sim.routes import Route, route_of

Spans = Sequence[Sequence[int]]
# A frame with those before and after it that its model saw.
Sight = tuple[int | None, int, int | None]
# Of each kind, in FINAL: with more, the sender keeps its own view of what was live and what was replayed.
MOST_FINAL_SPANS = 96
# The network's increments are summed in another order than offline.
RTOL, ATOL = 1e-4, 1e-5
# Why a frame may be missing where no place was left for it, of `Plan.loses_nothing` being false.
ALLOWED = {
    "latest": {"a newer frame came", "server lost"},
    "full": {"outbox full", "server lost", "not kept by the sender"},
    "killed": {"not received", "not in the dataset", "outbox full"},
}


@dataclass(kw_only=True)
class Outcome:
    """What a run left.

    Attributes
    ----------
    report
        The sender's, as its script writes it; None when it was killed.
    records
        Every ``run.json`` of the run, as it is; there should be one.
    canvases
        (Y u, X u), float32, of each route.
    seconds
        How long it took.
    hung
        Whether it had to be ended.
    problems
        What is wrong, in words.
    """

    report: Mapping[str, Any] | None = None
    records: list[Mapping[str, Any]] = field(default_factory=list)
    canvases: dict[Route, NDArray[np.float32]] = field(default_factory=dict)
    seconds: float = 0.0
    hung: bool = False
    problems: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Verdict:
    """What became of a run's frames, and what is wrong with it.

    Attributes
    ----------
    lost_frames, doubled_frames
        Those that an account has nowhere, or more than once, or the canvas against its account.
    """

    frames: int = 0
    live: int = 0
    replayed: int = 0
    missing: int = 0
    lost_frames: set[int] = field(default_factory=set)
    doubled_frames: set[int] = field(default_factory=set)
    unequal: bool = False
    hung: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Number of lost frames."""
        return len(self.lost_frames)

    @property
    def doubled(self) -> int:
        """Number of doubled frames."""
        return len(self.doubled_frames)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.unequal or self.hung or self.problems)


def judge(plan: Plan, outcome: Outcome) -> Verdict:
    """Return the verdict on a run."""
    verdict = Verdict(frames=plan.n, hung=outcome.hung, problems=list(outcome.problems))
    if outcome.report is None and "sender killed" not in plan.kinds:
        verdict.problems.append("the sender left no report")
    if len(outcome.records) != 1:
        verdict.problems.append(f"expected one record of the run, got {len(outcome.records)}")
        verdict.lost_frames.update(() if outcome.records else range(plan.n))
        return verdict
    (record,) = outcome.records
    frames = record["frames"]
    offered = frames["frames"] if outcome.report is None else outcome.report["offered"]
    _count_classes("the server's record", frames, offered, verdict)
    if outcome.report is not None:
        if offered != plan.n:
            verdict.problems.append(f"{offered} of {plan.n} frames were offered")
        _count_classes("the sender's report", outcome.report, offered, verdict)
        _compare(outcome.report, record, verdict)
    verdict.frames = offered
    verdict.live, verdict.replayed = Ranges(frames["live"]).count(), Ranges(frames["replayed"]).count()
    verdict.missing = sum(Ranges(spans).count() for spans in frames["missing"].values())
    _check_reasons(plan, frames["missing"], verdict)
    if plan.loses_nothing and "alone" in frames:
        alone = Ranges(frames["alone"]).text()
        verdict.problems.append(f"frames {alone} were computed without those beside them, though none is missing")
    _check_ending(plan, outcome.report, record, verdict)
    _check_canvases(plan, frames, outcome.canvases, verdict)
    return verdict


def numbers(spans: Spans) -> list[int]:
    """Return the frames of ranges."""
    return [number for first, last in spans for number in range(first, last + 1)]


def _count_classes(whose: str, account: Mapping[str, Any], offered: int, verdict: Verdict) -> None:
    """Note which frames are not live, replayed or missing for one reason exactly once."""
    times = np.zeros(offered, int)
    for spans in (account["live"], account["replayed"], *account["missing"].values()):
        for number in numbers(spans):
            if number >= offered:
                verdict.problems.append(f"{whose} has frame {number} of {offered}")
                continue
            times[number] += 1
    for what, wrong in (("nowhere", times == 0), ("more than once", times > 1)):
        if wrong.any():
            verdict.problems.append(f"{whose} has frames {_some(wrong)} {what}")
    verdict.lost_frames.update(np.flatnonzero(times == 0).tolist())
    verdict.doubled_frames.update(np.flatnonzero(times > 1).tolist())


def _compare(report: Mapping[str, Any], record: Mapping[str, Any], verdict: Verdict) -> None:
    """Note where the sender and the server do not say the same."""
    frames = record["frames"]
    one, other = (Ranges(account["live"]).union(Ranges(account["replayed"])) for account in (report, frames))
    if one != other:
        verdict.problems.append(f"in the picture are {one} for the sender, {other} in run.json")
    few = max(len(frames["live"]), len(frames["replayed"])) <= MOST_FINAL_SPANS
    for kind in ("live", "replayed") if few else ():
        if Ranges(report[kind]) != Ranges(frames[kind]):
            verdict.problems.append(f"{kind} are {report[kind]} for the sender, {frames[kind]} in run.json")
    gone = {reason: Ranges(spans) for reason, spans in report["missing"].items()}
    if gone != {reason: Ranges(spans) for reason, spans in frames["missing"].items()}:
        verdict.problems.append(f"missing are {report['missing']} for the sender, {frames['missing']} in run.json")
    elif few and not record["summary"].startswith(report["sentence"].rstrip(".")):
        verdict.problems.append(f"the sender says {report['sentence']!r}, run.json {record['summary']!r}")


def _check_reasons(plan: Plan, missing: Mapping[str, Spans], verdict: Verdict) -> None:
    """Note what is missing though it had a place."""
    if plan.loses_nothing:
        allowed = set()
    elif "sender killed" in plan.kinds:
        allowed = ALLOWED["killed"] | ALLOWED["latest"]
    else:
        allowed = ALLOWED["latest" if plan.way == "latest" else "full"]
    for reason, spans in missing.items():
        if reason not in allowed:
            verdict.problems.append(f"frames {Ranges(spans).text()} are missing though none may be: {reason}")


def _check_ending(plan: Plan, report: Mapping[str, Any] | None, record: Mapping[str, Any], verdict: Verdict) -> None:
    expected = "ok" if report is not None else "sender lost"
    if record["exit_status"] != expected:
        verdict.problems.append(f"expected the exit status {expected!r}, got {record['exit_status']!r}")
    failed = None if report is None else report["failed"]
    if failed is not None and not (plan.full_disk == "files" and "No space left on device" in failed):
        verdict.problems.append(f"the sender was told: {failed}")


def _check_canvases(
    plan: Plan, frames: Mapping[str, Any], canvases: Mapping[Route, NDArray[np.float32]], verdict: Verdict
) -> None:
    """Note where the canvases are not those of the frames that are said to be in the picture."""
    routes: dict[Route, list[int]] = {}
    for number in numbers(frames["live"]) + numbers(frames["replayed"]):
        routes.setdefault(route_of(plan.axes(number)), []).append(number)
    # One of which all frames waited for others when the server was killed, and were lost with it, is empty.
    canvases = {route: canvas for route, canvas in canvases.items() if route in routes or canvas.any()}
    if canvases.keys() != routes.keys():
        verdict.unequal = True
        verdict.problems.append(f"expected canvases of {list(routes)}, got {list(canvases)}")
    for route in canvases.keys() & routes.keys():
        if plan.engine == EXACT:
            _check_sum(plan, routes[route], canvases[route], verdict)
        else:
            sights = _sights(plan, route, set(routes[route]), frames["frames"])
            if not _is_offline(plan, sights, set(numbers(frames.get("alone", []))), canvases[route]):
                verdict.unequal = True
                verdict.problems.append(f"the canvas of {route} is not the offline one of the same frames")


def _check_sum(plan: Plan, picture: list[int], canvas: NDArray[np.float32], verdict: Verdict) -> None:
    """Note where the canvas is not the sum of the frames that are said to be in it."""
    movie = plan.movie()
    expected = movie[picture].sum(0, dtype=np.float64)
    if canvas.shape == expected.shape and np.array_equal(canvas, expected):
        return
    verdict.unequal = True
    if canvas.shape != expected.shape:
        verdict.problems.append(f"expected a canvas of {expected.shape}, got {canvas.shape}")
        return
    times = np.linalg.lstsq(movie.reshape(plan.n, -1).T.astype(np.float64), canvas.astype(np.float64).ravel())[0]
    said = np.bincount(picture, minlength=plan.n)
    doubled, lost, unsaid = times > 1.5, (times < 0.5) & (said > 0), (times > 0.5) & (said == 0)
    verdict.doubled_frames.update(np.flatnonzero(doubled).tolist())
    verdict.lost_frames.update(np.flatnonzero(lost).tolist())
    for what, wrong in (("more than once", doubled), ("not, though it is said", lost), ("but unsaid", unsaid)):
        if wrong.any():
            verdict.problems.append(f"the canvas has frames {_some(wrong)} {what}")
    if not (doubled | lost | unsaid).any():
        verdict.problems.append("the canvas is not a sum of the frames")


def _sights(plan: Plan, route: Route, picture: set[int], n: int) -> list[Sight]:
    """Return the frames of a route that are in the picture, with those beside them, of the `n` that are known of."""
    line = [number for number in range(n) if route_of(plan.axes(number)) == route]
    sights = zip([None, *line[:-1]], line, [*line[1:], None], strict=True)
    return [sight for sight in sights if sight[1] in picture]


def _is_offline(plan: Plan, sights: list[Sight], alone: set[int], canvas: NDArray[np.float32]) -> bool:
    """Return whether a canvas is that of frames which a model saw so, but that those `alone` lacked a neighbour."""
    movie = plan.movie()
    if plan.engine == EXACT_CONTEXT:
        whole = np.sum([_seen(movie, sight) for sight in sights if sight[1] not in alone], 0, initial=0)
        return _explained(movie, [sight for sight in sights if sight[1] in alone], canvas - whole)
    from stormlive.server.engine import Engine

    reconstruction = Engine(plan.engine, "cpu").open(plan.shape, CALIBRATION)
    if reconstruction.context and alone:
        return True  # which neighbour it was, no account tells
    for before, number, after in sights if reconstruction.context else ():
        first = int(before is not None)
        these = [one for one in (before, number, after) if one is not None]
        reconstruction.add(movie[these], own=slice(first, first + 1))
    if not reconstruction.context:
        reconstruction.add(movie[[number for _, number, _ in sights]])
    return np.allclose(canvas, reconstruction.canvas(), rtol=RTOL, atol=ATOL)


def _explained(movie: NDArray[np.uint16], sights: list[Sight], rest: NDArray[np.float64]) -> bool:
    """Return whether what is left of a canvas is that of frames of which each lacked one neighbour or both."""
    if not sights:
        return not rest.any()
    options = [
        (at, _seen(movie, sight).ravel())
        for at, (before, number, after) in enumerate(sights)
        for sight in {(None, number, after), (before, number, None), (None, number, None)}
    ]
    matrix = np.array([seen for _, seen in options], np.float64).T
    times = np.linalg.lstsq(matrix, rest.ravel())[0].round()
    once = np.bincount([at for at, _ in options], times) == 1
    return bool(once.all() and (matrix @ times == rest.ravel()).all())


def _seen(movie: NDArray[np.uint16], sight: Sight) -> NDArray[np.int64]:
    """Return what the exact engine with context makes of a frame."""
    dark = np.zeros_like(movie[0])
    return between(np.stack([dark if one is None else movie[one] for one in sight]))[1]


def _some(which: NDArray[np.bool_]) -> str:
    return Ranges((number, number) for number in np.flatnonzero(which).tolist()).text()
