"""The one exception that means: a person can put this right."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input, with a message that says what was expected, what came and what to do.

    The command line prints the message as one line, without a traceback, and exits with a non-zero status.
    """


def nearest_key_hint(key: str, valid: Iterable[str], called: str = "valid keys") -> str:
    """Return ``"; did you mean 'x'?"`` for the valid key nearest to `key`, or a list of them, as they are `called`."""
    names = sorted(valid)
    close = difflib.get_close_matches(key, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; {called}: {', '.join(names)}"
