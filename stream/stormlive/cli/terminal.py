"""What the commands show: one console, one form of error, one form of progress."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Everything for people goes to stderr: stdout stays free for what a script may want to read.
console = Console(stderr=True, highlight=False)


def show_error(message: str, *, status: int = 1) -> int:
    """Print an error as one line and return the exit status."""
    line = " ".join(message.split())
    console.print(f"[bold red]error:[/] {line}" if console.is_terminal else f"error: {line}", soft_wrap=True, markup=console.is_terminal)
    return status


def note(message: str) -> None:
    """Print a line for the user."""
    console.print(message, soft_wrap=True)


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
