"""A scene: sample, optics and camera together, frame by frame with its truth."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stormlive_sim.blinking import Blinking, BlinkingSample, mixed_seed
from stormlive_sim.emitters import Emitters
from stormlive_sim.psf import render_gaussians
from stormlive_sim.sensor import Sensor, emccd
from stormlive_sim.structures import filaments, uniform

STRUCTURES = ("microtubules", "uniform")


@dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """Everything that decides a simulated movie.

    Attributes
    ----------
    shape : tuple of int
        Sensor (Y, X) in pixels.
    structure : str
        ``microtubules`` or ``uniform``.
    density_per_um2 : float
        Mean density of emitters that are on, over the whole field, at the start of the run.
    blinking : Blinking
        Kinetics; `off_ms` is overruled so that `density_per_um2` comes out.
    background_photons_per_ms : float
        Background per pixel.
    """

    shape: tuple[int, int] = (64, 64)
    pixel_size_nm: float = 100.0
    psf_sigma_nm: float = 115.0
    structure: str = "microtubules"
    density_per_um2: float = 1.0
    blinking: Blinking = field(default_factory=Blinking)
    background_photons_per_ms: float = 0.67
    sensor: Sensor = field(default_factory=emccd)
    seed: int = 0


class Scene:
    """A simulated sample under a simulated microscope; deterministic per frame number and seed.

    Parameters
    ----------
    settings : SceneSettings
        What to simulate.
    """

    def __init__(self, settings: SceneSettings) -> None:
        self.settings = settings
        generator = torch.Generator().manual_seed(mixed_seed(settings.seed, -2))
        height, width = (n * settings.pixel_size_nm for n in settings.shape)
        # Light of emitters just outside the field reaches into it.
        margin = 4 * settings.psf_sigma_nm
        field_nm = (height + 2 * margin, width + 2 * margin)
        area_um2 = field_nm[0] * field_nm[1] / 1e6
        if settings.structure == "microtubules":
            # Each crosses the field: their number grows with its side, so that the length per area stays the same.
            sites = filaments(max(3, round(1.65 * area_um2**0.5)), field_nm, generator)
        elif settings.structure == "uniform":
            sites = uniform(round(area_um2 * 500), field_nm, generator)
        else:
            raise ValueError(f"expected a structure of {STRUCTURES}, got {settings.structure!r}")
        kinetics = settings.blinking
        on_sites = settings.density_per_um2 * area_um2
        off_ms = kinetics.on_ms * (len(sites) / max(on_sites, 1e-9) - 1)
        kinetics = Blinking(**{**kinetics.__dict__, "off_ms": max(off_ms, kinetics.on_ms)})
        self.sample = BlinkingSample(sites - margin, kinetics, settings.seed)

    def emitters(self, frame: int, exposure_ms: float) -> Emitters:
        """Return the truth of one frame: everything that shines into it, also from just outside the field."""
        return self.sample.emitters(frame * exposure_ms, (frame + 1) * exposure_ms, frame)

    def truth(self, frame: int, exposure_ms: float) -> Emitters:
        """Return the emitters of one frame that lie inside the field."""
        table = self.emitters(frame, exposure_ms)
        height, width = (n * self.settings.pixel_size_nm for n in self.settings.shape)
        inside = (table.x_nm >= 0) & (table.x_nm < width) & (table.y_nm >= 0) & (table.y_nm < height)
        return table.select(inside)

    def photons(self, frame: int, exposure_ms: float) -> Tensor:
        """Return the expected photons of one frame, float32 (Y, X)."""
        settings = self.settings
        table = self.emitters(frame, exposure_ms)
        image = torch.full((1, *settings.shape), settings.background_photons_per_ms * exposure_ms)
        sigma_px = torch.tensor(settings.psf_sigma_nm / settings.pixel_size_nm)
        render_gaussians(
            image,
            torch.zeros(len(table), dtype=torch.long),
            table.x_nm / settings.pixel_size_nm,
            table.y_nm / settings.pixel_size_nm,
            table.photons,
            sigma_px,
            radius=int(4.5 * float(sigma_px)) + 1,
        )
        return image[0]

    def expose(self, photons: Tensor, frame: int) -> Tensor:
        """Return the ADU of expected photons (Y, X), with the noise that belongs to this frame number."""
        generator = torch.Generator().manual_seed(mixed_seed(self.settings.seed + 1, frame))
        return self.settings.sensor.expose(photons, generator)

    def frames(self, n: int, exposure_ms: float) -> Iterator[tuple[Tensor, Emitters]]:
        """Yield n frames as (uint16 (Y, X) ADU, truth inside the field)."""
        for frame in range(n):
            adu = self.expose(self.photons(frame, exposure_ms), frame)
            yield adu.to(torch.uint16), self.truth(frame, exposure_ms)


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
