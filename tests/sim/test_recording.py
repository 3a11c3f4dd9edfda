"""A recording delivers exactly the pixels that were recorded, or says in one line why it cannot."""

import errno
import logging
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from stormlive_sim.errors import InputError
from stormlive_sim.recording import Recording, write_movie


def movie(n: int = 7, shape: tuple[int, int] = (20, 30), dtype: str = "uint16") -> NDArray:
    values = np.random.default_rng(1).integers(0, 200 if dtype == "uint8" else 30000, (n, *shape))
    return values.astype(dtype)


def save(path: Path, frames: NDArray, **options: object) -> None:
    # Without it tifffile takes three or four frames for colour planes.
    tifffile.imwrite(path, frames, **{"photometric": "minisblack", **options})


def read_all(path: Path | list[Path]) -> NDArray:
    with Recording.open(path) as recording:
        return np.concatenate([block for _, block in recording.blocks(3)])


def refused(path: Path | list[Path], *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_all(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ome": True, "metadata": {"axes": "TYX"}},
        {"imagej": True, "metadata": {"axes": "TYX"}},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"metadata": None},
        {"truncate": True},
        {"imagej": True, "truncate": True, "metadata": {"axes": "TYX"}},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"tile": (16, 16)},
        {"rowsperstrip": 3},
    ],
    ids=str,
)
def test_every_kind_of_tiff_reads_as_it_was_written(tmp_path: Path, options: dict) -> None:
    frames = movie()
    path = tmp_path / "movie.tif"
    save(path, frames, **options)
    assert np.array_equal(read_all(path), frames)


@pytest.mark.parametrize(
    ("stored", "delivered"),
    [
        ("uint8", "uint8"),
        ("uint16", "uint16"),
        ("int16", "uint16"),
        ("float32", "float32"),
        ("float64", "float32"),
    ],
)
def test_pixel_types(tmp_path: Path, stored: str, delivered: str) -> None:
    frames = movie(dtype=stored)
    save(tmp_path / "movie.tif", frames)
    with Recording.open(tmp_path / "movie.tif") as recording:
        assert recording.dtype == delivered
        out = np.empty(recording.shape[1:], recording.dtype)
        assert recording.frame(4, out=out) is out
        assert np.array_equal(out, frames[4].astype(delivered))
        assert recording.shape == (7, 20, 30)
        assert recording.name == "movie"


def test_blocks_cover_the_movie_once(tmp_path: Path) -> None:
    save(tmp_path / "movie.tif", movie(7))
    with Recording.open(tmp_path / "movie.tif") as recording:
        assert [(start, len(block)) for start, block in recording.blocks(3)] == [(0, 3), (3, 3), (6, 1)]


def test_several_files_are_one_movie_in_the_order_given(tmp_path: Path) -> None:
    frames = movie(9)
    paths = [tmp_path / "b.tif", tmp_path / "a.tif"]
    save(paths[0], frames[:4])
    save(paths[1], frames[4:])
    assert np.array_equal(read_all(paths), frames)
    with Recording.open(paths) as recording:  # going to and fro between the files
        assert np.array_equal(recording.frame(8), frames[8])
        assert np.array_equal(recording.frame(0), frames[0])


def test_ome_set_of_files_is_read_whole_and_refused_in_part(tmp_path: Path) -> None:
    frames = movie(6)
    names = ["set.ome.tif", "set_1.ome.tif"]
    data = "".join(
        f'<TiffData FirstT="{first}" IFD="0" PlaneCount="3"><UUID FileName="{name}">urn:uuid:{first}</UUID></TiffData>'
        for name, first in zip(names, (0, 3), strict=True)
    )
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="30" SizeY="20" '
        f'SizeC="1" SizeZ="1" SizeT="6">{data}'
        "</Pixels></Image></OME>"
    )
    for name, part in zip(names, (frames[:3], frames[3:]), strict=True):
        with tifffile.TiffWriter(tmp_path / name) as tiff:
            for frame in part:
                tiff.write(frame, description=xml, metadata=None, contiguous=False)
    assert np.array_equal(read_all(tmp_path / names[0]), frames)
    assert np.array_equal(read_all([tmp_path / name for name in names]), frames)
    (tmp_path / names[1]).unlink()
    refused(tmp_path / names[0], "set_1.ome.tif", "missing")


