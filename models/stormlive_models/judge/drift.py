"""How the sample moved during a run, from pictures of stretches of it, and the picture without that.

Cross-correlation of sub-pictures: Mlodzianoski et al., Optics Express 19, 15009 (2011); Wang et al., Optics Express 22,
15982 (2014). Here each stretch ("slab") is correlated with the sum of all others, shifted to where they are believed to
be: as robust as all pairs, at the cost of one transform per slab and turn.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

_SMOOTH_NM = 30.0
"""Below a camera pixel, whose grid a network may leave in the picture, where it would hold the drift at zero."""
_EVEN_NM = 400.0
_PIXEL_NM = 25.0
_TAPER = 0.25
_SEARCH_NM = 200.0
_REACH = 2
_SIGNIFICANT = 5.0

Shift = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Found:
    """How far a picture has moved, (x, y) in nm, and whether its peak stands out of the correlation's noise."""

    shift_nm: Shift
    significance: float

    @property
    def is_sure(self) -> bool:
        """Whether to believe it."""
        return self.significance >= _SIGNIFICANT


class Correlator:
    """Prepares pictures (Y, X) of one window and finds shifts between them.

    Parameters
    ----------
    shape : (int, int)
        Of the window, canvas pixels.
    pixel_nm : float
        Canvas pixel.
    """

    def __init__(self, shape: tuple[int, int], pixel_nm: float) -> None:
        self._bin = max(1, int(_PIXEL_NM / pixel_nm))
        self._pixel_nm = pixel_nm * self._bin
        self._shape = (shape[0] // self._bin, shape[1] // self._bin)
        height, width = self._shape
        # All of scipy.signal takes as long to import as everything else that a server needs.
        from scipy.signal.windows import tukey

        self._taper = tukey(height, _TAPER)[:, None] * tukey(width, _TAPER)
        # A margin of nothing, so that what leaves at one side does not meet the other.
        margin = math.ceil(2 * _SEARCH_NM / self._pixel_nm)
        self._padded = (next_fast_len(height + margin, real=True), next_fast_len(width + margin, real=True))
        self._fy = np.fft.fftfreq(self._padded[0], self._pixel_nm)[:, None]
        self._fx = np.fft.rfftfreq(self._padded[1], self._pixel_nm)
        square = 2 * math.pi**2 * (self._fy**2 + self._fx**2)
        self._pass = np.exp(-square * _SMOOTH_NM**2) * (1 - np.exp(-square * _EVEN_NM**2))

    def spectrum(self, picture: NDArray[np.floating]) -> NDArray[np.complex64]:
        """Return the transform of a picture, without its fine grain and its uneven brightness."""
        height, width = self._shape
        whole = picture[: height * self._bin, : width * self._bin].astype(np.float64)
        binned = whole.reshape(height, self._bin, width, self._bin).sum((1, 3))
        transform = rfft2((binned - binned.mean()) * self._taper, self._padded) * self._pass
        return np.asarray(transform, np.complex64)

    def moved(self, spectrum: NDArray[np.complex64], shift_nm: Shift) -> NDArray[np.complex64]:
        """Return the spectrum of the picture moved by (x, y)."""
        x, y = shift_nm
        along_y = np.exp(-2j * np.pi * self._fy * y).astype(np.complex64)
        along_x = np.exp(-2j * np.pi * self._fx * x).astype(np.complex64)
        return np.asarray((spectrum * along_y) * along_x, np.complex64)

    def shift(self, spectrum: NDArray[np.complex64], reference: NDArray[np.complex64], near: Shift = (0, 0)) -> Found:
        """Return how far a picture has moved against the reference; up to 200 nm from where it is believed, `near`."""
        rows, columns = self._padded
        product = self.moved(spectrum, (-near[0], -near[1])) * reference.conj()
        correlation = np.fft.fftshift(irfft2(product, self._padded))
        centre_y, centre_x = rows // 2, columns // 2
        reach = max(_REACH + 1, min(round(_SEARCH_NM / self._pixel_nm), rows // 2 - 3, columns // 2 - 3))
        part = correlation[centre_y - reach : centre_y + reach + 1, centre_x - reach : centre_x + reach + 1]
        row, column = np.unravel_index(int(part.argmax()), part.shape)
        noise = 1.4826 * float(np.median(np.abs(correlation - np.median(correlation))))
        significance = float(part[row, column]) / noise if noise > 0 else 0.0
        if not _REACH <= row < len(part) - _REACH or not _REACH <= column < len(part) - _REACH:
            return Found(shift_nm=near, significance=0.0)
        around = part[row - _REACH : row + _REACH + 1, column - _REACH : column + _REACH + 1]
        dx, dy = _peak(around)
        x = near[0] + (column - reach + dx) * self._pixel_nm
        y = near[1] + (row - reach + dy) * self._pixel_nm
        return Found(shift_nm=(x, y), significance=significance)


_OFFSETS = np.arange(-_REACH, _REACH + 1.0)
_GRID_Y, _GRID_X = (grid.ravel() for grid in np.meshgrid(_OFFSETS, _OFFSETS, indexing="ij"))
_QUADRATIC = np.linalg.pinv(
    np.stack((np.ones_like(_GRID_X), _GRID_X, _GRID_Y, _GRID_X**2, _GRID_X * _GRID_Y, _GRID_Y**2), 1)
)


def _peak(around: NDArray[np.floating]) -> tuple[float, float]:
    """Return where a surface of second degree through 5x5 values is highest, (x, y) from the middle, at most a pixel.

    Filaments of one direction make a ridge, of which the values along each axis alone would give another place.
    """
    _, x, y, xx, xy, yy = _QUADRATIC @ around.astype(np.float64).ravel()
    determinant = 4 * xx * yy - xy**2
    if determinant <= 0 or xx >= 0:
        return 0.0, 0.0
    dx, dy = (xy * y - 2 * yy * x) / determinant, (xy * x - 2 * xx * y) / determinant
    return float(np.clip(dx, -1, 1)), float(np.clip(dy, -1, 1))


def align(
    correlator: Correlator, spectra: list[NDArray[np.complex64]], start: list[Shift], turns: int = 1
) -> list[Found]:
    """Return how far each of the pictures has moved since the first one.

    A picture whose shift is not sure is believed to be where it was believed to be before.

    Parameters
    ----------
    spectra : list of ndarray
        Of `correlator`.
    start : list of (float, float)
        Where they are believed to be, (x, y) in nm; where the last ones are missing, they are believed to be where
        their predecessor is.
    turns : int
        How often each is compared with all others.
    """
    found = [Found(shift_nm=shift, significance=math.inf) for shift in start[: len(spectra)]]
    if not found:
        found = [Found(shift_nm=(0.0, 0.0), significance=math.inf)]
    back = [correlator.moved(s, _minus(f.shift_nm)) for s, f in zip(spectra, found, strict=False)]
    total = np.sum(back, 0)
    for spectrum in spectra[len(found) :]:
        here = correlator.shift(spectrum, total, found[-1].shift_nm)
        found.append(here if here.is_sure else Found(shift_nm=found[-1].shift_nm, significance=here.significance))
        back.append(correlator.moved(spectrum, _minus(found[-1].shift_nm)))
        total = total + back[-1]
    for _ in range(turns if len(spectra) > 2 else 0):
        for number, spectrum in enumerate(spectra):
            here = correlator.shift(spectrum, total - back[number], found[number].shift_nm)
            if here.is_sure:
                found[number] = here
                total = total - back[number]
                back[number] = correlator.moved(spectrum, _minus(here.shift_nm))
                total = total + back[number]
    x, y = found[0].shift_nm
    return [Found(shift_nm=(f.shift_nm[0] - x, f.shift_nm[1] - y), significance=f.significance) for f in found]


def _minus(shift: Shift) -> Shift:
    return -shift[0], -shift[1]
