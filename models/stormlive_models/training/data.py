"""Endless simulated training frames, each with parameters of its own."""

import math

import torch
from torch import Tensor

from stormlive_models.training.recipe import DataSettings, Range
from stormlive_sim.emitters import Emitters
from stormlive_sim.psf import render_gaussians
from stormlive_sim.sensor import Sensor

_MARGIN_PX = 4
_MOST_FILAMENTS = 6


def _uniform(bounds: Range, n: int, generator: torch.Generator) -> Tensor:
    low, high = bounds
    return torch.rand(n, generator=generator, device=generator.device) * (high - low) + low


def _log_uniform(bounds: Range, n: int, generator: torch.Generator) -> Tensor:
    return _uniform((math.log(bounds[0]), math.log(bounds[1])), n, generator).exp()


def sample_batch(settings: DataSettings, n: int, generator: torch.Generator) -> tuple[Tensor, Emitters]:
    """Return n simulated frames in photons and the emitters inside them.

    Parameters
    ----------
    settings : DataSettings
        Ranges to draw from.
    n : int
        Number of frames; each has its own density, structure, brightness, PSF width, background and camera.
    generator : torch.Generator
        Source of randomness; its device is where everything happens.

    Returns
    -------
    photons : Tensor
        float32 (n, patch, patch), as the engine would compute them from ADU.
    truth : Emitters
        `frame` is the index in the batch; only emitters inside the frame with at least `truth_min_photons`.
    """
    device = generator.device
    size = settings.patch_px
    x_px, y_px, frame = draw_positions(settings, n, generator)
    photons = _photons(settings, frame, n, generator)

    clean = draw_background(settings, n, generator)
    sigma_px = _uniform(settings.psf_sigma_nm, n, generator) / settings.pixel_size_nm
    radius = int(4.2 * settings.psf_sigma_nm[1] / settings.pixel_size_nm) + 1
    render_gaussians(clean, frame, x_px, y_px, photons, sigma_px[frame], radius=radius)

    emccd = torch.rand(n, generator=generator, device=device) < settings.emccd_share
    gain = torch.where(emccd, 100.0, 1.0)
    read_noise = _uniform(settings.read_noise_e, n, generator) * torch.where(emccd, 10.0, 1.0)
    sensor = Sensor(
        electrons_per_adu=(0.5 * gain)[:, None, None],
        em_gain=gain[:, None, None],
        read_noise_e=read_noise[:, None, None],
    )
    adu = sensor.expose(clean, generator)
    measured = (adu - sensor.baseline_adu) * sensor.photons_per_adu

    keep = (x_px >= 0) & (x_px < size) & (y_px >= 0) & (y_px < size) & (photons >= settings.truth_min_photons)
    table = Emitters(
        frame=frame, x_nm=x_px * settings.pixel_size_nm, y_nm=y_px * settings.pixel_size_nm, photons=photons
    )
    return measured, table.select(keep)


def draw_positions(settings: DataSettings, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x, y, frame) of all emitters, also those up to the margin outside."""
    device = generator.device
    extent = settings.patch_px + 2 * _MARGIN_PX
    area_um2 = (extent * settings.pixel_size_nm / 1000) ** 2
    counts = torch.poisson(_log_uniform(settings.density_per_um2, n, generator) * area_um2, generator).long()
    frame = torch.repeat_interleave(torch.arange(n, device=device), counts)
    total = len(frame)
    scattered = torch.rand(total, 2, generator=generator, device=device) * extent - _MARGIN_PX

    # Filaments: arcs through random points of the frame; each emitter picks one of its frame's arcs.
    n_arcs = torch.randint(1, _MOST_FILAMENTS + 1, (n,), generator=generator, device=device)
    arc = (torch.rand(total, generator=generator, device=device) * n_arcs[frame]).long()
    arc = arc + frame * _MOST_FILAMENTS
    arcs = n * _MOST_FILAMENTS
    origin = torch.rand(arcs, 2, generator=generator, device=device) * settings.patch_px
    angle = torch.rand(arcs, generator=generator, device=device) * math.tau
    curvature = torch.randn(arcs, generator=generator, device=device) * 0.01
    along = (torch.rand(total, generator=generator, device=device) - 0.5) * 1.4 * extent
    tube_px = 12.5 / settings.pixel_size_nm
    wall = torch.cos(torch.rand(total, generator=generator, device=device) * math.tau) * tube_px
    across = wall + curvature[arc] * along.square() / 2
    cosine, sine = angle.cos()[arc], angle.sin()[arc]
    on_arc = origin[arc] + torch.stack((along * cosine - across * sine, along * sine + across * cosine), -1)

    filamentous = torch.rand(n, generator=generator, device=device) < settings.filament_share
    xy = torch.where(filamentous[frame][:, None], on_arc, scattered)
    seen = ((xy > -_MARGIN_PX) & (xy < settings.patch_px + _MARGIN_PX)).all(1)
    return xy[seen, 0], xy[seen, 1], frame[seen]


def _photons(settings: DataSettings, frame: Tensor, n: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    spread = _uniform(settings.photon_spread, n, generator)[frame]
    mean = _log_uniform(settings.photons, n, generator)[frame]
    brightness = torch.exp(torch.randn(len(frame), generator=generator, device=device) * spread - spread**2 / 2)
    # Some emitters switch on or off during the exposure and are seen for a part of it only.
    part = torch.rand(len(frame), generator=generator, device=device)
    partial = torch.rand(len(frame), generator=generator, device=device) < settings.partial_share
    return mean * brightness * torch.where(partial, part, 1.0)


def draw_background(settings: DataSettings, n: int, generator: torch.Generator) -> Tensor:
    """Return a smooth, uneven background, (n, patch, patch) photons."""
    device = generator.device
    level = _log_uniform(settings.background_photons, n, generator)[:, None, None]
    axis = torch.linspace(-1, 1, settings.patch_px, device=device)
    wave = torch.randn(n, 2, generator=generator, device=device) * 1.5
    phase = torch.rand(n, generator=generator, device=device) * math.tau
    ripple = torch.cos(
        wave[:, :1, None] * axis[None, None, :] + wave[:, 1:, None] * axis[None, :, None] + phase[:, None, None]
    )
    depth = torch.rand(n, generator=generator, device=device)[:, None, None] * settings.background_structure
    return (level * (1 + depth * ripple)).expand(n, settings.patch_px, settings.patch_px).contiguous()
