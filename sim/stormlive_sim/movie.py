"""A scene: sample, optics and camera together, frame by frame with its truth."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stormlive_sim.background import Haze, beam_profile
from stormlive_sim.blinking import Blinking, BlinkingSample, mixed_seed
from stormlive_sim.drift import Drift, DriftPath
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError, nearest_key_hint
from stormlive_sim.focus import Focus
from stormlive_sim.pixel_maps import PixelVariation, draw_pixel_maps
from stormlive_sim.psf import render_gaussians
from stormlive_sim.sensor import Sensor, emccd
from stormlive_sim.structure_kinds import STRUCTURES, AnyStructure
from stormlive_sim.structures import check_sites

# Wider ones are no blurred emitters any more, but a background that takes long to draw.
_MOST_WIDENING = 10.0
# A drifting sample reaches this far beyond what can be seen at the start.
_DRIFT_ROOM_NM = 1000.0


@dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """Everything that decides a simulated movie.

    Attributes
    ----------
    shape : tuple of int
        Sensor (Y, X) in pixels.
    psf_sigma_nm : float
        Standard deviation of the Gaussian PSF in focus.
    focus : Focus
        Defocus, astigmatism and depth of the sample.
    structure : str or tuple of structures
        A name of `stormlive_sim.structure_kinds.STRUCTURES`, or a mixture of structures with measures of their own.
    density_per_um2 : float
        Mean density of emitters that are on, over the whole field, at the start of the run.
    blinking : Blinking
        Kinetics; `off_ms` is overruled so that `density_per_um2` comes out.
    background_photons_per_ms : float
        Even background per pixel.
    haze_photons_per_ms, haze_sigma_nm : float
        Background that follows the structure: its mean per pixel over the sample, and its blur. It neither blinks
        nor bleaches.
    illumination_fwhm_um : float
        Width of the Gaussian beam that excites emitters and background; `photons` and background are those at its
        peak, in the centre of the field.
    drift : Drift
        How the sample moves.
    sensor : Sensor
        The camera, without maps.
    pixels : PixelVariation
        How unequal its pixels are.
    """

    shape: tuple[int, int] = (64, 64)
    pixel_size_nm: float = 100.0
    psf_sigma_nm: float = 115.0
    focus: Focus = field(default_factory=Focus)
    structure: str | tuple[AnyStructure, ...] = "microtubules"
    density_per_um2: float = 1.0
    blinking: Blinking = field(default_factory=Blinking)
    background_photons_per_ms: float = 0.67
    haze_photons_per_ms: float = 0.0
    haze_sigma_nm: float = 1000.0
    illumination_fwhm_um: float = math.inf
    drift: Drift = field(default_factory=Drift)
    sensor: Sensor = field(default_factory=emccd)
    pixels: PixelVariation = field(default_factory=PixelVariation)
    seed: int = 0


class Scene:
    """A simulated sample under a simulated microscope; deterministic per frame number and seed.

    A sample that drifts goes round: what leaves the simulated area at one side comes in at the other, 1 µm outside
    the field, so that a run of any length keeps its density. The light of a frame is that of the sample where it
    is in the middle of the exposure, and the truth has the emitters where the camera saw them.

    Parameters
    ----------
    settings : SceneSettings
        What to simulate.

    Raises
    ------
    InputError
        When the structure is unknown, has too few labels for the density or too many for the memory, or the sample is
        too far from focus.
    """

    def __init__(self, settings: SceneSettings) -> None:
        self.settings = settings
        generator = torch.Generator().manual_seed(mixed_seed(settings.seed, -2))
        pixel_nm = settings.pixel_size_nm
        widening = settings.focus.greatest_widening
        if widening > _MOST_WIDENING:
            raise InputError(
                f"expected emitters at most {_MOST_WIDENING:g} times as wide as in focus, got {widening:.0f}; choose a "
                "thinner sample, less defocus and astigmatism, or a greater depth of focus"
            )
        # Light of emitters just outside the field reaches into it.
        self._margin_nm = 4 * settings.psf_sigma_nm * widening
        if settings.drift.moves or settings.haze_photons_per_ms:
            # In whole pixels, for haze has pixels and must go round with the sample.
            room = _DRIFT_ROOM_NM if settings.drift.moves else 0.0
            self._margin_nm = math.ceil((self._margin_nm + room) / pixel_nm) * pixel_nm
        height, width = (n * pixel_nm + 2 * self._margin_nm for n in settings.shape)
        self._sample_nm = (height, width)
        parts = [s.sites(self._sample_nm, generator) for s in _structures(settings.structure)]
        check_sites(sum(map(len, parts)))
        sites = torch.cat(parts)
        depth_nm = settings.focus.sample_depth_nm
        self._z_nm = (torch.rand(len(sites), generator=generator) - 0.5) * depth_nm
        kinetics = _kinetics(settings, len(sites), height * width / 1e6)
        self.sample = BlinkingSample(sites - self._margin_nm, kinetics, settings.seed)
        self._drift = DriftPath(settings.drift, mixed_seed(settings.seed, -3))
        self._haze = None
        if settings.haze_photons_per_ms:
            shape_px = (round(height / pixel_nm), round(width / pixel_nm))
            self._haze = Haze(sites, shape_px, pixel_nm, settings.haze_sigma_nm)
        rows, columns = ((torch.arange(n) + 0.5) * pixel_nm for n in settings.shape)
        self._beam = self._illumination(columns, rows[:, None])
        self.sensor = settings.sensor
        if settings.pixels != PixelVariation():
            chip = torch.Generator().manual_seed(mixed_seed(settings.pixels.seed, -4))
            self.sensor = replace(self.sensor, maps=draw_pixel_maps(settings.pixels, settings.shape, chip))

    @property
    def field_nm(self) -> tuple[float, float]:
        """What the camera sees, (y, x) in nm."""
        height, width = self.settings.shape
        return height * self.settings.pixel_size_nm, width * self.settings.pixel_size_nm

    def drift_nm(self, frame: int, exposure_ms: float) -> tuple[float, float]:
        """Return how far the sample has moved, (x, y) in nm, in the middle of a frame."""
        return self._drift.at((frame + 0.5) * exposure_ms)

    def emitters(self, frame: int, exposure_ms: float) -> Emitters:
        """Return the truth of one frame: everything that shines into it, also from just outside the field."""
        return self._seen(frame, exposure_ms)[0]

    def _illumination(self, x_nm: Tensor, y_nm: Tensor) -> Tensor:
        return beam_profile(x_nm, y_nm, self.field_nm, self.settings.illumination_fwhm_um)

    def _seen(self, frame: int, exposure_ms: float) -> tuple[Emitters, Tensor]:
        """Return the emitters of one frame and their heights."""
        site, photons = self.sample.seen(frame * exposure_ms, (frame + 1) * exposure_ms)
        position = self.sample.sites_nm[site]
        if self.settings.drift.moves:
            size = torch.tensor(self._sample_nm).flip(0)
            moved = position + torch.tensor(self.drift_nm(frame, exposure_ms)) + self._margin_nm
            position = moved.remainder(size) - self._margin_nm
        x_nm, y_nm = position.unbind(1)
        photons = photons * self._illumination(x_nm, y_nm)
        table = Emitters(frame=torch.full_like(site, frame), x_nm=x_nm, y_nm=y_nm, photons=photons)
        return table, self._z_nm[site]

    def truth(self, frame: int, exposure_ms: float) -> Emitters:
        """Return the emitters of one frame that lie inside the field."""
        table = self.emitters(frame, exposure_ms)
        height, width = self.field_nm
        inside = (table.x_nm >= 0) & (table.x_nm < width) & (table.y_nm >= 0) & (table.y_nm < height)
        return table.select(inside)

    def photons(self, frame: int, exposure_ms: float) -> Tensor:
        """Return the expected photons of one frame, float32 (Y, X)."""
        settings = self.settings
        table, z_nm = self._seen(frame, exposure_ms)
        image = self._background(frame, exposure_ms)[None]
        sigma_px = torch.tensor(settings.psf_sigma_nm / settings.pixel_size_nm)
        render_gaussians(
            image,
            torch.zeros(len(table), dtype=torch.long),
            table.x_nm / settings.pixel_size_nm,
            table.y_nm / settings.pixel_size_nm,
            table.photons,
            sigma_px * settings.focus.widening(z_nm),
            radius=int(4.5 * float(sigma_px) * settings.focus.greatest_widening) + 1,
        )
        return image[0]

    def _background(self, frame: int, exposure_ms: float) -> Tensor:
        settings = self.settings
        image = torch.full(settings.shape, settings.background_photons_per_ms * exposure_ms)
        if self._haze is not None:
            x_px, y_px = (moved / settings.pixel_size_nm for moved in self.drift_nm(frame, exposure_ms))
            edge = round(self._margin_nm / settings.pixel_size_nm)
            haze = self._haze.image(x_px, y_px)[edge : edge + settings.shape[0], edge : edge + settings.shape[1]]
            image += haze * settings.haze_photons_per_ms * exposure_ms
        return image * self._beam

    def expose(self, photons: Tensor, frame: int, exposure_ms: float, binning: int = 1) -> Tensor:
        """Return the ADU of expected photons (Y, X), with the noise that belongs to this frame number."""
        generator = torch.Generator().manual_seed(mixed_seed(self.settings.seed + 1, frame))
        return self.sensor.expose(photons, generator, exposure_ms=exposure_ms, binning=binning)

    def frames(self, n: int, exposure_ms: float) -> Iterator[tuple[Tensor, Emitters]]:
        """Yield n frames as (uint16 (Y, X) ADU, truth inside the field)."""
        for frame in range(n):
            adu = self.expose(self.photons(frame, exposure_ms), frame, exposure_ms)
            yield adu.to(torch.uint16), self.truth(frame, exposure_ms)


def _structures(structure: str | tuple[AnyStructure, ...]) -> tuple[AnyStructure, ...]:
    if not isinstance(structure, str):
        return structure
    if structure not in STRUCTURES:
        raise InputError(f"no structure is called {structure!r}{nearest_key_hint(structure, STRUCTURES)}")
    return (STRUCTURES[structure](),)


def _kinetics(settings: SceneSettings, labels: int, area_um2: float) -> Blinking:
    """Return the kinetics whose dark time gives the density asked for."""
    kinetics = settings.blinking
    on_labels = settings.density_per_um2 * area_um2
    if labels <= 2 * on_labels:
        raise InputError(
            f"expected a density of at most {labels / area_um2 / 2:.2g} emitters/µm², half of the labels of the "
            f"structure, got {settings.density_per_um2:g}; ask for more labels or less density"
        )
    return replace(kinetics, off_ms=kinetics.on_ms * (labels / max(on_labels, 1e-9) - 1))


def truth_image(scene: Scene, n_frames: int, exposure_ms: float, upsampling: int, *, sigma_nm: float = 10.0) -> Tensor:
    """Return what a perfect reconstruction would show: float32 (Y u, X u), emitters per sub-pixel.

    Every emitter of every frame is drawn at its true place as a Gaussian of `sigma_nm`, about the precision that
    a good localization has.
    """
    settings = scene.settings
    sub_nm = settings.pixel_size_nm / upsampling
    image = torch.zeros(1, settings.shape[0] * upsampling, settings.shape[1] * upsampling)
    sigma_px = torch.tensor(sigma_nm / sub_nm)
    for frame in range(n_frames):
        table = scene.truth(frame, exposure_ms)
        where = torch.zeros(len(table), dtype=torch.long)
        weight = torch.ones(len(table))
        render_gaussians(
            image,
            where,
            table.x_nm / sub_nm,
            table.y_nm / sub_nm,
            weight,
            sigma_px,
            radius=int(4 * float(sigma_px)) + 1,
        )
    return image[0]
