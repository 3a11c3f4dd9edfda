"""Settings in TOML files: read with every mistake said in one line."""

import tomllib
import typing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stormlive_sim.errors import InputError, nearest_key_hint

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def read_toml(path: Path, kind: str, advice: str = "check the path") -> dict[str, Any]:
    """Return what a TOML file holds.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        What it is, in words.
    advice : str
        What to do when it cannot be read.

    Raises
    ------
    InputError
        When the file is missing or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the {kind} {path}: {error.strerror}; {advice}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid TOML: {error}") from error


def convert_toml(path: Path, content: dict[str, Any], struct: type[_Struct]) -> _Struct:
    """Return the content of a TOML file as a struct.

    Raises
    ------
    InputError
        When it has an unknown key, of which the nearest valid one is named, or a value out of its limits.
    """
    _check_keys(path, content, (struct,), "")
    try:
        return msgspec.convert(content, struct)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}") from error


def _check_keys(path: Path, content: dict[str, Any], structs: tuple[type[msgspec.Struct], ...], prefix: str) -> None:
    """Refuse a key that no struct has, naming the nearest; where there are several kinds, `kind` says which."""
    struct, known = structs[0], {}
    if len(structs) > 1:
        kinds = {str(s.__struct_config__.tag): s for s in structs}
        kind = str(content.get("kind", "missing"))
        if kind not in kinds:
            raise InputError(f"{path}: {prefix}kind is {kind}{nearest_key_hint(kind, kinds)}")
        struct, known = kinds[kind], {"kind": str}
    known |= {f.name: f.type for f in msgspec.structs.fields(struct)}
    for key, value in content.items():
        if key not in known:
            raise InputError(f"{path}: unknown key {prefix + key!r}{nearest_key_hint(key, known)}")
        inner = _structs_in(known[key])
        for item in value if isinstance(value, list) else [value]:
            if inner and isinstance(item, dict):
                _check_keys(path, item, inner, f"{prefix}{key}.")


def _structs_in(annotation: object) -> tuple[type[msgspec.Struct], ...]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return (annotation,)
    return tuple(struct for part in typing.get_args(annotation) for struct in _structs_in(part))
