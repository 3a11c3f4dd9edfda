import errno
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stormlive.output import ome_tiff
from stormlive.output.ome_tiff import read_image, write_image
from stormlive_sim.errors import InputError


def sparse_image(shape: tuple[int, int] = (300, 520)) -> np.ndarray:
    rng = np.random.default_rng(7)
    image = np.zeros(shape, np.float32)
    image[rng.integers(0, shape[0], 900), rng.integers(0, shape[1], 900)] = rng.random(900) * 1e4
    return image


def write(path: Path, image: np.ndarray, pixel_size_nm: float) -> Path:
    write_image(path, image, pixel_size_nm, name="canvas", description="37 µm & <so on>")
    return path


@pytest.mark.parametrize("pixel_size_nm", [100.0, 12.5, 108.3 / 8, 16.25, 0.7, 6500.0])
def test_image_and_pixel_size_survive_the_round_trip(tmp_path: Path, pixel_size_nm: float) -> None:
    image = sparse_image()
    path = write(tmp_path / "a.ome.tif", image, pixel_size_nm)
    back, back_nm = read_image(path)
    assert back.dtype == np.float32
    assert np.array_equal(back, image)
    assert back_nm == pytest.approx(pixel_size_nm, rel=1e-12)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.tif"]


@pytest.mark.parametrize("pixel_size_nm", [100.0, 12.5, 108.3 / 8, 0.7])
def test_readers_that_ignore_units_and_readers_that_ignore_ome_see_the_same_scale(
    tmp_path: Path, pixel_size_nm: float
) -> None:
    path = write(tmp_path / "a.ome.tif", sparse_image(), pixel_size_nm)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        pixels = ElementTree.fromstring(tiff.ome_metadata).find(".//{*}Pixels")
        tags = tiff.pages[0].tags
    for axis in "XY":
        assert pixels.attrib[f"PhysicalSize{axis}Unit"] == "µm"
        assert float(pixels.attrib[f"PhysicalSize{axis}"]) * 1e3 == pytest.approx(pixel_size_nm)
        numerator, denominator = tags[f"{axis}Resolution"].value
        # ImageJ reads both as signed.
        assert 0 < denominator < numerator < 2**31
        assert 1e7 * denominator / numerator == pytest.approx(pixel_size_nm, rel=1e-6)
    assert tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER


def test_imagejs_own_reader_can_open_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", sparse_image((3000, 700)), 12.5)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        assert not tiff.is_bigtiff
        assert not page.is_tiled
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert page.predictor == tifffile.PREDICTOR.NONE
        assert len(page.dataoffsets) > 4
    assert path.stat().st_size < 3000 * 700


def test_name_and_description_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", sparse_image(), 12.5)
    with tifffile.TiffFile(path) as tiff:
        image = ElementTree.fromstring(tiff.ome_metadata).find("{*}Image")
    assert image.get("Name") == "canvas"
    assert image.findtext("{*}Description") == "37 µm & <so on>"


def test_bigtiff_where_32_bits_do_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ome_tiff, "_CLASSIC_BYTES", 1000)
    path = write(tmp_path / "a.ome.tif", sparse_image(), 12.5)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
    assert np.array_equal(read_image(path)[0], sparse_image())


def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.ome.tif", sparse_image(), 12.5)
    before = path.read_bytes()

    def no_space(self: tifffile.TiffWriter, *args: object, **kwargs: object) -> None:
        self.filehandle.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", no_space)
    with pytest.raises(InputError, match=r"No space left on device; [0-9,]+ MB are free in") as caught:
        write(path, 2 * sparse_image(), 12.5)
    assert str(path) in str(caught.value)
    with pytest.raises(InputError):
        write(tmp_path / "b.ome.tif", sparse_image(), 12.5)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.tif"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        write(tmp_path / "nowhere" / "a.ome.tif", sparse_image(), 12.5)


@pytest.mark.parametrize(
    ("image", "pixel_size_nm", "message"),
    [
        (np.zeros((4, 4), np.float64), 12.5, "expected a float32 image"),
        (np.zeros((4, 4, 3), np.float32), 12.5, "shape \\(Y, X\\)"),
        (np.zeros((0, 4), np.float32), 12.5, "got float32 \\(0, 4\\)"),
        (np.zeros((4, 4), np.float32), 0.0, "pixel size in nm above 0"),
        (np.zeros((4, 4), np.float32), float("nan"), "got nan"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, image: np.ndarray, pixel_size_nm: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write(tmp_path / "a.ome.tif", image, pixel_size_nm)
    assert list(tmp_path.iterdir()) == []


def test_reads_a_plain_tiff_by_its_resolution_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.ones((8, 9), np.uint16), resolution=(1e5, 1e5), resolutionunit="CENTIMETER", metadata=None
    )
    image, pixel_size_nm = read_image(path)
    assert image.dtype == np.float32
    assert pixel_size_nm == pytest.approx(100)


def test_reads_ome_in_nanometres(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 12.5, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 12.5}
    tifffile.imwrite(path, np.ones((8, 9), np.float32), metadata={**sizes, "PhysicalSizeYUnit": "nm"})
    assert read_image(path)[1] == pytest.approx(12.5)


def test_what_cannot_be_read_gets_one_line(tmp_path: Path) -> None:
    good = write(tmp_path / "good.ome.tif", sparse_image(), 12.5).read_bytes()
    cases = {
        "empty.tif": (b"", "not a readable TIFF"),
        "text.tif": (b"frame,x,y\n" * 50, "not a readable TIFF"),
        "half.tif": (good[: len(good) // 2], "not a readable TIFF"),
        "head.tif": (good[:60], "not a readable TIFF"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "none.tif")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((8, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="one grey image"):
        read_image(tmp_path / "rgb.tif")
    tifffile.imwrite(tmp_path / "bare.tif", np.zeros((8, 9), np.float32), metadata=None)
    with pytest.raises(InputError, match="nothing about its pixel size"):
        read_image(tmp_path / "bare.tif")