@pytest.mark.parametrize(
    "options",
    [{}, {"imagej": True, "metadata": {"axes": "TYX"}}, {"compression": "zlib"}],
    ids=str,
)
def test_a_file_cut_short_anywhere_is_refused(
    tmp_path: Path, options: dict, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    frames = movie(5)
    path = tmp_path / "movie.tif"
    save(path, frames, **options)
    whole = path.read_bytes()
    caplog.set_level(logging.DEBUG)
    for size in range(1, len(whole), 97):
        path.write_bytes(whole[:size])
        refused(path, str(path))
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("imagej", [False, True])
def test_a_cut_file_tells_how_many_frames_are_intact(tmp_path: Path, imagej: bool) -> None:
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path, imagej=imagej) as tiff:
        if imagej:
            tiff.write(movie(10), metadata={"axes": "TYX"})
        else:
            for frame in movie(10):
                tiff.write(frame, metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[0] if imagej else tiff.pages[6].dataoffsets[0]
    keep = offset + 6 * 1200 + 100 if imagej else offset + 100
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "cut short", "6 of 10 frames are intact" if imagej else "6 frames are intact")


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    save(path, movie(200))
    with Recording.open(path) as recording:
        recording.frame(0)
        with path.open("rb+") as file:
            file.truncate(path.stat().st_size // 2)
        with pytest.raises(InputError, match="frame 199 is cut off"):
            recording.frame(199)


def test_damaged_directories_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    # A directory that names itself as its successor.
    loop = struct.pack("<2sHIH", b"II", 42, 8, 9)
    for tag, kind, value in ((256, 3, 1), (257, 3, 1), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8)):
        loop += struct.pack("<HHII", tag, kind, 1, value)
    for tag, value in ((277, 1), (278, 1), (279, 1)):
        loop += struct.pack("<HHII", tag, 3, 1, value)
    path.write_bytes(loop + struct.pack("<I", 8))
    refused(path, "damaged", "1 intact")
    # The zeros of a preallocated file whose writer was killed.
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 64) + bytes(500))
    refused(path, "damaged", "0 intact")


def test_a_count_beyond_all_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    save(path, movie(3), bigtiff=True)
    with tifffile.TiffFile(path) as tiff:
        tags = [tiff.pages[1].tags[name].offset for name in ("StripOffsets", "ImageWidth")]
    whole = path.read_bytes()
    for count in (2**20, 2**61, 2**63, 2**64 - 1):
        for offset in tags:
            data = bytearray(whole)
            struct.pack_into("<Q", data, offset + 4, count)
            path.write_bytes(data)
            refused(path, str(path), "1 frames are intact")


@pytest.mark.parametrize(
    "text",
    [
        '<?xml version="1.0" encoding="klingon"?><OME><Pixels SizeT="3"/></OME>',
        '<?xml version="1.0" encoding="utf-32"?><OME><Pixels SizeT="3"/></OME>',
        '<OME><Pixels SizeT="many"/></OME>',
        '<OME><Pixels SizeT="-3"/></OME>',
        '<OME><Pixels SizeZ=""/></OME>',
        '<OME><Pixels SizeT="3"><TiffData FirstT="one"/></Pixels></OME>',
        '<OME><Pixels SizeT="3"><TiffData><UUID FileName="/"/></TiffData></Pixels></OME>',
        "<OME><Pixels",
        "ImageJ=1.54\nimages=\u00b2\n",
        '{"shape": [1e999, 20, 30]}',
        '{"shape": [-3, 20, 30], "truncated": true}',
        '{"shape": ' + "[" * 100_000,
    ],
    ids=lambda text: text[:60],
)
def test_a_description_that_makes_no_sense_counts_as_none(tmp_path: Path, text: str) -> None:
    frames = movie(3)
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as tiff:
        for frame in frames:
            tiff.write(frame, description=text.encode(), metadata=None, contiguous=False)
    assert np.array_equal(read_all(path), frames)


