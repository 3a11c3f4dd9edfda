import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormlive.wire.text import MAX_PATH_BYTES, check_path, one_line
from stormlive_sim.errors import InputError


@given(st.text(max_size=400), st.integers(10, 300))
def test_one_line(text: str, most: int) -> None:
    line = one_line(text, most)
    assert line.isprintable()
    assert len(line.encode()) <= most


def test_spaces_between_words_stay_and_line_breaks_are_one_space() -> None:
    assert one_line(" see /data/two  spaces/log\n\t at\x1b[31m once\n") == "see /data/two  spaces/log at [31m once"


@given(st.text(max_size=MAX_PATH_BYTES // 4))
def test_a_path_is_not_changed(text: str) -> None:
    assert check_path(text) == text


@pytest.mark.parametrize("path", ["/" + "µ" * 500, "/data/\udcff"])
def test_a_path_that_cannot_travel_is_refused(path: str) -> None:
    with pytest.raises(InputError, match=r"a path m.*(shorter|rename)") as caught:
        check_path(path)
    assert str(caught.value).isprintable()
