"""Files that are either whole or not there."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stormlive_sim.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its name only once the block has ended well.

    The bytes are flushed to the disk before the rename, so a full disk or a crash leaves the previous file,
    or none, but never a half one. An OSError becomes an InputError that names the file and the free space.
    """
    part = path.with_name(path.name + ".part")
    try:
        yield part
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        # Before the free space is looked up: the half file would be counted as used.
        _remove(part)
        raise cannot_write(path, error) from error
    finally:
        _remove(part)


def cannot_write(path: Path, error: OSError) -> InputError:
    """Return what to tell the user when `path` could not be written because of `error`."""
    return InputError(f"cannot write {path}: {error.strerror or error}; {_advice(path.absolute().parent, error)}")


def _remove(part: Path) -> None:
    # What cannot be removed must not hide why it could not be written.
    with suppress(OSError):
        part.unlink(missing_ok=True)


def _advice(folder: Path, error: OSError) -> str:
    if folder.is_dir() and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
        return f"{folder} takes no files from you: check its permissions, or choose another folder"
    try:
        free_mb = shutil.disk_usage(folder).free / 1e6
    except OSError:
        return f"the folder {folder} does not exist or is not accessible: create it or choose another"
    return f"{free_mb:,.0f} MB are free in {folder}: free some space there, or choose another folder"
