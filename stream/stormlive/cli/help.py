"""Help without Python's types: the name of what an option takes says more than ``<float range>``."""

from functools import partial
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup


class _Words:
    """What the help shows of the parameters."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        """Return the parameters, which describe themselves in words."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if isinstance(param, TyperArgument) or getattr(param, "is_flag", False):
                param.display_type_rich = _nothing
            if getattr(param, "min", None) is not None or getattr(param, "max", None) is not None:
                param._get_number_range_help_str = partial(_span, param.min, param.max)
        return params


class Command(_Words, TyperCommand):
    """A command."""


class Group(_Words, TyperGroup):
    """The application."""


def _nothing(ctx: Any) -> None:  # noqa: ANN401
    """Show no type: a flag takes nothing, and an argument's name says what it is."""


def _span(least: float | None, most: float | None) -> str:
    """Return a range in words."""
    # Neither 1e-06 nor 1000000.0.
    low, high = (None if end is None else f"{end:.6f}".rstrip("0").rstrip(".") for end in (least, most))
    if low is None or high is None:
        return f"up to {high}" if low is None else f"at least {low}"
    return f"{low} to {high}"
