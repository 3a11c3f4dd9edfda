"""How values become colours, as the user has chosen it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormlive.output.display import GAMMA, SUPERRES_COLORMAP, WIDEFIELD_COLORMAP, auto_contrast
from stormlive.wire.viewing import CONTRAST_PERCENTILES, Contrast

# Perceptually uniform and dark at zero first; then those that people know from elsewhere.
COLORMAPS = ("inferno", "magma", "viridis", "cividis", "gray", "hot", "green", "cyan", "magenta")

PERCENTILE = 99.5


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours and contrast of a picture.

    Attributes
    ----------
    colormap : str
        A name that `cmap` knows.
    gamma : float
        Exponent between value and brightness.
    percentile : float
        Of the values, what is shown as white with automatic contrast.
    limits : tuple of float or None
        What is shown as black and white, by hand: per unit of area, so that they mean the same at every zoom.
    """

    colormap: str
    gamma: float = GAMMA
    percentile: float = PERCENTILE
    limits: tuple[float, float] | None = None

    def contrast(
        self, pixels: NDArray[np.float32], units_per_pixel: float, known: Contrast | None = None
    ) -> tuple[float, float]:
        """Return the values of `pixels` to show as black and white; each has `units_per_pixel` units of area.

        The automatic contrast is that of the whole picture where it is `known`, otherwise that of these pixels.
        """
        if self.limits is not None:
            low, high = (limit * units_per_pixel for limit in self.limits)
            return low, max(high, low + 1e-12 * max(1.0, abs(low)))
        if known is not None:
            low, high = (
                float(np.interp(self.percentile, CONTRAST_PERCENTILES, ends)) for ends in zip(*known, strict=True)
            )
            return low, high
        return auto_contrast(pixels, percentile=self.percentile)


WIDEFIELD = Look(colormap=WIDEFIELD_COLORMAP)
SUPERRES = Look(colormap=SUPERRES_COLORMAP)
