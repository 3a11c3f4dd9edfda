"""Which datasets the server reads, and that a dataset leads nowhere else."""

import json
import os
import struct
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

import fake_engine as fake
from served import SHAPE, Closed, Dataset, make_hook, movie, soon
from stormlive.server.dataset import DataRoots
from stormlive.server.loop import Server
from stormlive.server.process import ServerSettings, build_server
from stormlive.wire.axes import carried_axes
from stormlive.wire.curve import ClientKeys, KeyPair, ServerKeys
from stormlive.wire.messages import Start
from stormlive_sim.errors import InputError

FRAMES = movie(5)
links = pytest.mark.skipif(os.name != "posix", reason="Windows lets administrators alone make links")


def start(dataset: object) -> Start:
    return Start(
        run=uuid4(), name="run", dtype="uint16", shape=SHAPE, calibration=fake.CALIBRATION, dataset=str(dataset)
    )


def written(folder: Path) -> Path:
    dataset = Dataset(folder)
    dataset.write(FRAMES)
    dataset.finish()
    return dataset.path


def entry(filename: str, axes: str = '{"time": 0}') -> bytes:
    """Return an entry of an index that says that a frame starts with the first byte of a file."""
    texts = (struct.pack("<I", len(text.encode())) + text.encode() for text in (axes, filename))
    return b"".join(texts) + struct.pack("<8I", 0, SHAPE[1], SHAPE[0], 1, 0, 0, 0, 0)


def test_a_dataset_below_a_root_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "roots" / "today")
    for roots in ((tmp_path / "roots",), (tmp_path / "other", path), None):
        dataset = DataRoots(roots).find(start(path))
        assert [dataset.has({"time": n}) for n in (3, 5)] == [True, False]
        np.testing.assert_array_equal(dataset.frame({"time": 3}), FRAMES[3])


@pytest.mark.parametrize(
    ("held", "is_one"),
    [
        ((), True),
        (("NDTiff.index",), True),
        # What ndstorage makes first; the index comes a moment later.
        (("cell1_NDTiffStack.tif",), True),
        (("img.ome.tif",), False),
        (("raw_1/NDTiff.index",), False),
    ],
)
def test_a_folder_with_other_things_is_no_dataset(held: tuple[str, ...], is_one: bool, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in held:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert (DataRoots(None).find(start(folder)) is not None) is is_one
    assert DataRoots(None).find(start(folder / "absent")) is None


@pytest.mark.parametrize("named", ["raw", "{root}/../raw", "{outside}", "{root}s", "//server/share/raw", "\0", "~", ""])
def test_nothing_else_is_read(tmp_path: Path, named: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "roots").mkdir()
    outside = written(tmp_path)
    named = named.format(root=tmp_path / "root", outside=outside)
    assert DataRoots((tmp_path / "root",)).find(start(named)) is None
    assert DataRoots(()).find(start(outside)) is None


@links
def test_links_are_followed_before_paths_are_compared(tmp_path: Path) -> None:
    inside, outside = written(tmp_path / "root"), written(tmp_path / "else")
    (tmp_path / "root" / "out").symlink_to(outside)
    (tmp_path / "in").symlink_to(inside)
    (tmp_path / "root" / "loop").symlink_to(tmp_path / "root" / "loop")
    roots = DataRoots((tmp_path / "root",))
    assert roots.find(start(tmp_path / "root" / "out")) is None
    assert roots.find(start(tmp_path / "root" / "loop")) is None
    assert roots.find(start(tmp_path / "in")) is not None
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    assert DataRoots((tmp_path / "alias",)).find(start(inside)) is not None


@pytest.mark.parametrize("filename", ["../secret", "..", ".", "/etc/passwd", "deeper/secret", "a\0b", "absent"])
def test_an_index_does_not_lead_out_of_its_folder(tmp_path: Path, filename: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(1000))
    folder = tmp_path / "raw"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "secret").write_bytes(bytes(1000))
    (folder / "NDTiff.index").write_bytes(entry(filename))
    with pytest.raises(InputError):
        DataRoots(None).find(start(folder)).frame({"time": 0})


