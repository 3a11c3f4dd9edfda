"""Endless simulated training frames, each with parameters of its own."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from stormlive_models.training.draws import log_uniform, uniform
from stormlive_models.training.positions import draw_positions
from stormlive_models.training.recipe import DataSettings
from stormlive_sim.emitters import Emitters
from stormlive_sim.psf import render_gaussians
from stormlive_sim.sensor import Sensor

# Out-of-focus light varies over a quarter of a patch and more.
_HAZE_NODES = 5
# A pixel's own gain, and the offset in ADU, that one calibration for the whole chip leaves behind; hot pixels.
_PIXEL_GAIN_SPREAD = 0.02
_PIXEL_OFFSET_ADU = 1.5
_HOT_PIXELS = 0.001
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
        float32 (n, patch, patch), as the engine would compute them from ADU.
    truth : Emitters
        `frame` is the index in the batch; only emitters inside the frame that a matched filter could tell from the
        background's noise: photons >= `truth_min_snr` x sqrt(4 pi sigma² F (background + 1)), with the excess noise F
        of 2 for an EMCCD and 1 else. No network can learn to see the others, and asking for them teaches it to guess.
    """
    size = settings.patch_px
    x_px, y_px, frame = draw_positions(settings, n, generator)
    photons = _photons(settings, frame, n, generator)
    clean = draw_background(settings, n, generator)
    level = clean.mean((1, 2))
    sigma_px = _sigma_px(settings, frame, n, generator)
    radius = int(4.2 * settings.psf_sigma_nm[1] / settings.pixel_size_nm) + 1
    render_gaussians(clean, frame, x_px, y_px, photons, sigma_px, radius=radius)
    measured, excess = _camera(settings, clean, generator)

    noise = (4 * math.pi * sigma_px.prod(1) * (excess * (level + 1))[frame]).sqrt()
    keep = (x_px >= 0) & (x_px < size) & (y_px >= 0) & (y_px < size) & (photons >= settings.truth_min_snr * noise)
    table = Emitters(
        frame=frame, x_nm=x_px * settings.pixel_size_nm, y_nm=y_px * settings.pixel_size_nm, photons=photons
    )
    return measured, table.select(keep)


def sample_size(settings: DataSettings) -> int:
    """Return how many frames make a sample to take figures from: 256, or fewer large ones, which need more memory."""
    return min(_SAMPLE_FRAMES, max(1, _SAMPLE_PIXELS // settings.patch_px**2))


def _photons(settings: DataSettings, frame: Tensor, n: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    # In some frames all emitters are alike. Without such frames a network never trusts that a spot of twice the light
    # of its neighbours is two emitters.
    varied = torch.rand(n, generator=generator, device=device) >= settings.steady_share
    spread = (uniform(settings.photon_spread, n, generator) * varied)[frame]
    mean = log_uniform(settings.photons, n, generator)[frame]
    brightness = torch.exp(torch.randn(len(frame), generator=generator, device=device) * spread - spread**2 / 2)
    # Some emitters switch on or off during the exposure and are seen for a part of it only.
    part = torch.rand(len(frame), generator=generator, device=device)
    share = (uniform((0.0, settings.partial_share), n, generator) * varied)[frame]
    partial = torch.rand(len(frame), generator=generator, device=device) < share
    return mean * brightness * torch.where(partial, part, 1.0)


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
    """Return expected photons (n, Y, X) as a camera reads them and one calibration turns them back into photons.

    With them the factor (n,) by which the camera's multiplication raises the variance of its light.
    """
    n, device = len(clean), generator.device

    def per_pixel() -> Tensor:
        return torch.randn(clean.shape, generator=generator, device=device)

    emccd = (torch.rand(n, generator=generator, device=device) < settings.emccd_share)[:, None, None]
    gain = torch.where(emccd, 100.0, 1.0)
    read_noise = uniform(settings.read_noise_e, n, generator)[:, None, None] * torch.where(emccd, 10.0, 1.0)
    mapped = ~emccd & (torch.rand(n, generator=generator, device=device) < settings.pixel_map_share)[:, None, None]
    own_gain = 1 + _PIXEL_GAIN_SPREAD * per_pixel() * mapped
    # Read noise has a tail of noisy pixels (Huang et al., Nature Methods 10, 653, 2013).
    own_read_noise = read_noise * torch.where(mapped, (0.3 * per_pixel()).exp(), 1.0)
    hot = torch.rand(clean.shape, generator=generator, device=device) < _HOT_PIXELS * mapped
    clean = clean + hot * torch.rand(clean.shape, generator=generator, device=device) * 300
    sensor = Sensor(electrons_per_adu=0.5 * gain, em_gain=gain, read_noise_e=own_read_noise)
    adu = sensor.expose(clean * own_gain, generator) + _PIXEL_OFFSET_ADU * per_pixel() * mapped
    return (adu - sensor.baseline_adu) * sensor.photons_per_adu, 1.0 + emccd[:, 0, 0]


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
