"""What scripts and notebooks call: every example of docs/api.md, run, and what they leave, read back."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import stormlive
from stormlive import notebook
from stormlive.server.engine import Engine
from stormlive.server.finish import RunWriter
from stormlive.server.loop import Server
from stormlive_sim.errors import InputError
from stormlive_sim.movie import Scene, SceneSettings
from stormlive_sim.recording import write_movie

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
CAMERA = stormlive.Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=20)


@pytest.fixture(scope="module")
def small() -> Iterator[Engine]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine("small", "cpu:torch")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    scene = Scene(SceneSettings(shape=(32, 40), density_per_um2=1.0, seed=1))
    return torch.stack([frame for frame, _ in scene.frames(40, 20.0)]).numpy()


@pytest.fixture
def without_choosing_a_runtime(small: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "Engine", lambda _model, _device: small)


def scales_nm(path: Path) -> tuple[float, float]:
    """Return the pixel size as ImageJ's own reader sees it, and as readers of OME metadata do."""
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[0].tags
        assert tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
        pixels, cm = tags["XResolution"].value
        assert tags["YResolution"].value == (pixels, cm)
        ome = ElementTree.fromstring(tiff.ome_metadata).find(".//{*}Pixels")
    assert (ome.attrib["PhysicalSizeXUnit"], ome.attrib["PhysicalSizeYUnit"]) == ("µm", "µm")
    assert ome.attrib["PhysicalSizeX"] == ome.attrib["PhysicalSizeY"]
    return 1e7 * cm / pixels, 1000 * float(ome.attrib["PhysicalSizeX"])


def test_the_examples_of_the_page_run_and_their_pictures_keep_their_scale(
    small: Engine,
    frames: np.ndarray,
    without_choosing_a_runtime: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_movie(tmp_path / "movie.tif", iter(frames), pixel_size_nm=100, exposure_ms=20, n_frames=len(frames))
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(examples) == 5
    names: dict[str, object] = {}
    writer = RunWriter(small, tmp_path / "runs", folder_per_run=True)
    with Server(small, finish=writer, bind="tcp://127.0.0.1:*") as server:
        for example in examples:
            exec(example.replace("tcp://127.0.0.1:5557", server.address), names)
    told = capsys.readouterr().out
    assert "(256, 320) pixels of 12.5 nm by small" in told
    assert "40 of 40 frames are in the picture." in told
    assert "cell 1 finished 40 frames" in told
    for file, size_nm in (
        ("picture.ome.tif", 12.5),
        ("now.ome.tif", 25),
        ("runs/cell 1/superres.ome.tif", 12.5),
        ("runs/cell 1/widefield.ome.tif", 100),
    ):
        assert scales_nm(tmp_path / file) == pytest.approx((size_nm, size_nm))
    assert names["scale"] == pytest.approx((0.0125, 0.0125))
    assert tifffile.imread(tmp_path / "now.ome.tif").shape == (256, 256)


def test_a_movie_as_an_array_and_as_a_file_give_the_live_picture(
    small: Engine, frames: np.ndarray, without_choosing_a_runtime: None, tmp_path: Path
) -> None:
    write_movie(tmp_path / "movie.tif", iter(frames), pixel_size_nm=100, exposure_ms=20, n_frames=len(frames))
    result = stormlive.reconstruct(frames, CAMERA, localize=True)
    from_file = stormlive.reconstruct(tmp_path / "movie.tif", CAMERA)
    np.testing.assert_array_equal(result.superres.pixels, from_file.superres.pixels)
    assert from_file.localizations is None
    table = result.localizations
    assert len(table) == pytest.approx(result.superres.pixels.sum(), rel=0.2)
    assert (np.diff(table["frame"]) >= 0).all()
    assert table["frame"].max() == 39
    writer = RunWriter(small, tmp_path / "run", folder_per_run=False)
    with (
        Server(small, finish=writer, bind="tcp://127.0.0.1:*") as server,
        stormlive.stream(server.address, calibration=CAMERA) as live,
    ):
        for frame in frames:
            live.send(frame)
    run = stormlive.read_run(tmp_path / "run")
    assert run.record.frames["frames"] == 40
    np.testing.assert_allclose(run.superres().pixels, result.superres.pixels, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run.widefield().pixels, result.widefield.pixels, rtol=1e-5)
    assert run.widefield().pixel_size_nm == pytest.approx(100)
    with pytest.raises(InputError, match="the sample may not have drifted"):
        run.superres(drift_corrected=True)
    with pytest.raises(InputError, match="canvases 0 to 0, not 1"):
        run.superres(1)


def test_bad_input_is_told_in_a_sentence(without_choosing_a_runtime: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected frames \(T, Y, X\)"):
        stormlive.reconstruct(np.zeros((8, 8), np.uint16), CAMERA)
    with pytest.raises(ValueError, match="int64"):
        stormlive.reconstruct(np.zeros((2, 8, 8), int), CAMERA)
    with pytest.raises(ValueError, match="give the folder of a finished run"):
        stormlive.read_run(tmp_path)


def test_the_page_names_all_that_is_public() -> None:
    told = set(re.findall(r"`(\w+)`", PAGE))
    assert set(stormlive.__all__) - {"__version__"} <= told
    assert all(getattr(stormlive, name) is not None for name in stormlive.__all__)
