"""Text that a message carries: bounded, and of what comes from elsewhere one printable line."""

from typing import Annotated, TypeAlias

from msgspec import Meta

MAX_TEXT = 300

Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT)]
LongText: TypeAlias = Annotated[str, Meta(max_length=1024)]


def one_line(text: object, most: int = MAX_TEXT) -> str:
    """Return `text` on one line without control characters, cut to `most` bytes of UTF-8."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    data = line.encode()
    return line if len(data) <= most else data[: most - 3].decode(errors="ignore") + "…"
