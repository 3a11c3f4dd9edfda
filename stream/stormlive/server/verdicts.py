"""What is said of a run whose canvases are judged each for itself."""

from collections.abc import Sequence

from msgspec.structs import replace

from stormlive.output.judgement import JudgementRecord
from stormlive.server.canvases import Canvases
from stormlive.server.protocols import Canvas
from stormlive.wire.fields import Gauge
from stormlive.wire.text import one_line
from stormlive.wire.viewing import Judgement

_ORDER: tuple[Gauge, ...] = ("red", "amber", "unknown", "green")


def judgement_of(canvases: Canvases, canvas: Canvas) -> Judgement | None:
    """Return the newest judgement of a canvas, with its name where there are several; None where there is none."""
    judging = None if canvas.watch is None else canvas.watch.judging
    return None if judging is None or judging.judgement is None else named(canvases, canvas, judging.judgement)


def named(canvases: Canvases, canvas: Canvas, judgement: Judgement) -> Judgement:
    """Return a judgement of one of the canvases with its name, where there are several."""
    return replace(judgement, canvas=canvas.name if canvases.names else "")


def overall(judgements: Sequence[Judgement | None]) -> Judgement | None:
    """Return what is said of a run: of several canvases the worst, which has not converged before all of them have.

    None among them stands for a canvas that is not judged yet; those that never will be are not among them.
    """
    known = [one for one in judgements if one is not None]
    if len(judgements) < 2 or not known:
        return known[0] if known else None
    worst = min(known, key=lambda one: (_ORDER.index(one.gauge), bool(one.converged)))
    return replace(
        worst,
        sentence=one_line(f"{worst.canvas}: {worst.sentence}") if worst.sentence else "",
        converged=all(one is not None and bool(one.converged) for one in judgements),
        calibration=worst.calibration or next((one.calibration for one in known if one.calibration), ""),
    )


def overall_record(records: Sequence[JudgementRecord | None]) -> JudgementRecord | None:
    """Return what run.json says of a run: of several canvases the record of the worst, with the last word on all."""
    final = overall([None if record is None else record.final for record in records])
    if final is None:
        return None
    worst = next(record for record in records if record is not None and record.final.canvas == final.canvas)
    return replace(worst, final=final)
