"""What can be read off a picture: sum and density in a rectangle, the profile along a line and its width."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from stormlive.viewer.view import Picture

_MOST_POINTS = 4000
_MOST_LINES = 200
_NM2_PER_UM2 = 1e6


@dataclass(frozen=True, kw_only=True)
class Region:
    """What a rectangle of a picture holds.

    Attributes
    ----------
    width_nm, height_nm : float
        Of the pixels that were summed: those whose centres lie in the rectangle.
    total, peak : float
        Sum of the values, and the largest of them.
    pixel_size_nm : float
        Of the picture.
    """

    width_nm: float
    height_nm: float
    total: float
    peak: float
    pixel_size_nm: float

    @property
    def area_um2(self) -> float:
        """Its area."""
        return self.width_nm * self.height_nm / _NM2_PER_UM2


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Values (N,) of a picture along a line, at the distances `at_nm` from its beginning."""

    at_nm: NDArray[np.float64]
    values: NDArray[np.float64]


def camera_region(
    rectangle: tuple[float, float, float, float], field_nm: tuple[float, float], camera_nm: float
) -> tuple[int, int, int, int]:
    """Return (x, y, width, height) of the camera's pixels under a rectangle (x, y, x, y) in nm, within the field."""
    x, y = (math.floor(max(0.0, edge) / camera_nm) for edge in rectangle[:2])
    ends = (min(edge, side) for edge, side in zip(rectangle[2:], reversed(field_nm), strict=True))
    width, height = (math.ceil(end / camera_nm) - first for end, first in zip(ends, (x, y), strict=True))
    return x, y, max(1, width), max(1, height)


def region_of(picture: Picture, rectangle: tuple[float, float, float, float]) -> Region | None:
    """Return what a rectangle (x, y, x, y) in nm holds; None where it holds no pixel of the picture."""
    size_nm = picture.pixel_size_nm
    rows, columns = picture.pixels.shape
    spans = []
    for start, end, origin, count in (
        (rectangle[1], rectangle[3], picture.y_nm, rows),
        (rectangle[0], rectangle[2], picture.x_nm, columns),
    ):
        low, high = sorted((start, end))
        first, last = (math.ceil((edge - origin) / size_nm - 0.5) for edge in (low, high))
        spans.append((max(0, first), min(count, last)))
    (top, bottom), (left, right) = spans
    if top >= bottom or left >= right:
        return None
    part = picture.pixels[top:bottom, left:right]
    return Region(
        width_nm=(right - left) * size_nm,
        height_nm=(bottom - top) * size_nm,
        total=float(np.nansum(part, dtype=np.float64)),
        peak=float(np.nan_to_num(part).max()),
        pixel_size_nm=size_nm,
    )


def profile_of(picture: Picture, line: tuple[float, float, float, float], width_nm: float = 0.0) -> Profile:
    """Return the profile along a line (x, y, x, y) in nm, the mean over a band of `width_nm` around it.

    Values between pixel centres are interpolated; outside the picture they are 0.
    """
    size_nm = picture.pixel_size_nm
    x, y = line[2] - line[0], line[3] - line[1]
    length = math.hypot(x, y)
    n = min(max(2, math.ceil(2 * length / size_nm) + 1), _MOST_POINTS)
    share = np.linspace(0.0, 1.0, n)
    lines = min(max(1, round(2 * width_nm / size_nm)), _MOST_LINES)
    aside = (np.arange(lines) + 0.5) / lines * width_nm - width_nm / 2
    across_x, across_y = (-y / length, x / length) if length else (0.0, 0.0)
    at_x = line[0] + share[None] * x + aside[:, None] * across_x
    at_y = line[1] + share[None] * y + aside[:, None] * across_y
    places = [(at_y - picture.y_nm) / size_nm - 0.5, (at_x - picture.x_nm) / size_nm - 0.5]
    values = map_coordinates(np.nan_to_num(picture.pixels), places, np.float64, order=1, mode="constant")
    return Profile(at_nm=share * length, values=values.mean(0))


def fwhm_nm(profile: Profile) -> float | None:
    """Return the full width at half maximum of a profile's highest peak above its lowest value.

    None where it does not fall to the half on both sides.
    """
    at, values = profile.at_nm, profile.values
    top = int(values.argmax())
    low = float(values.min())
    half = (low + float(values[top])) / 2
    if not values[top] > low:
        return None
    left = np.flatnonzero(values[:top] <= half)
    right = np.flatnonzero(values[top:] <= half)
    if not left.size or not right.size:
        return None
    a, b = int(left[-1]), top + int(right[0])
    begin = np.interp(half, values[a : a + 2], at[a : a + 2])
    end = np.interp(-half, -values[b - 1 : b + 1], at[b - 1 : b + 1])
    return float(end - begin)
