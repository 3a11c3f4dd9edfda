"""Movies in Zarr: every frame where its axes say, read in pieces, and clear words for what is no movie."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr

from stormlive_sim import zarr_recording
from stormlive_sim.errors import InputError
from stormlive_sim.recording import Recording
from stormlive_sim.routes import name_of

# T, C, Z, Y, X
STACK = np.random.default_rng(0).integers(90, 500, (7, 2, 3, 9, 11)).astype(np.uint16)


def write(path: Path, data: np.ndarray, chunks: tuple[int, ...], **more: Any) -> Path:  # noqa: ANN401
    zarr.create_array(path, shape=data.shape, chunks=chunks, dtype=data.dtype, **more)[:] = data
    return path


def write_ome(path: Path, version: Literal[2, 3]) -> Path:
    group = zarr.create_group(path, zarr_format=version)
    # Chunks that cut the frames too, and of which the last is partial.
    group.create_array("0", shape=STACK.shape, chunks=(3, 1, 1, 9, 6), dtype=STACK.dtype)[:] = STACK
    picture = [{"axes": [{"name": name} for name in "tczyx"], "datasets": [{"path": "0"}]}]
    group.attrs.update({"multiscales": picture} if version == 2 else {"ome": {"multiscales": picture}})
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("most_held", [2**28, 1])
def test_every_frame_of_an_ome_zarr_is_in_its_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: Literal[2, 3], most_held: int
) -> None:
    monkeypatch.setattr(zarr_recording, "_MOST_HELD_BYTES", most_held)
    parts = Recording.open_each(write_ome(tmp_path / "cell.ome.zarr", version))
    assert [name_of(route) for route in parts] == [f"c-{c}_z-{z}" for c in range(2) for z in range(3)]
    for (c, z), movie in zip(np.ndindex(2, 3), parts.values(), strict=True):
        assert (movie.shape, movie.dtype, movie.name) == ((7, 9, 11), np.uint16, f"cell c-{c}_z-{z}")
        for first, frames in movie.blocks(4, 1):
            assert (frames == STACK[first : first + 4, c, z]).all()
        assert (movie.frame(5) == STACK[5, c, z]).all()
    with pytest.raises(InputError, match="6 channels"):
        Recording.open(tmp_path / "cell.ome.zarr")


def test_a_bare_array_is_a_movie_and_all_that_counts_frames_is_time(tmp_path: Path) -> None:
    plain = Recording.open(write(tmp_path / "plain.zarr", STACK[:, 0, 0].astype(">i2"), (2, 9, 11)))
    assert (plain.shape, plain.dtype) == ((7, 9, 11), np.uint16)
    assert (plain.frame(6) == STACK[6, 0, 0]).all()
    names = ("repeat", "time", "y", "x")
    twice = Recording.open(write(tmp_path / "twice.zarr", STACK[:, 0], (2, 2, 9, 11), dimension_names=names))
    assert len(twice) == 21
    path = write(tmp_path / "rounds.zarr", STACK[:, 0], (2, 2, 9, 11), dimension_names=("round", *names[1:]))
    assert [len(movie) for movie in Recording.open_each(path).values()] == [3] * 7
    with pytest.raises(InputError, match="7 channels, positions, z or other places"):
        Recording.open(path)
    assert (np.concatenate([frames for _, frames in twice.blocks(5)]) == STACK[:, 0].reshape(21, 9, 11)).all()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (STACK[0], "named axes"),
        (STACK[:, 0, 0].astype(np.complex64), "grey frames"),
        (STACK[:, 0, 0].astype(np.int16) - 200, "0 or more"),
        (np.full((2, 4, 4), np.nan, np.float32), "finite"),
    ],
)
def test_what_is_no_movie_is_refused(tmp_path: Path, data: np.ndarray, word: str) -> None:
    path = write(tmp_path / "m.zarr", data, data.shape)
    with pytest.raises(InputError, match=word):
        Recording.open(path).frame(0)


def test_damage_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "m.zarr", STACK[:, 0, 0], (2, 9, 11))
    chunk = next(file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")
    chunk.write_bytes(b"?" * 10)
    with Recording.open(path) as movie, pytest.raises(InputError, match=r"could not read frame .*copy the movie again"):
        list(movie.blocks(3))
    (path / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="no readable Zarr folder"):
        Recording.open(path)


def test_a_group_without_a_picture_names_what_is_in_it(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g.zarr")
    for name in ("p0", "p1"):
        group.create_array(name, shape=(2, 4, 4), dtype="uint16")
    with pytest.raises(InputError, match="p0, p1"):
        Recording.open(tmp_path / "g.zarr")
