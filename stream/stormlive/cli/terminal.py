"""What the commands show: one console, one form of error, one form of progress."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# What is said on the way goes to stderr; stdout is for what a command was asked to tell.
console = Console(stderr=True, highlight=False)
answers = Console(highlight=False)


def show_error(message: str, *, status: int = 1) -> int:
    """Print an error as one line and return the exit status."""
    line = " ".join(message.split())
    console.print("error: ", style="bold red", end="")
    console.print(line, soft_wrap=True, markup=False)
    return status


def note(message: str) -> None:
    """Print a line for the user."""
    console.print(message, soft_wrap=True, markup=False)


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
