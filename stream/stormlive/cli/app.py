"""The application: its commands, and how a failure reaches the user."""

import inspect
import logging
import re
from collections.abc import Callable, Sequence

import typer
from rich.logging import RichHandler

import stormlive
from stormlive.cli import (
    acquire,
    bench,
    calibrate,
    demo,
    evaluate,
    import_keras,
    keys,
    models,
    preflight,
    reconstruct,
    serve,
    simulate,
    snapshot,
    train,
    view,
    watch,
    window,
)
from stormlive.cli.help import Command, Group
from stormlive.cli.terminal import answers, console, show_error
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)


def _flowing(text: str) -> str:
    """Return a text without its line breaks, which Typer keeps and a terminal of another width breaks again."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text))


app = typer.Typer(
    cls=Group,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=_flowing("""The super-resolved STORM/PALM picture, while the camera runs.

    Start with [bold]stormlive demo[/bold]: a simulated microscope, a real Pycro-Manager acquisition, the live picture
    and the files it leaves. With a microscope of your own: [bold]stormlive window[/bold] and a click on Start,
    [bold]stormlive acquire --config MMConfig.cfg[/bold] in scripts, or [bold]stormlive serve[/bold] and a StreamHook in
    your own script. With a movie you have: [bold]stormlive reconstruct MOVIE.tif -o OUT.ome.tif[/bold]."""),
    rich_markup_mode="rich",
)
_COMMANDS: dict[str, Callable[..., object]] = {
    "demo": demo.demo,
    "window": window.window,
    "acquire": acquire.acquire,
    "serve": serve.serve,
    "view": view.view,
    "snapshot": snapshot.snapshot,
    "keys": keys.keys,
    "watch": watch.watch,
    "calibrate": calibrate.calibrate,
    "preflight": preflight.preflight,
    "bench": bench.bench,
    "reconstruct": reconstruct.reconstruct,
    "simulate": simulate.simulate,
    "evaluate": evaluate.evaluate,
    "train": train.train,
    "import-keras": import_keras.import_keras,
    "models": models.models,
}
for _name, _command in _COMMANDS.items():
    app.command(_name, cls=Command, help=_flowing(_command.__doc__ or ""))(_command)


def _version(show: bool) -> None:
    if show:
        answers.print(f"stormlive {stormlive.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Say more of what happens inside."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=console, show_path=False)],
    )


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status.

    Whatever a user can put right comes out as one line, without a traceback: 2 for a command line that cannot be
    read, 1 for everything else. Only a fault of our own shows a traceback.
    """
    try:
        result = app(list(arguments) or ["--help"], standalone_mode=False, prog_name="stormlive")
    except (InputError, ConnectionError) as error:
        return show_error(str(error))
    except KeyboardInterrupt:
        return show_error("stopped by Ctrl-C", status=130)
    except typer.Abort:
        return show_error("stopped")
    except OSError as error:
        # A full disk, a lost network share: the machine's fault, not ours. Where it happened shows with --verbose.
        _log.info("what the operating system refused:", exc_info=True)
        where = f"{error.filename}: " if error.filename else ""
        return show_error(f"{where}{error.strerror or error}; check the disk and the permissions, then try again")
    except Exception as error:
        # Typer's own errors (no such option, a value out of range) share no public base class.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        return show_error(format_message(), status=2)
    return result if isinstance(result, int) else 0
