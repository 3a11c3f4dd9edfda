import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormlive.wire.run_name import check_run_name, run_name_from
from stormlive_sim.errors import InputError


@pytest.mark.parametrize("name", ["cell 1", "µtubuli-2026", "a" * 100, "console", "com", "com10", "nul-1"])
def test_good_run_names(name: str) -> None:
    assert check_run_name(name) == name


NO_FOLDERS = ["", "..", ".hidden", "a/b", "a\\b", "C:", "a\nb", "a" * 101, "a\0", " ", "a ", "x.", "😀" * 100]
NO_FOLDERS += ["CON", "nul", "con.tif", "Lpt1.tar.gz", "COM¹", "aux .txt", "CONIN$"]


@pytest.mark.parametrize("name", [*NO_FOLDERS, None])
def test_run_names_that_are_no_folder(name: object) -> None:
    with pytest.raises(InputError, match="name"):
        check_run_name(name)


def test_a_lone_surrogate_is_no_run_name() -> None:
    with pytest.raises(InputError, match="name"):
        check_run_name("a\ud800")


@given(st.text(max_size=400) | st.sampled_from([*NO_FOLDERS, "a\ud800", "nul" + 150 * " ", "😀" * 99 + ". "]))
def test_every_text_gives_a_run_name(text: str) -> None:
    name = run_name_from(text)
    assert check_run_name(name) == name
    assert run_name_from(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cell 1", "cell 1"),
        (".hidden", "hidden"),
        ("CON", "CON_"),
        ("nul.ome.tif", "nul_.ome.tif"),
        ("aux .txt", "aux_.txt"),
        ("", "run"),
        (" .. ", "run"),
        ("x.", "x"),
        ("a/b:c", "a_b_c"),
        ("a\nb", "a b"),
        ("a" * 300, "a" * 100),
        ("😀" * 100, "😀" * 50),
    ],
)
def test_run_names_from_folders(text: str, name: str) -> None:
    assert run_name_from(text) == name
