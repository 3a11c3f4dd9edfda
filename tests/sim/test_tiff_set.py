"""A recording that Micro-Manager spreads over several TIFF files is one movie, live and afterwards."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from children import killed_at_last
from stormlive_sim.errors import InputError
from stormlive_sim.growing import FollowedRecording
from stormlive_sim.growing_tiff_set import GrowingTiffSet
from stormlive_sim.recording import Recording

WRITER = Path(__file__).with_name("growing_writer.py")
SHAPE = (20, 24)
FIRST = "run_MMStack_Pos0.ome.tif"


def frame(i: int) -> np.ndarray:
    """The writer's frame `i`."""
    return np.random.default_rng(i).integers(90, 500, SHAPE).astype(np.uint16)


def write(path: Path, frames: list[np.ndarray]) -> None:
    with tifffile.TiffWriter(path, ome=False) as tiff:
        for image in frames:
            tiff.write(image, contiguous=False, metadata=None)


def part(folder: Path, number: int) -> Path:
    return folder / (FIRST if number == 0 else f"run_MMStack_Pos0_{number}.ome.tif")


def test_a_set_is_followed_from_file_to_file_and_read_whole_afterwards(tmp_path: Path) -> None:
    path = part(tmp_path, 0)
    command = [sys.executable, str(WRITER), "split", str(path), "90", "0.003"]
    with killed_at_last(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)):
        followed = FollowedRecording(path, idle_s=5.0)
        got, there = [], set()
        for axes, pixels in followed:
            got.append((axes, pixels))
            there.add(len(list(tmp_path.iterdir())))
            if len(got) == 90:
                followed._stop.set()
    assert len(there) > 1  # files were added while it read
    assert [axes["time"] for axes, _ in got] == list(range(90))
    assert np.array_equal([pixels for _, pixels in got], [frame(i) for i in range(90)])
    with Recording.open(path) as recording:
        assert len(recording) == 90
        assert np.array_equal([recording.frame(i) for i in range(90)], [frame(i) for i in range(90)])


def test_a_set_that_is_complete_is_followed_to_its_end(tmp_path: Path) -> None:
    for number in range(3):
        write(part(tmp_path, number), [frame(3 * number + i) for i in range(3)])
    followed = FollowedRecording(part(tmp_path, 0), idle_s=0.2)
    got = list(followed)
    assert followed.ended == "idle"
    assert [axes["time"] for axes, _ in got] == list(range(9))
    assert np.array_equal([pixels for _, pixels in got], [frame(i) for i in range(9)])


def test_what_looks_unwritten_is_there_once_the_next_file_has_begun(tmp_path: Path) -> None:
    dark = frame(2)
    dark[-1] = 0  # as the disk gives it for what was never written
    write(part(tmp_path, 0), [frame(0), frame(1), dark])
    growing = GrowingTiffSet(part(tmp_path, 0))
    assert [axes["time"] for axes in growing.poll().axes] == [0, 1]
    assert growing.poll() is None
    part(tmp_path, 1).write_bytes(bytes(100))  # begun, without a frame yet
    assert growing.poll() is None
    write(part(tmp_path, 1), [frame(3)])
    growing._next = None  # writing anew stands for appending
    growth = growing.poll()
    assert [axes["time"] for axes in growth.axes] == [2, 3]
    with Recording(growth.table, "") as recording:
        assert np.array_equal(recording.frame(0), dark)
        assert np.array_equal(recording.frame(1), frame(3))


def test_a_file_of_other_frames_is_refused(tmp_path: Path) -> None:
    write(part(tmp_path, 0), [frame(0)])
    growing = GrowingTiffSet(part(tmp_path, 0))
    growing.poll()
    write(part(tmp_path, 1), [frame(1)[:10]])
    with pytest.raises(InputError, match="24 × 20"):
        growing.poll()


@pytest.mark.parametrize("name", ["movie.tif", "movie.ome.tif", "run_MMStack_Pos0.tif"])
def test_under_other_names_a_number_makes_no_set(tmp_path: Path, name: str) -> None:
    stem, _, suffix = name.partition(".")
    write(tmp_path / name, [frame(0), frame(1)])
    write(tmp_path / f"{stem}_1.{suffix}", [frame(2)])
    with Recording.open(tmp_path / name) as recording:
        assert len(recording) == 2
    assert len(list(FollowedRecording(tmp_path / name, idle_s=0.1))) == 2


def test_another_position_is_no_continuation(tmp_path: Path) -> None:
    write(tmp_path / "x_MMStack_Pos0.ome.tif", [frame(0)])
    write(tmp_path / "x_MMStack_Pos1.ome.tif", [frame(1)])
    with Recording.open(tmp_path / "x_MMStack_Pos0.ome.tif") as recording:
        assert len(recording) == 1


def test_metadata_that_tells_the_frames_is_believed(tmp_path: Path) -> None:
    path = part(tmp_path, 0)
    tifffile.imwrite(path, np.array([frame(0), frame(1)]), ome=True, metadata={"axes": "TYX"})
    write(part(tmp_path, 1), [frame(2)])
    with Recording.open(path) as recording:
        assert len(recording) == 2
