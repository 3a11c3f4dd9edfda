"""Frames with known emitters, under the conditions of the accuracy benchmark."""

import zlib
from dataclasses import dataclass, replace

import msgspec
import torch
from torch import Tensor

from stormlive_models.training.data import sample_batch
from stormlive_models.training.recipe import DataSettings
from stormlive_models.training.validation import validation_settings
from stormlive_sim.emitters import Emitters
from stormlive_sim.psf import render_gaussians
from stormlive_sim.sensor import Sensor, emccd, scmos
from stormlive_sim.structures import filaments

PIXEL_NM, SIDE_PX, UPSAMPLING = 100.0, 64, 8
SUB_NM = PIXEL_NM / UPSAMPLING
FIELD_UM2 = (SIDE_PX * PIXEL_NM / 1000) ** 2
SIGMA_PX, BACKGROUND = 1.15, 10.0
CAMERAS = ("sCMOS", "EMCCD")
# Of `scmos()` and `emccd()`, in photons: what the limits need to know.
READ_NOISE = {"sCMOS": 1.5, "EMCCD": 0.2}
EXCESS = {"sCMOS": 1.0, "EMCCD": 2.0}
MOVIE_SIGMA_PX, MOVIE_BACKGROUND, MOVIE_DENSITY, MOVIE_PHOTONS, MOVIE_FILAMENTS = 1.1, 20.0, 5.5, 1500.0, 10


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Photons as measured, (N, 64, 64), and the emitters inside."""

    photons: Tensor
    truth: Emitters

    def __len__(self) -> int:
        return len(self.photons)

    def first(self, n: int) -> "Frames":
        """Return the first n frames: slow methods see a part of what the others see."""
        return Frames(photons=self.photons[:n], truth=self.truth.select(self.truth.frame < n))


def seeded(seed: int, label: str) -> torch.Generator:
    """Return the generator of one condition, so that leaving another one out changes nothing."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {label}".encode()))


def uniform_settings(density: float, photons: float = 1000.0) -> DataSettings:
    base = validation_settings(DataSettings(pixel_size_nm=PIXEL_NM), density)
    return msgspec.structs.replace(base, photons=(photons, photons))


def simulated(settings: DataSettings, n: int, generator: torch.Generator) -> Frames:
    photons, truth = sample_batch(settings, n, generator)
    return Frames(photons=photons, truth=truth)


def empty(background: float, camera: str, n: int, generator: torch.Generator) -> Frames:
    """Return frames in which nothing is."""
    return Frames(
        photons=_measured(torch.full((n, SIDE_PX, SIDE_PX), background), camera, generator),
        truth=Emitters.concatenate([]),
    )


def isolated(photons: float, camera: str, n: int, generator: torch.Generator) -> Frames:
    """Return frames of 16 emitters that are at least 8 px from each other and 12 px from the border."""
    cell = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="xy"), -1).reshape(-1, 2)
    # Four whole pixels of freedom: every place within a pixel is as likely.
    place = (cell * 12 + 12.0).repeat(n, 1) + 4 * torch.rand(16 * n, 2, generator=generator)
    truth = Emitters(
        frame=torch.arange(n).repeat_interleave(16),
        x_nm=place[:, 0] * PIXEL_NM,
        y_nm=place[:, 1] * PIXEL_NM,
        photons=torch.full((16 * n,), photons),
    )
    return _exposed(truth, n, SIGMA_PX, BACKGROUND, camera, generator)


def enclosed(density: float, photons: float, n: int, generator: torch.Generator) -> Frames:
    """Return frames with uniform random emitters, of which none is outside of its frame."""
    counts = torch.poisson(torch.full((n,), density * FIELD_UM2), generator).long()
    place = SIDE_PX * PIXEL_NM * torch.rand(int(counts.sum()), 2, generator=generator)
    truth = Emitters(
        frame=torch.arange(n).repeat_interleave(counts),
        x_nm=place[:, 0],
        y_nm=place[:, 1],
        photons=torch.full((len(place),), photons),
    )
    return _exposed(truth, n, SIGMA_PX, BACKGROUND, "sCMOS", generator)


def filament_movie(n: int, generator: torch.Generator, density: float = MOVIE_DENSITY) -> Frames:
    """Return a movie like the Deep-STORM demo data: frames of microtubules, each with emitters of its own.

    As there, an emitter shines for one whole frame, and half of the field is empty: 5.5 emitters/um2 over the field
    are about 11 on the structure. (A blinking `Scene` would add emitters of a few photons that no one could find.)
    """
    margin_nm = 4 * MOVIE_SIGMA_PX * PIXEL_NM
    side_nm = SIDE_PX * PIXEL_NM + 2 * margin_nm
    # So many labels that hardly one shines twice: a histogram of few sites would be spikes that no picture has.
    sites = filaments(MOVIE_FILAMENTS, (side_nm, side_nm), generator, spacing_nm=1.0) - margin_nm
    mean = torch.full((n,), density * (side_nm / 1000) ** 2)
    frame = torch.repeat_interleave(torch.arange(n), torch.poisson(mean, generator).long())
    place = sites[torch.randint(len(sites), (len(frame),), generator=generator)]
    brightness = torch.exp(0.1 * torch.randn(len(frame), generator=generator) - 0.1**2 / 2) * MOVIE_PHOTONS
    shining = Emitters(frame=frame, x_nm=place[:, 0], y_nm=place[:, 1], photons=brightness)
    movie = _exposed(shining, n, MOVIE_SIGMA_PX, MOVIE_BACKGROUND, "EMCCD", generator)
    inside = (place >= 0).all(1) & (place < SIDE_PX * PIXEL_NM).all(1)
    return replace(movie, truth=shining.select(inside))


def structure_density(movie: Frames) -> float:
    """Return emitters per um2 and frame where the movie is, on average, brighter than twice the background."""
    occupied = (movie.photons.mean(0) > 2 * MOVIE_BACKGROUND).double().mean().item()
    return len(movie.truth) / len(movie) / FIELD_UM2 / occupied


def _exposed(
    shining: Emitters, n: int, sigma_px: float, background: float, camera: str, generator: torch.Generator
) -> Frames:
    clean = torch.full((n, SIDE_PX, SIDE_PX), background)
    x, y = shining.x_nm / PIXEL_NM, shining.y_nm / PIXEL_NM
    render_gaussians(clean, shining.frame, x, y, shining.photons, torch.tensor(sigma_px), radius=6)
    return Frames(photons=_measured(clean, camera, generator), truth=shining)


def _measured(clean: Tensor, camera: str, generator: torch.Generator) -> Tensor:
    sensor: Sensor = {"sCMOS": scmos, "EMCCD": emccd}[camera]()
    return (sensor.expose(clean, generator) - sensor.baseline_adu) * sensor.photons_per_adu
