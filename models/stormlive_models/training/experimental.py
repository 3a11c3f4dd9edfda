"""Training frames made of real spots: crops of sparse frames, shifted by whole pixels and summed.

After Nehme et al., Optica 5, 458 (2018), who summed regions of sparse quantum-dot frames two at a time. The spots keep
everything that no simulation knows of a microscope (aberrations, the camera's noise), and their positions are known
from classical fits. What is made honest here, and what is not:

- **Background.** The sum of k crops has k backgrounds. Each crop's fitted background is taken off, one background is
  laid under the whole frame, and its noise, drawn from the dark pixels of the recording, is given only as far as the
  crops have not brought noise already. The mean is therefore right everywhere, and the noise is right under one crop
  and between crops. Where k crops overlap, k - 1 backgrounds' worth of noise is too much: it cannot be taken out of
  measured pixels. Networks learn to expect slightly noisier dense frames than there are (sigma 1.15 px, EMCCD, 20
  background photons: 2 % more variance at 3 emitters/µm², 7 % at 5).
- **Brightness.** A spot is dimmed to a random share p of its photons the way an absorbing filter would: scaled, with
  the noise added that thinned light has. Backgrounds are thinned with it, which also lessens the excess above.
- **Positions** carry the error of the fits. It comes from the very noise that is in the crop, so that for undimmed
  spots the network learns to repeat the fit, and its stated uncertainty is too small, by sqrt(1 - p) for a lone spot.
"""

from functools import partial

import msgspec
import torch
from torch import Tensor

from stormlive_models.training.data import draw_background
from stormlive_models.training.positions import draw_positions
from stormlive_models.training.recipe import DataSettings
from stormlive_models.training.source import TrainingData
from stormlive_models.training.spot_library import SpotLibrary
from stormlive_sim.emitters import Emitters

_SHARES = (0.3, 1.0)
# Dimmed spots that even a matched filter would miss are shown, but not asked for.
_TRUTH_SNR = 4.0
# Of the spots, the last ones in time: kept from training, for the figures of the card.
_HELD_OUT_SHARE = 0.2


def experimental_data(library: SpotLibrary, name: str) -> TrainingData:
    """Return the source of frames that `loop.train` takes, made of the spots of a recording called `name`."""
    first = round(len(library) * (1 - _HELD_OUT_SHARE))
    seen, held_out = library.select(slice(None, first)), library.select(slice(first, None))
    sigma_nm = [round(sigma * library.pixel_size_nm, 1) for sigma in library.sigma_px]
    photons, background = library.photons.median().item(), library.background.median().item()
    return TrainingData(
        sample=partial(sample_summed_crops, seen),
        held_out=partial(sample_summed_crops, held_out),
        conditions=(
            f"summed crops of {len(held_out)} spots of {name} kept from training, {_SHARES[0]:g} to {_SHARES[1]:g} of "
            f"{photons:.0f} photons, background {background:.1f}"
        ),
        origin={
            "experimental": name,
            "spots": len(seen),
            "spot_sigma_nm": sigma_nm,
            "spot_photons": round(photons),
            "background_photons": round(background, 1),
        },
    )


def sample_summed_crops(
    library: SpotLibrary, settings: DataSettings, n: int, generator: torch.Generator
) -> tuple[Tensor, Emitters]:
    """Return n dense frames in photons and the emitters inside them, as `data.sample_batch` does from a simulation.

    Parameters
    ----------
    library : SpotLibrary
        Real spots, on the generator's device.
    settings : DataSettings
        `patch_px`, `density_per_um2`, `filament_share` and `background_structure` are used; brightness, width,
        background and camera are those of the recording.
    n : int
        Number of frames.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    photons : Tensor
        float32 (n, patch, patch).
    truth : Emitters
        `frame` is the index in the batch; positions are the fitted ones, shifted.
    """
    device = generator.device
    size, nm = settings.patch_px, settings.pixel_size_nm
    x_px, y_px, frame = draw_positions(settings, n, generator)
    spot = torch.randint(len(library), (len(frame),), generator=generator, device=device)
    # Whole pixels only: an interpolated crop would be smoother than any camera's.
    left = (x_px - library.x_px[spot]).round().long()
    top = (y_px - library.y_px[spot]).round().long()
    x_px, y_px = left + library.x_px[spot], top + library.y_px[spot]
    low, high = _SHARES
    share = torch.rand(len(frame), generator=generator, device=device) * (high - low) + low

    level = draw_background(_with_background(settings, library), n, generator)
    light, noise = _thinned(library, spot, share, generator)
    summed, brought = torch.zeros_like(level), torch.zeros_like(level)
    _add(summed, light, frame, top, left)
    _add(brought, noise, frame, top, left)
    missing = (library.excess * level + library.read_variance - brought).clamp_min(0).sqrt()
    dark = library.noise[torch.randint(len(library.noise), level.shape, generator=generator, device=device)]
    frames = level + missing * dark + summed

    photons = library.photons[spot] * share
    sigma_x, sigma_y = library.sigma_px
    spread = 4 * torch.pi * sigma_x * sigma_y * library.excess
    keep = (x_px >= 0) & (x_px < size) & (y_px >= 0) & (y_px < size)
    keep &= photons > _TRUTH_SNR * (spread * (level.mean((1, 2)) + 1)).sqrt()[frame]
    return frames, Emitters(frame=frame, x_nm=x_px * nm, y_nm=y_px * nm, photons=photons).select(keep)


def _with_background(settings: DataSettings, library: SpotLibrary) -> DataSettings:
    low, high = library.background.quantile(torch.tensor([0.1, 0.9], device=library.background.device)).tolist()
    return msgspec.structs.replace(settings, background_photons=(max(low, 0.05), max(high, 0.05)))


def _thinned(library: SpotLibrary, spot: Tensor, share: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return dimmed crops without their background, (K, S, S), and the variance that their background brings."""
    crop, p = library.crops[spot], share[:, None, None]
    background = library.background[spot][:, None, None]
    fresh = torch.randn(crop.shape, generator=generator, device=crop.device)
    added = (p * (1 - p) * library.excess * crop.clamp_min(0)).sqrt() * fresh
    size = crop.shape[1]
    radius = torch.arange(size, device=crop.device) - size // 2
    window = (size / 2 - torch.hypot(radius[:, None].float(), radius.float())).clamp(0, 1)
    brought = p * library.excess * background + p.square() * library.read_variance
    return window * (p * (crop - background) + added), window.square() * brought


def _add(frames: Tensor, crops: Tensor, frame: Tensor, top: Tensor, left: Tensor) -> None:
    """Add crops (K, S, S) to frames (n, Y, X) in place; what falls outside is lost."""
    height, width = frames.shape[1:]
    axis = torch.arange(crops.shape[1], device=crops.device)
    rows, columns = top[:, None] + axis, left[:, None] + axis
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    index = (frame[:, None] * height + rows.clamp(0, height - 1))[:, :, None] * width
    index = index + columns.clamp(0, width - 1)[:, None, :]
    frames.view(-1).index_add_(0, index.reshape(-1), (crops * inside).reshape(-1))
