import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stormlive.viewer.view import EVERYTHING, FINEST, Visible

visible_parts = st.builds(
    Visible,
    x_nm=st.floats(-1e5, 1e5),
    y_nm=st.floats(-1e5, 1e5),
    width_nm=st.floats(1, 2e5),
    height_nm=st.floats(1, 2e5),
    nm_per_screen_px=st.floats(0.01, 1e4),
)


@given(visible_parts, st.tuples(st.integers(1, 5000), st.integers(1, 5000)), st.integers(1, 8))
def test_a_request_lies_in_its_level_and_covers_what_is_seen(
    part: Visible, shape: tuple[int, int], levels: int
) -> None:
    level, (top, left, height, width) = part.level_and_rectangle(shape=shape, pixel_size_nm=12.5, levels=levels)
    rows, columns = (-(-side // 2**level) for side in shape)
    assert 0 <= level < levels
    assert 0 <= top < top + height <= rows
    assert 0 <= left < left + width <= columns
    size_nm = 12.5 * 2**level
    for start, count, seen, seen_length, most in (
        (top, height, part.y_nm, part.height_nm, rows),
        (left, width, part.x_nm, part.width_nm, columns),
    ):
        if seen < most * size_nm and seen + seen_length > 0:
            assert start * size_nm <= max(seen, 0) * (1 + 1e-9)
            end_nm = min(seen + seen_length, most * size_nm)
            assert (start + count) * size_nm >= end_nm * (1 - 1e-9)


@given(visible_parts)
def test_the_level_is_the_finest_that_the_screen_can_show(part: Visible) -> None:
    level, _ = part.level_and_rectangle(shape=(4096, 4096), pixel_size_nm=12.5, levels=6)
    pixels_of_the_screen = 12.5 * 2**level / part.nm_per_screen_px
    assert pixels_of_the_screen > 0.999 / FINEST or level == 5
    assert pixels_of_the_screen < 2 / FINEST or level == 0


def test_a_window_that_knows_no_field_asks_for_all_of_it() -> None:
    request = EVERYTHING.level_and_rectangle(shape=(1000, 700), pixel_size_nm=12.5, levels=4)
    assert request == (3, (0, 0, 125, int(np.ceil(700 / 8))))
