"""What a run may be called: its name is that of its folder."""

import re

from stormlive.wire.text import one_line
from stormlive_sim.errors import InputError

MAX_NAME = 100
MAX_NAME_BYTES = 200
_RUN_NAME = re.compile(r"""(?!\.)[^/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]{1,100}(?<![. ])""")
# Windows opens a device under these names, whatever extension follows.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?=\.|$)", re.IGNORECASE)


def check_run_name(name: object) -> str:
    """Return `name`; InputError unless it can be a folder's name on every system."""
    if not isinstance(name, str) or not _RUN_NAME.fullmatch(name) or len(name.encode()) > MAX_NAME_BYTES:
        raise InputError(
            f"a run's name must have 1 to {MAX_NAME} characters and at most {MAX_NAME_BYTES} bytes, none of "
            f'/ \\ : * ? " < > |, no leading dot, no dot or space at its end, got {one_line(repr(name), 120)}'
        )
    if _DEVICE.match(name):
        raise InputError(f"a run's name must not be that of a device of Windows, got {one_line(repr(name))}")
    return name


def run_name_from(text: str) -> str:
    """Return the name that a run can have after any `text`, such as the name of a folder."""
    line = re.sub(r"""[/\\:*?"<>|]""", "_", one_line(text, 4 * len(text) + 3)).lstrip(". ")
    name = _DEVICE.sub(lambda device: device[0].rstrip() + "_", line) if _DEVICE.match(line) else line
    short = name[:MAX_NAME].encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    return short.rstrip(". ") or "run"
