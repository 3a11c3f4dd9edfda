"""What the commands show: one console, one form of error, one form of progress."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from stormlive.wire.text import one_line

if TYPE_CHECKING:
    from stormlive.wire.viewing import Judgement

# What is said on the way goes to stderr; stdout is for what a command was asked to tell.
console = Console(stderr=True, highlight=False, emoji=False)
answers = Console(highlight=False, emoji=False)

_MOST_ERROR = 10_000
_GAUGES = {"green": "green", "amber": "yellow", "red": "red", "unknown": "default"}


def show_error(message: str, *, status: int = 1) -> int:
    """Print an error as one line and return the exit status."""
    console.print("error: ", style="bold red", end="")
    console.print(one_line(message, _MOST_ERROR), soft_wrap=True, markup=False)
    return status


def note(message: str) -> None:
    """Print a line for the user."""
    console.print(message, soft_wrap=True, markup=False)


def show_judgement(judgement: "Judgement", seen: str = "") -> None:
    """Print a judgement in its colour, and from what it was `seen` where that is not all there is."""
    gauge = (judgement.gauge, f"bold {_GAUGES[judgement.gauge]}")
    rest = f". {judgement.sentence} ({seen})" if seen else f". {judgement.sentence}"
    # In one piece: a status line or a bar that is shown meanwhile comes between two.
    console.print(Text.assemble("judgement: ", gauge, rest), soft_wrap=True)
    # The gauge itself may be about the calibration.
    if judgement.calibration not in judgement.sentence:
        note(judgement.calibration)


def frame_progress() -> Progress:
    """Return a progress bar that counts frames."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
