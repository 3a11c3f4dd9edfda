"""Recordings of several channels, positions and z, complete and growing: every frame goes where it belongs."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from ndstorage import NDTiffDataset

from stormlive_sim.errors import InputError
from stormlive_sim.growing import FollowedRecording
from stormlive_sim.growing_tiff import GrowingTiff
from stormlive_sim.recording import Recording
from stormlive_sim.routes import MOST_OWN_ROUTES, name_of, route_of

SHAPE = (20, 24)
# T, Z, C, Y, X: the order in which ImageJ has them.
STACK = np.random.default_rng(0).integers(90, 500, (4, 3, 2, *SHAPE)).astype(np.uint16)
WANTED = {f"channel-{c}_z-{z}": STACK[:, z, c] for z in range(3) for c in range(2)}


def dealt_out(path: Path) -> dict[str, np.ndarray]:
    found = {}
    for route, movie in Recording.open_each(path).items():
        with movie:
            found[name_of(route)] = np.array([movie.frame(i) for i in range(len(movie))])
    return found


def followed(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, list[np.ndarray]] = {}
    for axes, frame in FollowedRecording(path, idle_s=0.2):
        found.setdefault(name_of(route_of(axes)), []).append(frame)
    return {name: np.array(frames) for name, frames in found.items()}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, frames in wanted.items():
        np.testing.assert_array_equal(found[name], frames)


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}], ids=["imagej", "ome"])
def test_a_hyperstack_is_several_movies(tmp_path: Path, options: dict) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, STACK, metadata={"axes": "TZCYX"}, **options)
    assert_same(dealt_out(path), WANTED)
    with pytest.raises(InputError, match="2 channels"):
        Recording.open(path)
    if "ome" in options:  # ImageJ's lists its frames only when it is complete, and as tifffile writes it never
        assert_same(followed(path), WANTED)


@pytest.mark.parametrize("axes", ["TCZYX", "CZTYX", "ZTCYX"])
def test_the_order_of_an_ome_stack_counts(tmp_path: Path, axes: str) -> None:
    path = tmp_path / "movie.ome.tif"
    order = ["TZCYX".index(axis) for axis in axes]
    tifffile.imwrite(path, STACK.transpose(order), ome=True, metadata={"axes": axes})
    assert_same(dealt_out(path), WANTED)
    assert_same(followed(path), WANTED)


def test_an_ome_stack_that_is_being_filled_is_dealt_out(tmp_path: Path) -> None:
    path = tmp_path / "movie.ome.tif"
    stack = tifffile.memmap(path, shape=STACK.shape, dtype=np.uint16, ome=True, metadata={"axes": "TZCYX"})
    growing = GrowingTiff(path)
    got: list[dict] = []
    for number, frame in enumerate(STACK.reshape(-1, *SHAPE)):
        stack.reshape(-1, *SHAPE)[number] = frame
        stack.flush()
        growth = growing.poll()
        got += growth.axes if growth is not None else []
    assert got == [{"channel": i % 2, "z": i // 2 % 3, "time": i // 6} for i in range(24)]


def ome_xml(data: str, channels: int, frames: int) -> str:
    return (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="24" SizeY="20" '
        f'SizeC="{channels}" SizeZ="1" SizeT="{frames}">{data}</Pixels></Image></OME>'
    )


def test_pages_in_another_order_than_planes(tmp_path: Path) -> None:
    """As Micro-Manager and Bio-Formats write it: one element for each page."""
    pages = [(t, c) for c in (1, 0) for t in range(4)]
    data = "".join(f'<TiffData FirstC="{c}" FirstT="{t}" IFD="{i}"/>' for i, (t, c) in reversed([*enumerate(pages)]))
    path = tmp_path / "movie.ome.tif"
    with tifffile.TiffWriter(path) as tiff:
        for t, c in pages:
            tiff.write(STACK[t, 0, c], description=ome_xml(data, 2, 4), metadata=None, contiguous=False)
    wanted = {"channel-1": STACK[:, 0, 1], "channel-0": STACK[:, 0, 0]}
    assert_same(dealt_out(path), wanted)
    assert_same(followed(path), wanted)


def test_channels_in_files_of_their_own(tmp_path: Path) -> None:
    names = ["a.ome.tif", "b.ome.tif"]
    data = "".join(
        f'<TiffData FirstC="{c}" FirstT="{t}" IFD="{t}"><UUID FileName="{name}">urn:uuid:{c}</UUID></TiffData>'
        for c, name in enumerate(names)
        for t in range(4)
    )
    for c, name in enumerate(names):
        with tifffile.TiffWriter(tmp_path / name) as tiff:
            for t in range(4):
                tiff.write(STACK[t, 0, c], description=ome_xml(data, 2, 4), metadata=None, contiguous=False)
    assert_same(dealt_out(tmp_path / "a.ome.tif"), {f"channel-{c}": STACK[:, 0, c] for c in range(2)})
    # A file that says nothing.
    tifffile.imwrite(tmp_path / "b.ome.tif", STACK[:, 0, 1], metadata=None, ome=False, photometric="minisblack")
    with pytest.raises(InputError, match="do not tell of every frame"):
        Recording.open_each(tmp_path / "a.ome.tif")


def micromanager(path: Path, pages: list[tuple[int, int, int]], *, broken: bool = False) -> None:
    """Write pages (t, z, c) as Micro-Manager does while it records: each with its own metadata, no description."""
    with tifffile.TiffWriter(path, ome=False) as tiff:
        for number, (t, z, c) in enumerate(pages):
            indices = {"FrameIndex": t, "SliceIndex": z, "ChannelIndex": c, "PositionIndex": 0, "Camera": "x"}
            text = json.dumps(indices)
            if broken and number == len(pages) - 1:
                text = text[:20]
            tiff.write(STACK[t, z, c], metadata=None, contiguous=False, extratags=[(51123, 2, 0, text, True)])


def test_micromanagers_pages_tell_where_they_belong(tmp_path: Path) -> None:
    path = tmp_path / "x_MMStack_Pos0.ome.tif"
    pages = [(t, z, c) for t in range(4) for c in range(2) for z in range(3)]
    micromanager(path, pages)
    wanted = {f"channel-{c}_position-0_z-{z}": STACK[:, z, c] for c in range(2) for z in range(3)}
    assert_same(dealt_out(path), wanted)
    assert_same(followed(path), wanted)
    with pytest.raises(InputError, match="channel-0_position-0_z-0, channel-0_position-0_z-1"):
        Recording.open(path)
    micromanager(path, [(t, 0, 0) for t in range(4)])
    with Recording.open(path) as movie:
        assert len(movie) == 4


def test_a_page_whose_metadata_is_not_written_yet_waits(tmp_path: Path) -> None:
    path = tmp_path / "x_MMStack_Pos0.ome.tif"
    pages = [(t, 0, c) for t in range(2) for c in range(2)]
    micromanager(path, pages, broken=True)
    growing = GrowingTiff(path)
    assert [axes["channel"] for axes in growing.poll().axes] == [0, 1, 0]
    growing._identity = None  # rewriting stands for appending
    micromanager(path, pages)
    assert [axes["channel"] for axes in growing.poll().axes] == [1]


def ndtiff(folder: Path, frames: list[tuple[dict, np.ndarray]]) -> Path:
    dataset = NDTiffDataset(str(folder), name="raw", writable=True)
    dataset.initialize({})
    for axes, image in frames:
        dataset.put_image(axes, image, {})
    writer, path = dataset.current_writer, Path(dataset.path)
    dataset.finish()
    dataset.close()
    writer.reader.close()  # ndstorage forgets it
    return path


def test_a_dataset_is_several_movies_each_in_order_of_time(tmp_path: Path) -> None:
    places = [(t, z, c) for t in (0, 2, 1, 3) for c in range(2) for z in range(3)]
    path = ndtiff(tmp_path, [({"time": t, "channel": f"C{c}", "z": z}, STACK[t, z, c]) for t, z, c in places])
    wanted = {f"channel-C{c}_z-{z}": STACK[:, z, c] for c in range(2) for z in range(3)}
    assert_same(dealt_out(path), wanted)
    assert_same(dealt_out(next(path.glob("*.tif"))), wanted)
    with pytest.raises(InputError, match="time as its only axis"):
        Recording.open(path)


def test_an_axis_of_the_users_own_separates_and_one_that_counts_frames_is_named(tmp_path: Path) -> None:
    places = [{"time": t, "laser": laser} for t in range(4) for laser in ("405", "640")]
    path = ndtiff(tmp_path / "a", [(axes, STACK[axes["time"], 0, int(axes["laser"] == "640")]) for axes in places])
    assert_same(dealt_out(path), {"laser-405": STACK[:, 0, 0], "laser-640": STACK[:, 0, 1]})
    path = ndtiff(tmp_path / "b", [({"round": i}, STACK[0, 0, 0]) for i in range(MOST_OWN_ROUTES + 1)])
    with pytest.raises(InputError, match="differ on the axis 'round', got 65"):
        Recording.open_each(path)
    with Recording.open(path) as movie:  # who says that it is one movie is believed
        assert len(movie) == MOST_OWN_ROUTES + 1


def test_two_axes_that_accumulate_are_read_as_they_were_written(tmp_path: Path) -> None:
    places = [({"time": t, "img": z, "channel": "A"}, STACK[t, z, 0]) for t in (1, 0) for z in range(3)]
    path = ndtiff(tmp_path, places)
    assert_same(dealt_out(path), {"channel-A": np.array([image for _, image in places])})


def test_one_movie_is_one_of_them(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", STACK[:, 0, 0], photometric="minisblack")
    (movie,) = Recording.open_each(tmp_path / "m.tif").values()
    assert movie.name == "m"
    tifffile.imwrite(tmp_path / "z.tif", STACK[0, :, 0], imagej=True, metadata={"axes": "ZYX"})
    assert_same(dealt_out(tmp_path / "z.tif"), {"unnamed": STACK[0, :, 0]})  # a movie that was loaded as a z-stack
