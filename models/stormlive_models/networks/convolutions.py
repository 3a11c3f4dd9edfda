"""A network that is nothing but convolutions, to measure what a processor can do at most."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_CHANNELS, _LAYERS = 128, 4


class Convolutions(nn.Module):
    """Nothing but 3x3 convolutions of 128 features: as near to a processor's peak as convolutions come."""

    def __init__(self) -> None:
        super().__init__()
        self.runtime: Callable[[Tensor], Tensor] | None = None
        self.layers = nn.Sequential(*(nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1) for _ in range(_LAYERS)))

    def maps(self, x: Tensor) -> Tensor:
        """Return (B, 128, Y, X) of (B, 128, Y, X)."""
        result: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        return result

    def input_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (channels, rows, columns) of what `maps` gets."""
        return _CHANNELS, height, width
