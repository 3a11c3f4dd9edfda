"""Patches of a few simulated frames, split for training and validation."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stormlive_models.training.data import sample_batch
from stormlive_models.training.recipe import DataSettings, EpochSettings
from stormlive_sim.emitters import Emitters
from stormlive_sim.errors import InputError

_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Square patches of simulated frames, cut when they are asked for.

    Attributes
    ----------
    frames : Tensor
        float32 (F, Y, X), photons.
    emitters : Emitters
        Of all the frames.
    corners : Tensor
        int64 (P, 3): frame, first row and first column of each patch.
    size : int
        Pixels along a patch's edge.
    pixel_size_nm : float
        Camera pixel.
    """

    frames: Tensor
    emitters: Emitters
    corners: Tensor
    size: int
    pixel_size_nm: float

    def __len__(self) -> int:
        return len(self.corners)

    def select(self, index: Tensor) -> "Patches":
        """Return some of the patches, of the same frames."""
        return Patches(**{**self.__dict__, "corners": self.corners[index]})

    def split(self, size: int) -> Iterator["Patches"]:
        """Yield the patches, `size` at a time."""
        for part in torch.arange(len(self), device=self.corners.device).split(size):  # type: ignore[no-untyped-call]
            yield self.select(part)

    def photons(self) -> Tensor:
        """Return what the patches show, (P, size, size)."""
        frame, row, column = self.corners.unbind(1)
        axis = torch.arange(self.size, device=self.frames.device)
        rows, columns = (row[:, None] + axis)[:, :, None], (column[:, None] + axis)[:, None, :]
        return self.frames[frame[:, None, None], rows, columns]

    def truth(self) -> Emitters:
        """Return the emitters inside each patch; `frame` is the patch, positions count from its corner."""
        _, row, column = self.corners.unbind(1)
        patch, emitter = self._inside().nonzero(as_tuple=True)
        return Emitters(
            frame=patch,
            x_nm=self.emitters.x_nm[emitter] - column[patch] * self.pixel_size_nm,
            y_nm=self.emitters.y_nm[emitter] - row[patch] * self.pixel_size_nm,
            photons=self.emitters.photons[emitter],
        )

    def count_emitters(self) -> Tensor:
        """Return the number of emitters inside each patch, (P,)."""
        return torch.cat([part._inside().sum(1) for part in self.split(_AT_ONCE)])

    def _inside(self) -> Tensor:
        x, y = self.emitters.x_nm / self.pixel_size_nm, self.emitters.y_nm / self.pixel_size_nm
        frame, row, column = self.corners[:, :, None].unbind(1)
        inside = (self.emitters.frame == frame) & (x >= column) & (x < column + self.size)
        return inside & (y >= row) & (y < row + self.size)


def cut_patches(data: DataSettings, settings: EpochSettings, generator: torch.Generator) -> tuple[Patches, Patches]:
    """Simulate the frames, cut the patches, and return those to train with and those to validate with.

    Parameters
    ----------
    data : DataSettings
        What is simulated; its `patch_px` is the size of the frames.
    settings : EpochSettings
        How many frames and patches, and of what size.
    generator : torch.Generator
        Source of randomness; its device is where everything happens.

    Raises
    ------
    InputError
        When the frames are smaller than the patches, or too few patches have enough emitters.
    """
    places = data.patch_px - settings.patch_px + 1
    if places < 1:
        raise InputError(
            f"patches of {settings.patch_px} px (epochs.patch_px) do not fit frames of {data.patch_px} px "
            "(data.patch_px); make the frames larger"
        )
    device = generator.device
    frames, emitters = sample_batch(data, settings.frames, generator)
    frame = torch.arange(settings.patches, device=device) % settings.frames
    corner = torch.randint(places, (settings.patches, 2), generator=generator, device=device)
    drawn = Patches(
        frames=frames,
        emitters=emitters,
        corners=torch.cat((frame[:, None], corner), 1),
        size=settings.patch_px,
        pixel_size_nm=data.pixel_size_nm,
    )
    usable = (drawn.count_emitters() >= settings.least_emitters).nonzero()[:, 0]
    usable = usable[torch.randperm(len(usable), generator=generator, device=device)]
    n_held_out = round(len(usable) * settings.validation_share)
    if not 0 < n_held_out < len(usable):
        raise InputError(
            f"{len(usable)} of {settings.patches} patches have at least {settings.least_emitters} emitters: too few to "
            "train and to validate with; ask for more patches (epochs.patches) or a higher density"
        )
    return drawn.select(usable[n_held_out:]), drawn.select(usable[:n_held_out])
