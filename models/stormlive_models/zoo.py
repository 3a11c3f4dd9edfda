"""The models that ship with the package."""

from pathlib import Path

from stormlive_sim.errors import InputError, nearest_key_hint

_WEIGHTS = Path(__file__).parent / "weights"
DEFAULT = "livenet"


def shipped() -> dict[str, Path]:
    """Return the shipped models by name."""
    return {path.stem: path for path in sorted(_WEIGHTS.glob("*.safetensors"))}


def find_model(name_or_file: str) -> Path:
    """Return the file of a model given by its shipped name or by a path.

    Raises
    ------
    InputError
        When it is neither.
    """
    models = shipped()
    if name_or_file in models:
        return models[name_or_file]
    path = Path(name_or_file)
    if path.suffix == ".safetensors" or path.exists():
        return path  # reading it says what is wrong with it, if anything
    raise InputError(f"there is no model {name_or_file!r}{nearest_key_hint(name_or_file, models)} (or give a file)")
