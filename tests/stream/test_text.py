from hypothesis import given
from hypothesis import strategies as st

from stormlive.wire.text import one_line


@given(st.text(max_size=400), st.integers(10, 300))
def test_one_line(text: str, most: int) -> None:
    line = one_line(text, most)
    assert line.isprintable()
    assert len(line.encode()) <= most
