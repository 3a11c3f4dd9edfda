import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormlive.viewer.measure import Profile, camera_region, fwhm_nm, profile_of, region_of
from stormlive.viewer.saving import cut
from stormlive.viewer.view import Picture, Visible

PICTURE = Picture(
    pixels=np.random.default_rng(2).random((40, 60)).astype(np.float32), pixel_size_nm=12.5, x_nm=250.0, y_nm=500.0
)
places = st.floats(-500, 2000)


@given(places, places, places, places)
def test_a_region_holds_the_pixels_whose_centres_lie_in_it(x0: float, y0: float, x1: float, y1: float) -> None:
    found = region_of(PICTURE, (x0, y0, x1, y1))
    x = 250 + 12.5 * (np.arange(60) + 0.5)
    y = 500 + 12.5 * (np.arange(40) + 0.5)
    inside = np.ix_((y >= min(y0, y1)) & (y < max(y0, y1)), (x >= min(x0, x1)) & (x < max(x0, x1)))
    part = PICTURE.pixels[inside]
    if found is None:
        assert part.size == 0
        return
    assert found.total == pytest.approx(part.sum(dtype=np.float64))
    assert found.peak == part.max()
    assert found.area_um2 == pytest.approx(part.size * 12.5**2 / 1e6)


@given(st.tuples(places, places, st.floats(1, 2000), st.floats(1, 2000)))
def test_a_camera_region_holds_the_rectangle_as_far_as_there_are_pixels(box: tuple[float, ...]) -> None:
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    x, y, width, height = camera_region((left, top, right, bottom), (1000.0, 1500.0), 100.0)
    assert min(x, y) >= 0
    assert min(width, height) >= 1
    for start, end, first, count, side in ((left, right, x, width, 15), (top, bottom, y, height, 10)):
        if start < 100 * side and end > 0:
            assert first + count <= side
            assert 100 * first <= max(start, 0)
            assert 100 * (first + count) >= min(end, 100 * side)


def test_two_halves_hold_what_the_whole_holds() -> None:
    whole = region_of(PICTURE, (0, 0, 2000, 2000))
    halves = [region_of(PICTURE, (0, 0, 600, 2000)), region_of(PICTURE, (600, 0, 2000, 2000))]
    assert sum(half.total for half in halves) == pytest.approx(whole.total)
    assert whole.total == pytest.approx(PICTURE.pixels.sum(dtype=np.float64))


@given(st.floats(20, 60), st.floats(0, 2 * math.pi), st.floats(0, 300))
def test_the_width_of_a_line_of_known_width_is_found_at_any_angle(
    sigma_nm: float, angle: float, width_nm: float
) -> None:
    y, x = (np.indices((200, 200)) + 0.5) * 10
    across = (x - 1000) * math.cos(angle) + (y - 1000) * math.sin(angle)
    pixels = (3 + 50 * np.exp(-(across**2) / (2 * sigma_nm**2))).astype(np.float32)
    reach_x, reach_y = 500 * math.cos(angle), 500 * math.sin(angle)
    profile = profile_of(
        Picture(pixels=pixels, pixel_size_nm=10),
        (1000 - reach_x, 1000 - reach_y, 1000 + reach_x, 1000 + reach_y),
        width_nm,
    )
    assert profile.at_nm[-1] == pytest.approx(1000)
    assert fwhm_nm(profile) == pytest.approx(2.3548 * sigma_nm, rel=0.05)


def test_a_band_takes_the_mean_of_what_lies_beside_the_line() -> None:
    pixels = np.zeros((100, 100), np.float32)
    pixels[40:60] = np.arange(20)[:, None]
    picture = Picture(pixels=pixels, pixel_size_nm=10)
    profile = profile_of(picture, (200, 500, 800, 500), width_nm=200)
    assert profile.values == pytest.approx(np.full(len(profile.values), 9.5), abs=0.3)


@pytest.mark.parametrize("values", [[1, 1, 1], [0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 0]])
def test_what_has_no_peak_has_no_width(values: list[float]) -> None:
    y = np.array(values, float)
    assert fwhm_nm(Profile(at_nm=np.arange(len(y), dtype=float), values=y)) is None


def test_a_line_of_no_length_is_no_trouble() -> None:
    profile = profile_of(PICTURE, (300, 600, 300, 600), width_nm=50)
    assert fwhm_nm(profile) is None


@given(places, places, st.floats(1, 2000), st.floats(1, 2000))
def test_what_is_cut_out_covers_what_is_in_sight(x: float, y: float, width: float, height: float) -> None:
    part = Visible(x_nm=x, y_nm=y, width_nm=width, height_nm=height, nm_per_screen_px=1)
    found = cut(PICTURE, part)
    if found is None:
        assert x >= 1000 or x + width <= 250 or y >= 1000 or y + height <= 500
        return
    rows, columns = found.pixels.shape
    assert found.x_nm <= max(x, 250) + 1e-6
    assert found.x_nm + columns * 12.5 >= min(x + width, 1000) - 1e-6
    assert found.y_nm <= max(y, 500) + 1e-6
    assert found.y_nm + rows * 12.5 >= min(y + height, 1000) - 1e-6
    top, left = round((found.y_nm - 500) / 12.5), round((found.x_nm - 250) / 12.5)
    assert (found.pixels == PICTURE.pixels[top : top + rows, left : left + columns]).all()