def test_compressed_data_that_does_not_decode(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    save(path, movie(3), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[1].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = bytes(40)
    path.write_bytes(data)
    refused(path, "frame 1", "decode")


def test_what_is_not_a_movie(tmp_path: Path) -> None:
    refused(tmp_path / "absent.tif", "no such file", "absent.tif")
    (tmp_path / "empty.tif").touch()
    refused(tmp_path / "empty.tif", "empty")
    (tmp_path / "text.tif").write_text("x,y\n1,2\n")
    refused(tmp_path / "text.tif", "not a TIFF")
    refused(tmp_path, "NDTiff.index")
    refused([], "none")
    refused([tmp_path, tmp_path / "empty.tif"], "folder")


def test_colour_channels_and_z_stacks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    save(path, np.zeros((4, 20, 30, 3), np.uint8), photometric="rgb")
    refused(path, "RGB", "3 samples", "frame 0")
    for options in ({"imagej": True}, {"ome": True}):
        save(path, np.zeros((4, 2, 20, 30), np.uint16), metadata={"axes": "TCYX"}, **options)
        refused(path, "2 channels")
        save(path, np.zeros((4, 5, 20, 30), np.uint16), metadata={"axes": "TZYX"}, **options)
        refused(path, "5 slices × 4 frames")
    save(path, np.zeros((4, 2, 20, 30), np.uint16))
    refused(path, "4 × 2 × 20 × 30")


@pytest.mark.parametrize("dtype", ["complex64", "int64", "uint64", "uint32", "int32", "int8"])
def test_pixel_types_that_no_camera_delivers(tmp_path: Path, dtype: str) -> None:
    save(tmp_path / "movie.tif", np.zeros((2, 20, 30), dtype))
    refused(tmp_path / "movie.tif", "expected pixels of uint8")


def test_frames_that_differ(tmp_path: Path) -> None:
    for other in (np.zeros((20, 31), np.uint16), np.zeros((20, 30), np.uint8)):
        path = tmp_path / "movie.tif"
        with tifffile.TiffWriter(path) as tiff:
            for frame in (*movie(4), other):
                tiff.write(frame, metadata=None, contiguous=False)
        refused(path, "at frame 4", "30 × 20 pixels of uint16")
        save(tmp_path / "a.tif", movie(2))
        save(tmp_path / "b.tif", np.stack([other, other]))
        refused([tmp_path / "a.tif", tmp_path / "b.tif"], "b.tif", "30 × 20 pixels of uint16")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_pixels_are_named(tmp_path: Path, dtype: str, bad: float) -> None:
    frames = movie(4, dtype=dtype)
    frames[2, 5, 11] = bad
    save(tmp_path / "movie.tif", frames)
    refused(tmp_path / "movie.tif", "frame 2", "x 11, y 5", str(bad))


def test_negative_and_too_large_values(tmp_path: Path) -> None:
    frames = movie(4, dtype="int16")
    frames[3, 1, 2] = -7
    save(tmp_path / "movie.tif", frames)
    refused(tmp_path / "movie.tif", "-7", "frame 3", "x 2, y 1")
    save(tmp_path / "movie.tif", np.full((1, 20, 30), 1e300))
    refused(tmp_path / "movie.tif", "inf", "frame 0")


def test_frame_numbers_are_checked(tmp_path: Path) -> None:
    save(tmp_path / "movie.tif", movie(3))
    with Recording.open(tmp_path / "movie.tif") as recording:
        for wrong in (-1, 3):
            with pytest.raises(InputError, match="0 to 2"):
                recording.frame(wrong)
        with pytest.raises(ValueError, match="expected out"):
            recording.frame(0, out=np.empty((20, 30), np.uint8))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_written_movies_carry_pixels_and_pixel_size(tmp_path: Path, dtype: str) -> None:
    frames = movie(5, dtype=dtype)
    path = tmp_path / "movie.ome.tif"
    write_movie(path, (frame for frame in frames), n_frames=5, pixel_size_nm=108.3, exposure_ms=10)
    assert np.array_equal(read_all(path), frames)
    with tifffile.TiffFile(path) as tiff:
        assert 'PhysicalSizeX="0.1083"' in str(tiff.ome_metadata)
        per_cm, divisor = tiff.pages[0].tags["XResolution"].value
        assert divisor / per_cm * 1e7 == pytest.approx(108.3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["movie.ome.tif"]


@pytest.mark.parametrize("n_frames", [4, 6])
def test_a_movie_of_the_wrong_length_leaves_no_file(tmp_path: Path, n_frames: int) -> None:
    with pytest.raises(InputError, match=f"expected {n_frames} frames"):
        write_movie(tmp_path / "movie.tif", iter(movie(5)), n_frames=n_frames, pixel_size_nm=100)
    with pytest.raises(InputError, match="at frame 1"):
        write_movie(
            tmp_path / "movie.tif",
            [np.zeros((2, 2), np.uint16), np.zeros((2, 3), np.uint16)],
            pixel_size_nm=100,
        )
    with pytest.raises(InputError, match="got none"):
        write_movie(tmp_path / "movie.tif", [], pixel_size_nm=100)
    assert list(tmp_path.iterdir()) == []


def ndtiff(folder: Path, frames: dict[tuple, NDArray], axes: tuple[str, ...] = ("time",)) -> Path:
    """Write a dataset with ndstorage, which is what Pycro-Manager does."""
    from ndstorage import NDTiffDataset

    dataset = NDTiffDataset(str(folder), name="raw", writable=True)
    dataset.initialize({})
    for place, frame in frames.items():
        dataset.put_image(dict(zip(axes, place, strict=True)), frame, {"Exposure": 10})
    writer = dataset.current_writer
    dataset.finish()
    dataset.close()
    writer.reader.close()  # ndstorage forgets it
    return Path(dataset.path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_ndtiff_datasets_read_in_order_of_time(tmp_path: Path, dtype: str, capfd: pytest.CaptureFixture) -> None:
    frames = movie(6, dtype=dtype)
    path = ndtiff(tmp_path, {(i,): frames[i] for i in (0, 1, 2, 5, 4, 3)})
    assert np.array_equal(read_all(path), frames)
    assert np.array_equal(read_all(path / "raw_NDTiffStack.tif"), frames)  # one file stands for the set
    with Recording.open(path) as recording:
        assert (recording.name, recording.dtype) == ("raw_1", dtype)
    assert capfd.readouterr() == ("", "")


def test_ndtiff_with_one_place_on_other_axes(tmp_path: Path) -> None:
    frames = movie(3)
    path = ndtiff(tmp_path, {(i, "DAPI"): frame for i, frame in enumerate(frames)}, ("time", "channel"))
    assert np.array_equal(read_all(path), frames)


def test_ndtiff_datasets_that_are_no_movie(tmp_path: Path) -> None:
    frames = movie(4)
    channels = {(i // 2, ("A", "B")[i % 2]): frame for i, frame in enumerate(frames)}
    refused(ndtiff(tmp_path, channels, ("time", "channel")), "channel (2), time (2)")
    refused(ndtiff(tmp_path, {("A",): frames[0], ("B",): frames[1]}, ("channel",)), "2 values of 'channel'")
    sizes = {(0,): frames[0], (1,): frames[1][:10]}
    refused(ndtiff(tmp_path, sizes), "30 × 20 pixels of uint16", "30 × 10 pixels of uint16")


def test_ndtiff_that_was_not_finished(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = movie(5)
    path = ndtiff(tmp_path, {(i,): frame for i, frame in enumerate(frames)})
    index = path / "NDTiff.index"
    whole = index.read_bytes()
    # The writer was killed in its last entry.
    index.write_bytes(whole[:-10])
    assert np.array_equal(read_all(path), frames[:4])
    assert "4 whole frames" in caplog.text
    index.write_bytes(b"")
    refused(path, "none")
    # The copy broke off.
    index.write_bytes(whole)
    with (path / "raw_NDTiffStack.tif").open("rb+") as file:
        file.truncate(4000)
    refused(path, "cut short", "of 5 frames are intact")
    (path / "raw_NDTiffStack.tif").unlink()
    refused(path, "lacks raw_NDTiffStack.tif")


def test_ndtiff_with_gaps_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = movie(3)
    path = ndtiff(tmp_path, {(0,): frames[0], (1,): frames[1], (7,): frames[2]})
    assert np.array_equal(read_all(path), frames)
    assert "lacks 5 frames" in caplog.text


def test_an_index_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    path = ndtiff(tmp_path, {(0,): movie(1)[0]})
    index = path / "NDTiff.index"
    name = b"raw_NDTiffStack.tif"
    index.write_bytes(index.read_bytes().replace(name, b"../" + name[3:]))
    refused(path, "outside its folder")


def test_a_full_disk_leaves_the_movie_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "movie.ome.tif"
    write_movie(path, movie(2), pixel_size_nm=100)
    before = path.read_bytes()

    def frames() -> Iterator[NDArray]:
        yield movie(1)[0]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match=r"cannot write .*movie\.ome\.tif: No space left on device; .* MB are free"):
        write_movie(path, frames(), n_frames=2, pixel_size_nm=100)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
