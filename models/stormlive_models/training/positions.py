"""Where the emitters of training frames sit: scattered, on filaments, in clusters, on rings."""

import math

import torch
from torch import Tensor

from stormlive_models.training.draws import log_uniform, uniform
from stormlive_models.training.recipe import DataSettings, Range

# Light from so far outside reaches into a frame.
MARGIN_PX = 4
_MOST_FILAMENTS = 12
# What is on at once: more on one filament no experiment shows and no network can tell apart. A cluster or a ring has
# one emitter on, or none, most of the time; training on more made networks see pairs where one emitter was.
_MOST_PER_FILAMENT = 25
_SPOTS_PER_EMITTER = (1.0, 4.0)
_TUBE_NM = 12.5
_RING_NM = (30.0, 120.0)
_CLUSTER_NM = (15.0, 150.0)


def draw_positions(
    settings: DataSettings, n: int, generator: torch.Generator, crowding: Tensor | float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x, y, frame) of all emitters of n frames, in pixels, also those up to the margin outside.

    A frame is of one kind: its emitters are scattered at random, or lie on up to 12 filaments, in Gaussian clusters,
    or on rings of eight corners (as nuclear pores). Its density is the mean over the frame, or about four fifths of it
    where filaments leave the frame; on a structure it is far higher. Of emitters that are not all on at once there are
    `crowding` times as many, a number or (n,).
    """
    device = generator.device
    extent = settings.patch_px + 2 * MARGIN_PX
    area_um2 = (extent * settings.pixel_size_nm / 1000) ** 2
    density = log_uniform(settings.density_per_um2, n, generator) * crowding
    density = density * (torch.rand(n, generator=generator, device=device) >= settings.empty_share)
    counts = torch.poisson(density * area_um2, generator).long()
    frame = torch.repeat_interleave(torch.arange(n, device=device), counts)

    xy = torch.rand(len(frame), 2, generator=generator, device=device) * extent - MARGIN_PX
    kind = torch.rand(n, generator=generator, device=device)
    low = 0.0
    for share, place in (
        (settings.filament_share, _on_filaments),
        (settings.cluster_share, _in_clusters),
        (settings.ring_share, _on_rings),
    ):
        chosen = ((kind >= low) & (kind < low + share))[frame]
        own = frame[chosen]
        xy[chosen] = place(settings, own, torch.bincount(own, minlength=n) / crowding, generator)
        low += share
    seen = ((xy > -MARGIN_PX) & (xy < settings.patch_px + MARGIN_PX)).all(1)
    return xy[seen, 0], xy[seen, 1], frame[seen]


def _on_filaments(settings: DataSettings, frame: Tensor, at_once: Tensor, generator: torch.Generator) -> Tensor:
    """Arcs through random points of the frame; in half of the frames all run side by side, 30 to 250 nm apart."""
    device, nm, n = frame.device, settings.pixel_size_nm, len(at_once)
    enough = (at_once / _MOST_PER_FILAMENT).ceil()
    number = torch.randint(1, 7, (n,), generator=generator, device=device).maximum(enough).clamp_max(_MOST_FILAMENTS)
    own = (torch.rand(len(frame), generator=generator, device=device) * number[frame]).long()
    arc = frame * _MOST_FILAMENTS + own
    arcs = n * _MOST_FILAMENTS
    origin = torch.rand(arcs, 2, generator=generator, device=device) * settings.patch_px
    angle = torch.rand(arcs, generator=generator, device=device) * math.tau
    curvature = torch.randn(arcs, generator=generator, device=device) * 0.01
    bundled = (torch.rand(n, generator=generator, device=device) < 0.5).repeat_interleave(_MOST_FILAMENTS)
    first = torch.arange(arcs, device=device) // _MOST_FILAMENTS * _MOST_FILAMENTS
    place = torch.arange(arcs, device=device) % _MOST_FILAMENTS
    gap = uniform((30.0, 250.0), n, generator).repeat_interleave(_MOST_FILAMENTS) / nm
    origin = torch.where(bundled[:, None], origin[first], origin)
    angle, curvature = torch.where(bundled, angle[first], angle), torch.where(bundled, curvature[first], curvature)
    aside = torch.where(bundled, place * gap, 0.0)

    length = 1.4 * (settings.patch_px + 2 * MARGIN_PX)
    along = (torch.rand(len(frame), generator=generator, device=device) - 0.5) * length
    wall = torch.cos(torch.rand(len(frame), generator=generator, device=device) * math.tau) * _TUBE_NM / nm
    across = wall + aside[arc] + curvature[arc] * along.square() / 2
    cosine, sine = angle.cos()[arc], angle.sin()[arc]
    return origin[arc] + torch.stack((along * cosine - across * sine, along * sine + across * cosine), -1)


def _spots(
    settings: DataSettings, frame: Tensor, size_nm: Range, at_once: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each emitter its cluster or ring: centre (N, 2) and size (N,) in pixels, and a number in [0, 1)."""
    device, n = frame.device, len(at_once)
    number = (at_once * uniform(_SPOTS_PER_EMITTER, n, generator)).ceil().clamp_min(1)
    own = (torch.rand(len(frame), generator=generator, device=device) * number[frame]).long()
    most = int(number.max()) if n else 1
    spot = frame * most + own
    centre = torch.rand(n * most, 2, generator=generator, device=device) * (settings.patch_px + 2 * MARGIN_PX)
    size = uniform(size_nm, n * most, generator) / settings.pixel_size_nm
    turn = torch.rand(n * most, generator=generator, device=device)
    return centre[spot] - MARGIN_PX, size[spot], turn[spot]


def _in_clusters(settings: DataSettings, frame: Tensor, at_once: Tensor, generator: torch.Generator) -> Tensor:
    centre, size, _ = _spots(settings, frame, _CLUSTER_NM, at_once, generator)
    return centre + torch.randn(len(frame), 2, generator=generator, device=frame.device) * size[:, None]


def _on_rings(settings: DataSettings, frame: Tensor, at_once: Tensor, generator: torch.Generator) -> Tensor:
    centre, radius, turn = _spots(settings, frame, _RING_NM, at_once, generator)
    corner = torch.randint(8, (len(frame),), generator=generator, device=frame.device) / 8
    angle = (turn + corner) * math.tau
    return centre + radius[:, None] * torch.stack((angle.cos(), angle.sin()), -1)
