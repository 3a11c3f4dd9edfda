import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import tifffile

from children import killed_at_last
from stormlive_sim import growing_tiff
from stormlive_sim.errors import InputError
from stormlive_sim.growing import FollowedRecording
from stormlive_sim.growing_tiff import GrowingTiff
from stormlive_sim.recording import Recording

WRITER = Path(__file__).with_name("growing_writer.py")
SHAPE = (20, 24)


def frame(i: int) -> np.ndarray:
    """The writer's frame `i`."""
    return np.random.default_rng(i).integers(90, 500, SHAPE).astype(np.uint16)


def writer(kind: str, path: Path, n: int, pause_s: float = 0.002) -> AbstractContextManager[subprocess.Popen[str]]:
    command = [sys.executable, str(WRITER), kind, str(path), str(n), str(pause_s)]
    return killed_at_last(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))


def dataset_in(folder: Path) -> Path:
    # ndstorage makes a folder of its own inside, or not: the index tells.
    return next(folder.rglob("NDTiff.index")).parent


@pytest.mark.parametrize("kind", ["tiff", "packed", "memmap"])
def test_a_tiff_is_read_while_it_grows(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    with writer(kind, path, 60) as process:
        assert process.stdout.readline() == "0\n"
        followed = FollowedRecording(path, idle_s=1.0)
        got = list(followed)
    assert followed.ended == "idle"
    assert [axes["time"] for axes, _ in got] == list(range(60))
    assert np.array_equal([pixels for _, pixels in got], [frame(i) for i in range(60)])


def test_an_ndtiff_dataset_is_read_while_it_grows_and_ends_with_its_writer(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    with writer("ndtiff", folder, 300) as process:
        assert process.stdout.readline() == "0\n"
        followed = FollowedRecording(dataset_in(tmp_path), idle_s=30.0)
        got, growing_then = [], False
        for axes, pixels in followed:
            got.append((axes, pixels))
            growing_then |= process.poll() is None
    assert growing_then
    assert followed.ended == "complete"  # long before it would be idle
    assert [axes for axes, _ in got] == [{"time": i} for i in range(300)]
    assert np.array_equal([pixels for _, pixels in got], [frame(i) for i in range(300)])


@pytest.mark.parametrize("kind", ["tiff", "packed", "ndtiff", "memmap"])
def test_of_a_killed_writer_the_whole_frames_are_read_and_no_others(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("raw" if kind == "ndtiff" else "movie.tif")
    with writer(kind, path, 4000) as process:
        for _ in range(250):
            assert process.stdout.readline()
        process.kill()
        process.wait()
        followed = FollowedRecording(dataset_in(tmp_path) if kind == "ndtiff" else path, idle_s=0.5)
        got = [pixels for _, pixels in followed]
    assert followed.ended == "idle"
    # The index of NDTiff is written in blocks of 8 KiB, about a hundred frames.
    assert len(got) >= (130 if kind == "ndtiff" else 249)
    assert np.array_equal(got, [frame(i) for i in range(len(got))])


def test_a_frame_is_not_read_before_its_last_pixel_is_there(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(tmp_path / "whole.tif") as tiff:
        for i in range(3):
            tiff.write(frame(i), contiguous=False, metadata=None)
    whole = (tmp_path / "whole.tif").read_bytes()
    with Recording.open(tmp_path / "whole.tif") as recording:
        offsets = [int(offset) for offset in recording._table.offset]
    n_bytes = frame(0).nbytes
    for preallocated in (False, True):
        path.unlink(missing_ok=True)
        growing = GrowingTiff(path)
        assert growing.poll() is None  # not there yet
        seen = 0
        for cut in range(0, len(whole) + 1, 97):
            path.write_bytes(whole[:cut] + (bytes(len(whole) - cut) if preallocated else b""))
            growing._identity = None  # rewriting stands for appending
            growth = growing.poll()
            seen += 0 if growth is None else len(growth.axes)
            complete = sum(offset + n_bytes - preallocated <= cut for offset in offsets)  # a pixel has two bytes
            assert seen <= complete
        path.write_bytes(whole)
        growing.poll()


def test_files_that_shrink_vanish_or_are_replaced_are_named(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as tiff:
        for i in range(5):
            tiff.write(frame(i), contiguous=False, metadata=None)
    whole = path.read_bytes()
    for harm, word in (
        (lambda: path.write_bytes(whole[:1000]), "became shorter"),
        (lambda: path.unlink(), "vanished"),
        (lambda: (tmp_path / "other.tif").write_bytes(whole) and (tmp_path / "other.tif").replace(path), "replaced"),
    ):
        path.write_bytes(whole)
        frames = iter(FollowedRecording(path, idle_s=5.0))
        for i in range(5):
            assert np.array_equal(next(frames)[1], frame(i))
        harm()
        with pytest.raises(InputError, match=word) as said:
            next(frames)
        assert "\n" not in str(said.value)


def test_an_index_that_shrinks(tmp_path: Path) -> None:
    with writer("ndtiff", tmp_path / "raw", 200, 0.0) as process:
        process.wait(30)
    index = dataset_in(tmp_path) / "NDTiff.index"
    followed = FollowedRecording(index.parent, idle_s=5.0)
    frames = iter(followed)
    next(frames)
    # Every frame that the first look found is delivered before the next look.
    index.write_bytes(index.read_bytes()[:200])
    (index.parent / "x_NDTiffStack.tif").touch()  # so that it does not count as complete
    with pytest.raises(InputError, match="became shorter"):
        list(frames)


def test_nothing_appears(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no frame appeared"):
        list(FollowedRecording(tmp_path / "none.tif", idle_s=0.2))
    (tmp_path / "text.tif").write_text("it is a truth universally acknowledged")
    with pytest.raises(InputError, match="not a TIFF"):
        list(FollowedRecording(tmp_path / "text.tif", idle_s=0.2))


def dataset_of(folder: Path, images: list[tuple[dict, np.ndarray]]) -> Path:
    from ndstorage import NDTiffDataset

    dataset = NDTiffDataset(str(folder / "raw"), summary_metadata={}, writable=True)
    for axes, image in images:
        dataset.put_image(axes, image, {})
    dataset.current_writer.reader.close()  # ndstorage forgets it
    dataset.finish()
    dataset.close()
    return dataset_in(folder)


def test_frames_of_several_axes_come_with_their_axes_as_they_were_written(tmp_path: Path) -> None:
    places = [{"time": t, "channel": c, "z": z} for t in range(3) for c in "AB" for z in range(2)]
    folder = dataset_of(tmp_path, [(place, frame(i)) for i, place in enumerate(places)])
    got = list(FollowedRecording(folder, idle_s=0.2))
    assert [axes for axes, _ in got] == places
    assert np.array_equal([pixels for _, pixels in got], [frame(i) for i in range(12)])


def test_channels_of_another_size_or_type_are_refused(tmp_path: Path) -> None:
    others = {"size": frame(0)[:-1], "type": frame(0).astype(np.uint8)}
    for name, other in others.items():
        images = [({"time": 0, "channel": "A"}, frame(0)), ({"time": 0, "channel": "B"}, other)]
        with pytest.raises(InputError, match="like the first"):
            list(FollowedRecording(dataset_of(tmp_path / name, images), idle_s=0.2))


def test_stop_ends_it(tmp_path: Path) -> None:
    stop = threading.Event()
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, np.array([frame(i) for i in range(3)]), photometric="minisblack")
    followed = FollowedRecording(path, idle_s=60.0, stop=stop)
    for n, _ in enumerate(followed):
        if n == 1:
            stop.set()
    assert followed.ended == "stopped"


def preallocated(path: Path, n: int) -> np.memmap:
    return tifffile.memmap(path, shape=(n, *SHAPE), dtype=np.uint16, ome=True, metadata={"axes": "TYX"})


def write_pages(path: Path, frames: list[np.ndarray], compression: str | None = None) -> None:
    with tifffile.TiffWriter(path, ome=False) as tiff:
        for image in frames:
            tiff.write(image, contiguous=False, compression=compression, metadata=None)


def new_frames(growing: GrowingTiff, *, last: bool = False) -> list[np.ndarray]:
    growth = growing.poll(last=last)
    if growth is None:
        return []
    with Recording(growth.table, "") as recording:
        return [recording.frame(i) for i in range(len(recording))]


def test_in_a_file_of_full_size_a_frame_waits_for_its_last_pixel_or_the_next_frame(tmp_path: Path) -> None:
    path = tmp_path / "movie.ome.tif"
    stack = preallocated(path, 10)
    dark_end, black = frame(3), np.zeros(SHAPE, np.uint16)
    dark_end[-2:] = 0
    movie = [frame(0), frame(1), frame(2), dark_end, frame(4), black, black, frame(7), frame(8)]
    growing = GrowingTiff(path)
    got: list[np.ndarray] = []
    counts = []
    for i, image in enumerate(movie):
        stack[i].ravel()[:-40] = image.ravel()[:-40]
        stack.flush()
        got += new_frames(growing)
        assert len(got) <= i  # 40 pixels are missing
        stack[i] = image
        stack.flush()
        got += new_frames(growing)
        counts.append(len(got))
    assert counts == [1, 2, 3, 3, 5, 5, 5, 5, 9]  # black frames wait for as many again
    assert np.array_equal(got, movie)
    assert new_frames(growing, last=True) == []
    assert growing.left_out == 1


@pytest.mark.parametrize("kind", ["appended", "zlib", "preallocated"])
@pytest.mark.parametrize("first_dark", [0, 25])
def test_frames_that_end_in_zeros_are_all_delivered(kind: str, first_dark: int, tmp_path: Path) -> None:
    movie = np.array([frame(i) for i in range(30)])
    movie[first_dark:, -1] = 0
    movie[first_dark:, :, -1] = 0
    movie[[10, 28]] = 0  # the shutter was closed
    path = tmp_path / "movie.ome.tif"
    if kind == "preallocated":
        stack = preallocated(path, 30)
        stack[:] = movie
        stack.flush()
    else:
        write_pages(path, list(movie), "zlib" if kind == "zlib" else None)
    followed = FollowedRecording(path, idle_s=0.1)
    assert np.array_equal([pixels for _, pixels in followed], movie)
    assert (followed.ended, followed.left_out) == ("idle", 0)
    # All but the last were there before it was known that nothing follows.
    assert len(new_frames(GrowingTiff(path))) == 29


def test_frames_of_nothing_but_zeros_at_the_end_are_told(tmp_path: Path) -> None:
    stack = preallocated(tmp_path / "movie.ome.tif", 5)
    with pytest.raises(InputError, match=r"no frame appeared .*of 5 that it lists"):
        list(FollowedRecording(tmp_path / "movie.ome.tif", idle_s=0.1))
    stack[:3] = [frame(i) for i in range(3)]
    stack.flush()
    followed = FollowedRecording(tmp_path / "movie.ome.tif", idle_s=0.1)
    assert np.array_equal([pixels for _, pixels in followed], stack[:3])
    assert followed.left_out == 2


def test_the_newest_of_many_empty_frames_is_found_without_reading_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = preallocated(tmp_path / "movie.ome.tif", 1000)
    stack[:300] = frame(0)
    stack.flush()
    looked = []
    holds = growing_tiff._holds_something
    monkeypatch.setattr(growing_tiff, "_holds_something", lambda *of: looked.append(of) or holds(*of))
    growing = GrowingTiff(tmp_path / "movie.ome.tif")
    assert len(new_frames(growing)) == 300
    assert len(looked) < 20