@links
@pytest.mark.parametrize("which", ["pixels", "index", "pipe", "circle"])
def test_no_link_in_a_dataset_leads_out_of_it(tmp_path: Path, which: str) -> None:
    (tmp_path / "secret").write_bytes(entry("NDTiffStack.tif") if which == "index" else bytes(1000))
    folder = tmp_path / "raw"
    folder.mkdir()
    if which == "index":
        (folder / "NDTiff.index").symlink_to(tmp_path / "secret")
        (folder / "NDTiffStack.tif").write_bytes(bytes(1000))
    else:
        (folder / "NDTiff.index").write_bytes(entry("NDTiffStack.tif"))
        if which == "pixels":
            (folder / "NDTiffStack.tif").symlink_to(tmp_path / "secret")
        elif which == "circle":
            (folder / "NDTiffStack.tif").symlink_to(folder / "NDTiffStack.tif")
        else:
            os.mkfifo(folder / "NDTiffStack.tif")  # whoever opens it waits for ever
    with pytest.raises(InputError, match="not a file in its folder"):
        DataRoots(None).find(start(folder)).frame({"time": 0})


@pytest.mark.parametrize("axes", ["[" * 100_000, "[1]", "3", '{"time": [0]}', '{"time": {}}', '{"time": 0.5}', "{"])
def test_nonsense_in_an_index_is_no_frame(tmp_path: Path, axes: str) -> None:
    (tmp_path / "NDTiffStack.tif").write_bytes(bytes(1000))
    (tmp_path / "NDTiff.index").write_bytes(entry("NDTiffStack.tif", axes))
    assert DataRoots(None).find(start(tmp_path)).frame({"time": 0}) is None


@pytest.mark.parametrize("allowed", [True, False])
def test_with_keys_datasets_are_read_below_the_roots_alone(tmp_path: Path, closed: Closed, allowed: bool) -> None:
    pair, client = KeyPair.make(), KeyPair.make()
    keys = ServerKeys(own=pair, allowed=frozenset({client.public}))
    folder = tmp_path / "client"
    folder.mkdir()
    client.save_secret(folder / "client.key_secret")
    pair.save_public(folder / "server.key")
    assert ClientKeys.load(folder).own == client
    engine, path, frames = fake.FakeEngine(), written(tmp_path / "data"), movie(5)
    with Server(
        engine,
        finish=closed,
        bind="tcp://127.0.0.1:*",
        heartbeat_s=0.2,
        keys=keys,
        data=(tmp_path / "data",) if allowed else None,
    ) as server:
        hook = make_hook(server.address, dataset=str(path), keys=folder)
        for n, frame in enumerate(frames):
            hook(frame, {"Axes": {"time": n}})
        soon(lambda: hook._sender._stock.by_dataset is allowed and hook.progress.live == 5)
        report = hook.close()
    assert report.complete
    np.testing.assert_array_equal(closed.runs[0][1].canvas, fake.direct_canvas(frames))


def test_a_root_that_is_not_there_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    settings = ServerSettings(
        bind="tcp://127.0.0.1:0", model="no such", device="cpu", out=tmp_path, data=(tmp_path / "absent",)
    )
    with pytest.raises(InputError, match="absent"):
        build_server(settings)


def test_axes_are_compared_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "NDTiffStack.tif").write_bytes(bytes(1000))
    axes = {"time": 0, "channel": "µ"}
    (tmp_path / "NDTiff.index").write_bytes(entry("NDTiffStack.tif", json.dumps(axes)))
    dataset = DataRoots(None).find(start(tmp_path))
    assert dataset.frame(axes).shape == SHAPE
    assert dataset.frame({"time": 0}) is None


@pytest.mark.parametrize("place", [0.25, 1e-7, -0.0, 2.0, True, 2**70, -(2**62), "a" * 80, "a\nb", "µ" * 60])
def test_the_sender_and_the_index_name_a_place_alike(place: object, tmp_path: Path) -> None:
    others = [{"time": 0, "z": 7}, {"time": 0, "z": place}, {"time": 1, "z": 7}]
    data = b"".join(entry("NDTiffStack.tif", json.dumps(axes)) for axes in others)
    (tmp_path / "NDTiffStack.tif").write_bytes(bytes(1000))
    (tmp_path / "NDTiff.index").write_bytes(data)
    dataset = DataRoots(None).find(start(tmp_path))
    for axes in others:
        assert dataset.frame(carried_axes(axes)).shape == SHAPE
    assert dataset.frame({"time": 1, **carried_axes({"z": place})}) is None
