"""The picture of live.py: waiting frames and latency over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

Point = tuple[float, int, float | None, float | None]
"""Seconds, frames that wait, median and 99th percentile of the latency in ms."""


def draw(courses: Mapping[str, Sequence[Point]], path: Path, aim_ms: float) -> None:
    """Write a column for each course: waiting frames above, latency below."""
    figure = Figure(figsize=(3.6 * len(courses), 4.2), layout="constrained")
    panels = figure.subplots(2, len(courses), squeeze=False, sharex="col", sharey="row")
    for (waiting, latency), (title, points) in zip(panels.T, courses.items(), strict=True):
        minutes = [seconds / 60 for seconds, *_ in points]
        waiting.plot(minutes, [frames for _, frames, *_ in points], color="tab:gray", linewidth=1)
        waiting.set_title(title, fontsize=9)
        for index, name, colour in ((2, "median", "tab:blue"), (3, "99 %", "tab:orange")):
            latency.plot(minutes, [point[index] for point in points], color=colour, linewidth=1.5, label=name)
        latency.axhline(aim_ms, color="black", linewidth=0.8, linestyle=":")
        latency.set_xlabel("minutes")
    for row in panels:  # only when all is drawn: a limit that is set ends the automatic ones
        row[0].set_ylim(bottom=0)
    panels[0, 0].set_ylabel("frames that wait")
    panels[1, 0].set_ylabel("latency, ms")
    panels[1, 0].legend(fontsize=8, frameon=False, title="of 1024 frames", title_fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
