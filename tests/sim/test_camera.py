"""A movie camera shows the movie's own pixels: whole, in part, binned."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from stormlive_sim.camera import Camera, MovieCamera
from stormlive_sim.errors import InputError
from stormlive_sim.recording import Recording, write_movie

Cameras = Callable[..., tuple[MovieCamera, NDArray]]


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Cameras]:
    with ExitStack() as opened:

        def build(dtype: str = "uint16", **options: bool) -> tuple[MovieCamera, NDArray]:
            limit = 256 if dtype == "uint8" else 65536
            frames = np.random.default_rng(2).integers(0, limit, (5, 21, 34)).astype(dtype)
            write_movie(tmp_path / "movie.tif", frames, pixel_size_nm=100)
            recording = opened.enter_context(Recording.open(tmp_path / "movie.tif"))
            return MovieCamera(recording, **options), frames

        yield build


def shot(source: Camera, frame: int, region: tuple[int, int, int, int], binning: int, dtype: str) -> NDArray:
    x, y, w, h = region
    out = np.full((h, w), 99, dtype)
    source.render(frame, x, y, w, h, binning, 10.0, out)
    return out


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_full_frames_are_the_movie_in_any_order(camera: Cameras, dtype: str) -> None:
    source, frames = camera(dtype)
    assert source.shape == (21, 34)
    assert source.bit_depth == 8 * frames.itemsize
    assert source.n_frames == 5
    for i in (3, 0, 4, 3):
        assert np.array_equal(shot(source, i, (0, 0, 34, 21), 1, dtype), frames[i])


def test_regions_are_crops(camera: Cameras) -> None:
    source, frames = camera()
    assert np.array_equal(shot(source, 2, (5, 7, 11, 3), 1, "uint16"), frames[2, 7:10, 5:16])


@pytest.mark.parametrize("binning", [2, 4])
def test_binning_adds_counts_up_to_the_bit_depth(camera: Cameras, binning: int) -> None:
    source, frames = camera()
    w, h = 34 // binning, 21 // binning
    blocks = frames[1, : h * binning, : w * binning].astype(np.int64)
    expected = sum(blocks[i::binning, j::binning] for i in range(binning) for j in range(binning))
    assert (expected > 65535).any()
    whole = shot(source, 1, (0, 0, w, h), binning, "uint16")
    assert np.array_equal(whole, np.minimum(expected, 65535))
    # The region counts binned pixels.
    assert np.array_equal(shot(source, 1, (2, 1, 3, 4), binning, "uint16"), whole[1:5, 2:5])


def test_an_8_bit_movie_in_a_16_bit_core(camera: Cameras) -> None:
    source, frames = camera("uint8")
    assert np.array_equal(shot(source, 0, (0, 0, 34, 21), 1, "uint16"), frames[0])
    assert shot(source, 0, (0, 0, 8, 5), 4, "uint16").max() == 255


def test_a_16_bit_movie_does_not_fit_an_8_bit_core(camera: Cameras) -> None:
    source, _ = camera()
    with pytest.raises(InputError, match="PixelType to 16bit"):
        shot(source, 0, (0, 0, 34, 21), 1, "uint8")


def test_the_end_of_the_movie(camera: Cameras) -> None:
    source, frames = camera()
    with pytest.raises(InputError, match=r"has 5 frames.*acquire at most 5"):
        shot(source, 5, (0, 0, 34, 21), 1, "uint16")
    endless, _ = camera(loop=True)
    assert endless.n_frames is None
    assert np.array_equal(shot(endless, 12, (0, 0, 34, 21), 1, "uint16"), frames[2])


@pytest.mark.parametrize("region", [(0, 0, 35, 21), (30, 0, 5, 5), (-1, 0, 5, 5), (0, 20, 5, 2), (0, 0, 0, 5)])
def test_regions_beyond_the_sensor_are_refused(camera: Cameras, region: tuple[int, int, int, int]) -> None:
    source, _ = camera()
    with pytest.raises(InputError, match="within 34 × 21 pixels"):
        source.render(0, *region, 1, 10.0, np.zeros((max(region[3], 0), max(region[2], 0)), np.uint16))


def test_float_movies_are_not_camera_counts(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", np.zeros((5, 8, 8), np.float32))
    recording = Recording.open(tmp_path / "movie.tif")
    with pytest.raises(InputError, match="float32"):
        MovieCamera(recording)
