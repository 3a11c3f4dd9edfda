"""The recipe of a training: every range and every setting, read from TOML."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stormlive_sim.errors import InputError, nearest_key_hint

Range = tuple[float, float]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which network."""

    architecture: Literal["livenet", "deepstorm"] = "livenet"
    width: Count = 48
    upsampling: Annotated[int, Meta(ge=1, le=16)] = 8


class DataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is simulated; a pair is a range from which each training frame draws its own value."""

    pixel_size_nm: Positive = 100.0
    patch_px: Annotated[int, Meta(ge=16, le=256)] = 32
    density_per_um2: Range = (0.2, 10.0)
    filament_share: Share = 0.5
    photons: Range = (250.0, 6000.0)
    photon_spread: Range = (0.0, 0.6)
    partial_share: Share = 0.25
    truth_min_photons: float = 80.0
    psf_sigma_nm: Range = (95.0, 145.0)
    background_photons: Range = (0.5, 100.0)
    background_structure: Share = 0.4
    emccd_share: Share = 0.4
    read_noise_e: Range = (0.7, 2.5)


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it is trained; the learning rate falls as a cosine until whichever limit comes first."""

    steps: Count = 30_000
    max_minutes: Positive = 60.0
    batch: Count = 24
    learning_rate: Positive = 8e-4
    warmup_steps: Count = 500
    weight_average: Share = 0.999
    bf16: bool = True
    validate_every: Count = 1000
    seed: int = 0


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training, whole."""

    name: str = "livenet"
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    training: TrainingSettings = TrainingSettings()


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    InputError
        When the file is missing, is no TOML, or has an unknown key or a value out of its limits.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the recipe {path}: {error.strerror}; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid TOML: {error}") from error
    _check_keys(path, content, Recipe, "")
    try:
        recipe = msgspec.convert(content, Recipe, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}") from error
    for field in recipe.data.__struct_fields__:
        value = getattr(recipe.data, field)
        if isinstance(value, tuple) and not 0 <= value[0] <= value[1]:
            raise InputError(f"{path}: data.{field} must be [low, high] with 0 <= low <= high, got {list(value)}")
    return recipe


def _check_keys(path: Path, content: dict[str, Any], struct: type[msgspec.Struct], prefix: str) -> None:
    fields = {f.name: f for f in msgspec.structs.fields(struct)}
    for key, value in content.items():
        if key not in fields:
            raise InputError(f"{path}: unknown key {prefix + key!r}{nearest_key_hint(key, fields)}")
        inner = fields[key].type
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            _check_keys(path, value, inner, f"{prefix}{key}.")
