"""Numbers as people read them."""

import math


def short(value: float) -> str:
    """Return a number with three digits at most: ``0.123``, ``12.3``, ``45k``."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:.0f}" if size >= 100 else f"{value:.3g}"


def rounded(value: float, span: float) -> str:
    """Return a number as precisely as a hundredth of the range `span` that it lies in: ``-3``, ``0.12``, ``45k``."""
    decimals = min(3, max(0, 1 - math.floor(math.log10(span)))) if 0 < span < math.inf else 0
    value = round(value, decimals)
    if value == 0:
        return "0"
    return short(value) if abs(value) >= 1e4 else f"{value:.{decimals}f}"
