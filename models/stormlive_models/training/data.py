"""Endless simulated training frames, each with parameters of its own."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from stormlive_models.training.draws import log_uniform, uniform
from stormlive_models.training.kinetics import crowding, draw_overlaps
from stormlive_models.training.positions import draw_positions
from stormlive_models.training.recipe import DataSettings
from stormlive_sim.emitters import Emitters
from stormlive_sim.pixel_maps import PixelVariation, draw_pixel_maps
from stormlive_sim.psf import render_gaussians
from stormlive_sim.sensor import Sensor

# Out-of-focus light varies over a quarter of a patch and more.
_HAZE_NODES = 5
# What one calibration for the whole chip leaves behind. A frame is exposed for a second, which is as good as any time:
# only dark current asks.
_PIXELS = PixelVariation(offset_sd_adu=1.5, gain_spread=0.02, read_noise_spread=0.3, hot_share=0.001, hot_e_per_s=150.0)
_EXPOSURE_MS = 1000.0
_SAMPLE_FRAMES = 256
_SAMPLE_PIXELS = 2**20


def sample_batch(settings: DataSettings, n: int, generator: torch.Generator) -> tuple[Tensor, Emitters]:
    """Return n simulated frames in photons and the emitters inside them.

    Parameters
    ----------
    settings : DataSettings
        Ranges to draw from.
    n : int
        Number of frames; each has its own density, structure, brightness, PSF, background and camera.
    generator : torch.Generator
        Source of randomness; its device is where everything happens.

    Returns
    -------
    photons : Tensor
        float32 (n, patch, patch), as the engine would compute them from ADU; with `on_frames` (n, 3, patch, patch),
        each between the frame before and the one after, which is dark where it is absent.
    truth : Emitters
        Of the middle frames; `frame` is the index in the batch. Only emitters inside the frame that a matched filter
        could tell from the background's noise: photons >= `truth_min_snr` x sqrt(4 pi sigma² F (background + 1)), with
        the excess noise F of 2 for an EMCCD and 1 else. No network can learn to see the others, and asking for them
        teaches it to guess.
    """
    size = settings.patch_px
    on = None if settings.on_frames is None else log_uniform(settings.on_frames, n, generator)
    x_px, y_px, frame = draw_positions(settings, n, generator, 1.0 if on is None else crowding(on))
    light = _light(settings, frame, n, on, generator)
    background = draw_background(settings, n, generator)
    sigma_px = _sigma_px(settings, frame, n, generator)
    radius = int(4.2 * settings.psf_sigma_nm[1] / settings.pixel_size_nm) + 1
    clean = background.repeat_interleave(len(light), 0)
    for i, photons in enumerate(light):
        lit = photons > 0
        image = frame[lit] * len(light) + i
        render_gaussians(clean, image, x_px[lit], y_px[lit], photons[lit], sigma_px[lit], radius=radius)
    measured, excess = _camera(settings, clean.reshape(n, len(light), size, size), generator)

    own = light[len(light) // 2]
    noise = (4 * math.pi * sigma_px.prod(1) * (excess * (background.mean((1, 2)) + 1))[frame]).sqrt()
    keep = (x_px >= 0) & (x_px < size) & (y_px >= 0) & (y_px < size) & (own >= settings.truth_min_snr * noise)
    table = Emitters(frame=frame, x_nm=x_px * settings.pixel_size_nm, y_nm=y_px * settings.pixel_size_nm, photons=own)
    truth = table.select(keep & (own > 0))
    if on is None:
        return measured[:, 0], truth
    for neighbour in (0, -1):
        measured[torch.rand(n, generator=generator, device=clean.device) < settings.absent_share, neighbour] = 0
    return measured, truth


def sample_size(settings: DataSettings) -> int:
    """Return how many frames make a sample to take figures from: 256, or fewer large ones, which need more memory."""
    return min(_SAMPLE_FRAMES, max(1, _SAMPLE_PIXELS // settings.patch_px**2))


def _light(
    settings: DataSettings, frame: Tensor, n: int, on_frames: Tensor | None, generator: torch.Generator
) -> Tensor:
    """Return each emitter's photons in the frame, (1, N); in three frames, (3, N), where it is on for some time."""
    device = generator.device
    # In some frames all emitters are alike. Without such frames a network never trusts that a spot of twice the light
    # of its neighbours is two emitters.
    varied = torch.rand(n, generator=generator, device=device) >= settings.steady_share
    spread = (uniform(settings.photon_spread, n, generator) * varied)[frame]
    mean = log_uniform(settings.photons, n, generator)[frame]
    brightness = torch.exp(torch.randn(len(frame), generator=generator, device=device) * spread - spread**2 / 2)
    # Some emitters switch on or off during an exposure and are seen for a part of it only.
    part = torch.rand(len(frame), generator=generator, device=device)
    share = (uniform((0.0, settings.partial_share), n, generator) * varied)[frame]
    partial = torch.rand(len(frame), generator=generator, device=device) < share
    if on_frames is None:
        return (mean * brightness * torch.where(partial, part, 1.0))[None]
    overlaps = draw_overlaps(on_frames[frame], generator)
    return mean * brightness * torch.where(partial, overlaps, (overlaps > 0).float())


