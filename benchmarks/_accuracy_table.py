"""What a section of the accuracy benchmark hands back."""

import math
import textwrap
from dataclasses import dataclass, field
from typing import Any

_WIDTH = 120
Row = dict[str, Any]
DETAIL = "detail"
"""The key of a row's figures that go into the JSON only."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of the same columns, under their conditions."""

    title: str
    conditions: str
    rows: list[Row] = field(default_factory=list)

    def show(self) -> None:
        """Print everything but the details."""
        print(f"\n{self.title}\n{textwrap.fill(self.conditions, _WIDTH)}")
        if not self.rows:
            return
        columns = [column for column in self.rows[0] if column != DETAIL]
        cells = [[_text(row[column]) for column in columns] for row in self.rows]
        widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
        for line in (columns, ["-" * width for width in widths], *cells):
            print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def verdict(value: float, *, at_least: float | None = None, at_most: float | None = None) -> str:
    """Return the aim and whether it is met; nothing where there is no aim."""
    if at_least is not None:
        return f"≥ {at_least:.4g} {'met' if value >= at_least else 'short'}"
    if at_most is not None:
        return f"≤ {at_most:.4g} {'met' if value <= at_most else 'short'}"
    return ""


def _text(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)
