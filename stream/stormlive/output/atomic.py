"""Files that are either whole or not there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
        part.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror or error}; {_advice(path.parent)}") from error
    finally:
        part.unlink(missing_ok=True)


def _advice(folder: Path) -> str:
    if not folder.is_dir():
        return f"the folder {folder} does not exist: create it or choose another"
    free_mb = shutil.disk_usage(folder).free / 1e6
    return f"{free_mb:,.0f} MB are free in {folder}: free some space there, or choose another folder"
