"""Light that is not an emitter's own: the beam's profile and the haze from out of focus."""

import math

import torch
from scipy import ndimage
from torch import Tensor


def beam_profile(x_nm: Tensor, y_nm: Tensor, field_nm: tuple[float, float], fwhm_um: float) -> Tensor:
    """Return the illumination at some places relative to the centre of the field, where a Gaussian beam peaks.

    Parameters
    ----------
    x_nm, y_nm : Tensor
        Places in the field, broadcastable.
    field_nm : tuple of float
        Field (y, x).
    fwhm_um : float
        Full width of the beam at half of its maximum; infinite: even illumination.
    """
    square_nm = (x_nm - field_nm[1] / 2).square() + (y_nm - field_nm[0] / 2).square()
    return torch.exp(-4 * math.log(2) * square_nm / (1000 * fwhm_um) ** 2)


class Haze:
    """Light of labels far out of focus: a wide blur that follows the structure and moves with it.

    Parameters
    ----------
    sites_nm : Tensor
        float32 (L, 2), (x, y) of the labels; the origin is the corner of the sample.
    shape : tuple of int
        Sample (Y, X) in pixels; it goes round, as it does for `Scene`.
    pixel_size_nm : float
        Pixel.
    sigma_nm : float
        Standard deviation of the blur, much wider than a pixel.
    """

    def __init__(self, sites_nm: Tensor, shape: tuple[int, int], pixel_size_nm: float, sigma_nm: float) -> None:
        column, row = (sites_nm / pixel_size_nm).long().unbind(1)
        index = row.clamp(0, shape[0] - 1) * shape[1] + column.clamp(0, shape[1] - 1)
        labels = torch.bincount(index, minlength=shape[0] * shape[1]).reshape(shape).double()
        blurred = ndimage.gaussian_filter(labels.numpy(), sigma_nm / pixel_size_nm, mode="wrap")
        self._image = blurred / blurred.mean()

    def image(self, x_px: float, y_px: float) -> Tensor:
        """Return the haze over the whole sample, float32 (Y, X) of mean one, moved by some pixels."""
        return torch.from_numpy(ndimage.shift(self._image, (y_px, x_px), order=1, mode="grid-wrap")).float()
