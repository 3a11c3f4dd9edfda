"""Which frames belong into one picture, and what it is called."""

import unicodedata
from pathlib import PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stormlive_sim.routes import name_of, route_of

ANY_AXES = st.dictionaries(
    st.sampled_from(["channel", "c", "position", "p", "z", "g", "row", "column", "view", "time", "img"])
    | st.text(max_size=64),
    st.integers(-(2**62), 2**62) | st.text(max_size=64),
    max_size=16,
)


@pytest.mark.parametrize(
    ("axes", "name"),
    [
        ({"time": 7, "channel": "Cy5", "z": 3}, "channel-Cy5_z-3"),
        ({"t": 1, "p": 0, "c": 2, "z": 10, "g": 4}, "c-2_p-0_g-4_z-10"),
        ({"row": -1, "column": 2, "time": 0}, "row--1_column-2"),
        ({"Channel": "488/561 dual", "frame": 3}, "channel-488_561_dual"),
        ({"position": "Färbung.1", "view": 0, "camera": "B"}, "camera-B_view-0_position-Färbung.1"),
        ({"position": "a/../../b\\c:d"}, "position-a_.._.._b_c_d"),
        ({"z": "\ud800\n"}, "z-_"),
        ({"time": 3, "img": 4, "Frame_Number": 2, "timepoints": 1, "n": 5}, "unnamed"),
        ({"time": 3, "Laser": "405", "z": 1}, "z-1_laser-405"),
        ({"time": 3, "angle": 30, "image_type": "phase"}, "angle-30_image_type-phase"),
        ({}, "unnamed"),
    ],
)
def test_all_that_does_not_count_frames_separates_whatever_a_program_calls_it(axes: dict, name: str) -> None:
    assert name_of(route_of(axes)) == name


def test_the_order_of_the_axes_and_the_type_of_a_number_do_not_matter() -> None:
    assert route_of({"z": 1, "time": 5, "channel": "A"}) == route_of({"channel": "A", "z": "1"})
    assert route_of({"z": 1, "channel": "A"}) != route_of({"z": 2, "channel": "A"})
    assert route_of({"channel": "a"}) != route_of({"channel": "A"})
    assert route_of({"p": 1}) != route_of({"c": 1})
    assert route_of({"b": 1, "a": 2}) == route_of({"a": 2, "b": 1})


@given(st.lists(ANY_AXES, max_size=12))
@example(
    [{"channel": value} for value in ("a", "A", "a/", "a:", "a\u0301", "á", "Á", "a~2", "ﬁ", "fi", "ı", "i", "x" * 64)]
)
@example([{"z": value} for value in (1, "1_", "1.", "1 ", "1__")])
def test_routes_that_differ_have_files_that_differ_on_every_system(frames: list[dict]) -> None:
    routes, names = list(dict.fromkeys(map(route_of, frames))), list[str]()
    for route in routes:
        names.append(name_of(route, names))
    for folded in (str.casefold, str.lower, str.upper):
        for form in ("NFC", "NFD", "NFKC"):
            assert len({unicodedata.normalize(form, folded(name)) for name in names}) == len(routes)
    for name in names:
        assert 0 < len(name.encode()) <= 64
        assert not set(name) & set('/\\:*?"<>|')
        assert name.isprintable()
        file = PureWindowsPath(f"superres_{name}.ome.tif")
        assert not file.is_reserved()
        assert file.name == str(file)
