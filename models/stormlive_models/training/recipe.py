"""The recipe of a training: every range and every setting, read from TOML."""

import math
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stormlive_sim.errors import InputError, nearest_key_hint
from stormlive_sim.quantities import Seed
from stormlive_sim.toml_file import convert_toml, read_toml

Range = tuple[float, float]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
# Drawn by their logarithm, or divided by.
_ABOVE_ZERO = ("density_per_um2", "photons", "on_frames", "psf_sigma_nm", "background_photons")


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which network, and for which camera pixels: within 10 % of the simulated ones unless `pixel_sizes_nm` says."""

    architecture: Literal["livenet", "deepstorm"] = "livenet"
    width: Count = 48
    context: Literal[0, 1] = 0
    upsampling: Annotated[int, Meta(ge=1, le=16)] = 8
    pixel_sizes_nm: tuple[Positive, Positive] | None = None

    def __post_init__(self) -> None:
        if self.pixel_sizes_nm is not None and self.pixel_sizes_nm[0] > self.pixel_sizes_nm[1]:
            raise ValueError(f"pixel_sizes_nm must be [least, greatest], got {list(self.pixel_sizes_nm)}")


class DataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is simulated; a pair is a range from which each training frame draws its own value.

    With `on_frames`, the mean time that emitters stay on, each frame comes between the one before and the one after,
    either of which may be absent.
    """

    pixel_size_nm: Positive = 100.0
    patch_px: Annotated[int, Meta(ge=16, le=256)] = 32
    density_per_um2: Range = (0.2, 10.0)
    filament_share: Share = 0.4
    cluster_share: Share = 0.05
    ring_share: Share = 0.05
    empty_share: Share = 0.03
    photons: Range = (250.0, 6000.0)
    photon_spread: Range = (0.0, 0.6)
    partial_share: Share = 0.4
    steady_share: Share = 0.4
    on_frames: Range | None = None
    absent_share: Share = 0.05
    truth_min_snr: Annotated[float, Meta(ge=0)] = 4.0
    psf_sigma_nm: Range = (95.0, 145.0)
    aberrated_share: Share = 0.3
    psf_ellipticity: Share = 0.1
    defocus: Share = 0.3
    background_photons: Range = (0.5, 100.0)
    background_structure: Share = 0.5
    emccd_share: Share = 0.4
    read_noise_e: Range = (0.7, 2.5)
    pixel_map_share: Share = 0.3


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it is trained; the learning rate falls as a cosine until whichever limit comes first.

    `patience` is the number of validations without a better mean Jaccard after which a training ends early, with the
    weights of the best one; 0: never. It is off unless asked for, because under a cosine the last quarter brings much
    of the precision: a plateau at a high learning rate is no sign that nothing is left to learn. It is there for
    fine-tuning, where a small set of real spots may be learnt by heart. `save_minutes` is how much of a training a
    kill may cost.
    """

    steps: Count = 30_000
    max_minutes: Positive = 60.0
    batch: Count = 24
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 2.5e-3
    warmup_steps: Count = 500
    weight_average: Share = 0.999
    bf16: bool = True
    validate_every: Count = 1000
    patience: Annotated[int, Meta(ge=0)] = 0
    save_minutes: Positive = 2.0
    seed: Seed = 0


class EpochSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training in epochs over patches simulated once, as in 2018; the defaults are the original's.

    Of the training settings, max_minutes, batch, learning_rate, bf16, save_minutes and seed count.
    """

    frames: Count = 20
    patches: Count = 10_000
    patch_px: Annotated[int, Meta(ge=8, le=256)] = 26
    least_emitters: Count = 7
    validation_share: Annotated[float, Meta(gt=0, lt=1)] = 0.3
    count: Count = 100
    patience: Count = 5
    rate_factor: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    least_rate: Positive = 5e-5


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training, whole; with `epochs` it is the original's (`training.original`), else `training.loop`'s."""

    name: str = "livenet"
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    training: TrainingSettings = TrainingSettings()
    epochs: EpochSettings | None = None


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}


def find_recipe(name_or_file: str) -> Path:
    """Return the file of a recipe given by its shipped name or by a path.

    Raises
    ------
    InputError
        When it is neither.
    """
    recipes, path = shipped_recipes(), Path(name_or_file)
    if name_or_file in recipes:
        return recipes[name_or_file]
    if path.suffix == ".toml" or path.exists():
        return path  # reading it says what is wrong with it, if anything
    hint = nearest_key_hint(name_or_file, list(recipes))
    raise InputError(f"there is no recipe {name_or_file!r}{hint}; shipped: {', '.join(recipes)} (or give a file)")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    InputError
        When the file is missing, is no TOML, or has an unknown key or a value out of its limits.
    """
    recipe = convert_toml(path, read_toml(path, "recipe"), Recipe)
    _check_model(path, recipe)
    _check_data(path, recipe.data)
    return recipe


def _check_model(path: Path, recipe: Recipe) -> None:
    takes_nm, trained_nm = recipe.model.pixel_sizes_nm, recipe.data.pixel_size_nm
    if takes_nm is not None and not takes_nm[0] <= trained_nm <= takes_nm[1]:
        raise InputError(
            f"{path}: model.pixel_sizes_nm must contain data.pixel_size_nm, which is {trained_nm:g}, got "
            f"{list(takes_nm)}"
        )
    stacked = recipe.data.on_frames is not None
    if recipe.model.context and not stacked:
        raise InputError(
            f"{path}: model.context needs frames with neighbours: give data.on_frames, for how many frames emitters "
            "stay on, such as [0.5, 8]"
        )
    if stacked and recipe.model.architecture == "deepstorm":
        raise InputError(f"{path}: data.on_frames is for the architecture livenet, got deepstorm; leave it out")
    if recipe.model.architecture == "deepstorm" and recipe.epochs is None and recipe.training.patience:
        raise InputError(
            f"{path}: training.patience needs validations, which the architecture deepstorm has only in epochs; leave "
            "it out, or add an [epochs] table"
        )


def _check_data(path: Path, data: DataSettings) -> None:
    for field in data.__struct_fields__:
        value = getattr(data, field)
        if not isinstance(value, tuple):
            continue
        least = "0 <" if field in _ABOVE_ZERO else "0 <="
        low, high = value
        if not 0 <= low <= high < math.inf or (low == 0 and field in _ABOVE_ZERO):
            raise InputError(f"{path}: data.{field} must be [low, high] with {least} low <= high, got {list(value)}")
    share = data.filament_share + data.cluster_share + data.ring_share
    if share > 1 + 1e-9:
        raise InputError(
            f"{path}: data.filament_share, cluster_share and ring_share must sum to at most 1, got {share:g}"
        )