def _sigma_px(settings: DataSettings, frame: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return each emitter's PSF width (x, y): the frame's, its astigmatism, and wider where it is out of focus."""
    sigma = uniform(settings.psf_sigma_nm, n, generator) / settings.pixel_size_nm
    # Most frames have none: a network that expects aberrations everywhere cannot tell a close pair from a wide spot.
    aberrated = torch.rand(n, generator=generator, device=frame.device) < settings.aberrated_share
    stretch = (uniform((-1.0, 1.0), n, generator) * settings.psf_ellipticity * aberrated).exp()
    # sigma(z) = sigma0 sqrt(1 + (z/d)²), z normally distributed over a slice that is thin against the depth of field.
    depth = uniform((0.0, 1.0), n, generator) * settings.defocus * aberrated
    z = torch.randn(len(frame), generator=generator, device=frame.device) * depth[frame]
    return torch.stack((sigma * stretch, sigma / stretch), -1)[frame] * (1 + z.square()).sqrt().clamp_max(1.5)[:, None]


def _camera(settings: DataSettings, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return expected photons (n, F, Y, X) as n cameras read them and one calibration turns them back into photons.

    With them the factor (n,) by which each camera's multiplication raises the variance of its light.
    """
    n, device = len(clean), generator.device
    emccd = (torch.rand(n, generator=generator, device=device) < settings.emccd_share)[:, None, None, None]
    gain = torch.where(emccd, 100.0, 1.0)
    read_noise = uniform(settings.read_noise_e, n, generator)[:, None, None, None] * torch.where(emccd, 10.0, 1.0)
    maps = None
    unequal = torch.rand(n, generator=generator, device=device) < settings.pixel_map_share
    if settings.pixel_map_share:
        places = (unequal & ~emccd[:, 0, 0, 0]).nonzero()[:, 0]
        maps = draw_pixel_maps(_PIXELS, (len(places), 1, *clean.shape[2:]), generator).among(n, places)
    else:
        # As many numbers as maps of an earlier kind took: the frames that all figures stand on stay what they were.
        for _ in range(4):
            torch.rand(clean.shape, generator=generator, device=device)
    sensor = Sensor(electrons_per_adu=0.5 * gain, em_gain=gain, read_noise_e=read_noise, maps=maps)
    adu = sensor.expose(clean, generator, exposure_ms=_EXPOSURE_MS)
    return (adu - sensor.baseline_adu) * sensor.photons_per_adu, 1.0 + emccd[:, 0, 0, 0]


def draw_background(settings: DataSettings, n: int, generator: torch.Generator) -> Tensor:
    """Return a smooth, uneven background, (n, patch, patch) photons: uneven light and out-of-focus haze."""
    device = generator.device
    level = log_uniform(settings.background_photons, n, generator)[:, None, None]
    axis = torch.linspace(-1, 1, settings.patch_px, device=device)
    wave = torch.randn(n, 2, generator=generator, device=device) * 1.5
    phase = torch.rand(n, generator=generator, device=device) * math.tau
    ripple = torch.cos(
        wave[:, :1, None] * axis[None, None, :] + wave[:, 1:, None] * axis[None, :, None] + phase[:, None, None]
    )
    nodes = torch.rand(n, 1, _HAZE_NODES, _HAZE_NODES, generator=generator, device=device) * 2 - 1
    haze = functional.interpolate(nodes, (settings.patch_px, settings.patch_px), mode="bilinear", align_corners=True)
    mixed = uniform((0.0, 1.0), n, generator)[:, None, None]
    uneven = mixed * ripple + (1 - mixed) * haze[:, 0]
    depth = uniform((0.0, 1.0), n, generator)[:, None, None] * settings.background_structure
    return (level * (1 + depth * uneven)).contiguous()
