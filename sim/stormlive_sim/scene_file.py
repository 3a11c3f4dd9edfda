"""Scenes in TOML: every knob of the simulation, by the names and units that users think in."""

import math
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stormlive_sim.blinking import Blinking
from stormlive_sim.drift import Drift
from stormlive_sim.focus import Focus
from stormlive_sim.movie import SceneSettings
from stormlive_sim.pixel_maps import PixelVariation
from stormlive_sim.quantities import Amount, Count, Positive, Seed, Unbounded
from stormlive_sim.sensor import Sensor
from stormlive_sim.structure_kinds import AnyStructure, Microtubules
from stormlive_sim.toml_file import convert_toml, read_toml

_Side = Annotated[int, Meta(ge=8, le=4096)]
_SHIPPED = Path(__file__).parent / "scenes"


class Movie(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is recorded; `size` is (width, height) in pixels."""

    frames: Count = 1000
    size: tuple[_Side, _Side] = (64, 64)
    exposure_ms: Annotated[float, Meta(ge=0.01, le=600_000)] = 30.0
    seed: Seed = 0


class Optics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The microscope in focus, and its beam."""

    pixel_size_nm: Annotated[float, Meta(ge=1, le=10_000)] = 100.0
    psf_sigma_nm: Annotated[float, Meta(ge=20, le=1000)] = 115.0
    illumination_fwhm_um: Unbounded = math.inf


class Blinkers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The dye; `photons` are those of a whole frame, `on_ms` is 1.3 exposures where it is not given."""

    density_per_um2: Annotated[float, Meta(ge=0, le=50)] = 1.0
    photons: Positive = 1500.0
    brightness: Literal["log-normal", "exponential"] = "log-normal"
    brightness_spread: Annotated[float, Meta(ge=0, le=3)] = 0.3
    on_ms: Positive | None = None
    bleach_s: Unbounded = math.inf


class BackgroundLight(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Photons per pixel and frame: even, and as a haze that follows the structure."""

    photons: Amount = 20.0
    haze_photons: Amount = 0.0
    haze_sigma_nm: Annotated[float, Meta(ge=200, le=20_000)] = 1000.0


class Emccd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="emccd"):
    """A camera that multiplies electrons: excess noise factor 2."""

    baseline_adu: Annotated[float, Meta(ge=0, le=65_535)] = 100.0
    photons_per_adu: Positive = 0.5
    qe: Annotated[float, Meta(gt=0, le=1)] = 1.0
    read_noise_e: Amount = 20.0
    em_gain: Annotated[float, Meta(ge=2, le=10_000)] = 100.0
    bit_depth: Annotated[int, Meta(ge=8, le=16)] = 16
    pixels: PixelVariation = PixelVariation()


class Scmos(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="scmos"):
    """A camera with an amplifier in each pixel."""

    baseline_adu: Annotated[float, Meta(ge=0, le=65_535)] = 100.0
    photons_per_adu: Positive = 0.5
    qe: Annotated[float, Meta(gt=0, le=1)] = 1.0
    read_noise_e: Amount = 1.5
    bit_depth: Annotated[int, Meta(ge=8, le=16)] = 16
    pixels: PixelVariation = PixelVariation()


CAMERAS: dict[str, type[Emccd | Scmos]] = {"emccd": Emccd, "scmos": Scmos}


class SceneFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One scene, whole; each section and each key may be left out."""

    movie: Movie = Movie()
    optics: Optics = Optics()
    focus: Focus = Focus()
    structure: Annotated[tuple[AnyStructure, ...], Meta(min_length=1)] = (Microtubules(),)
    emitters: Blinkers = Blinkers()
    background: BackgroundLight = BackgroundLight()
    drift: Drift = Drift()
    camera: Emccd | Scmos = Emccd()

    def settings(self) -> SceneSettings:
        """Return the same in the units of the simulation."""
        exposure_ms, emitters = self.movie.exposure_ms, self.emitters
        width, height = self.movie.size
        return SceneSettings(
            shape=(height, width),
            pixel_size_nm=self.optics.pixel_size_nm,
            psf_sigma_nm=self.optics.psf_sigma_nm,
            focus=self.focus,
            structure=self.structure,
            density_per_um2=emitters.density_per_um2,
            blinking=Blinking(
                on_ms=1.3 * exposure_ms if emitters.on_ms is None else emitters.on_ms,
                bleach_ms=1000 * emitters.bleach_s,
                photons_per_ms=emitters.photons / exposure_ms,
                brightness=emitters.brightness,
                brightness_spread=emitters.brightness_spread,
            ),
            background_photons_per_ms=self.background.photons / exposure_ms,
            haze_photons_per_ms=self.background.haze_photons / exposure_ms,
            haze_sigma_nm=self.background.haze_sigma_nm,
            illumination_fwhm_um=self.optics.illumination_fwhm_um,
            drift=self.drift,
            sensor=_sensor(self.camera),
            pixels=self.camera.pixels,
            seed=self.movie.seed,
        )


def _sensor(camera: Emccd | Scmos) -> Sensor:
    em_gain = camera.em_gain if isinstance(camera, Emccd) else 1.0
    return Sensor(
        baseline_adu=camera.baseline_adu,
        electrons_per_adu=em_gain * camera.photons_per_adu * camera.qe,
        qe=camera.qe,
        em_gain=em_gain,
        read_noise_e=camera.read_noise_e,
        bit_depth=camera.bit_depth,
    )


def find_scene(name: str) -> Path:
    """Return the file of a scene that ships with the package, or the path that `name` is."""
    shipped = _SHIPPED / f"{name}.toml"
    return shipped if shipped.parent == _SHIPPED and shipped.is_file() else Path(name)


def read_scene(path: Path) -> SceneFile:
    """Read a scene.

    Raises
    ------
    InputError
        When the file is missing, is no TOML, or has an unknown key or a value out of its limits.
    """
    shipped = ", ".join(sorted(p.stem for p in _SHIPPED.glob("*.toml")))
    content = read_toml(path, "scene", f"give a TOML file, or a scene that ships: {shipped}")
    if "structure" in content:
        given = content["structure"]
        # [structure] for [[structure]], and a name for a kind with nothing changed.
        parts = given if isinstance(given, list) else [given]
        content["structure"] = [{"kind": part} if isinstance(part, str) else part for part in parts]
    return convert_toml(path, content, SceneFile)
