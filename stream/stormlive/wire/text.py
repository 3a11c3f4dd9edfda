"""Text that a message carries: bounded, and of what comes from elsewhere one printable line; paths are not changed."""

from pathlib import Path
from typing import Annotated, TypeAlias

from msgspec import Meta

from stormlive_sim.errors import InputError

MAX_TEXT = 300
MAX_PATH_BYTES = 1000

Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT)]
LongText: TypeAlias = Annotated[str, Meta(max_length=1024)]


def one_line(text: object, most: int = MAX_TEXT) -> str:
    """Return `text` on one line without control characters, cut to `most` bytes of UTF-8.

    Of the spaces none is taken away between words: these may be a path's.
    """
    parts = "".join(c if c.isprintable() else "\n" for c in str(text)).split("\n")
    line = " ".join(part for part in map(str.strip, parts) if part)
    data = line.encode()
    return line if len(data) <= most else data[: most - 3].decode(errors="ignore") + "…"


def counted(n: int, what: str) -> str:
    """Return ``1 frame``, ``2 frames``."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def check_path(path: Path | str) -> str:
    """Return `path` as it is; InputError if no message carries it: another path would be that of nothing."""
    text = str(path)
    try:
        n_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise InputError(f"a path must be text in UTF-8, got {one_line(repr(text), 150)}; rename the folder") from None
    if n_bytes > MAX_PATH_BYTES:
        raise InputError(
            f"a path may have {MAX_PATH_BYTES} bytes, got {n_bytes}: {one_line(text, 100)}; choose a shorter one"
        )
    return text
