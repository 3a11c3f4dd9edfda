"""One float32 image and its pixel size in one OME-TIFF, or back.

Choices that were tried against the readers:

- The unit in the OME-XML is µm. Several readers (bioio among them) hand out ``PhysicalSizeX`` without its
  unit, and their users take it for µm, so 12.5 nm must be written as 0.0125 µm to be read right by all.
- ImageJ's own reader ignores OME-XML: it takes the scale from the resolution tags, and turns pixels per
  centimetre into µm by itself.
- Strips, not tiles, and no predictor: ImageJ's own reader refuses tiled files ("ImageJ cannot open tiled
  TIFFs") and cannot undo the floating-point predictor.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from stormlive_sim.atomic import whole_file
from stormlive_sim.errors import InputError

_NM_PER_CM = 1e7
_NM_PER_UNIT = {"nm": 1.0, "µm": 1e3, "um": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9, "Å": 0.1, "pm": 1e-3}
_TIFF_UNIT_NM = {2: 2.54e7, 3: _NM_PER_CM}
# By which pictures are known from movies.
_SOFTWARE = "stormlive"
# Classic TIFF counts its bytes in 32 bits; some are for the tags.
_CLASSIC_BYTES = 2**32 - 2**25
# A strip is compressed at once by one thread: large enough to compress well, small enough to need no memory.
_STRIP_BYTES = 1 << 20
# Mostly zeros, so a higher level costs time and saves next to nothing.
_ZLIB_LEVEL = 4


def write_image(path: Path, image: NDArray[np.float32], pixel_size_nm: float, *, name: str, description: str) -> None:
    """Write a float32 image (Y, X) as a zlib-compressed OME-TIFF with its pixel size.

    The array is compressed strip by strip and never copied whole, if it is contiguous. Files over 4 GB become
    BigTIFF, which ImageJ's own reader cannot open, but Bio-Formats in Fiji can.
    """
    if image.ndim != 2 or image.size == 0 or image.dtype != np.float32:
        raise InputError(f"{path}: expected a float32 image of shape (Y, X), got {image.dtype} {image.shape}")
    bigtiff = image.nbytes > _CLASSIC_BYTES
    _write(path, image, image.shape, "YX", pixel_size_nm, name, description, bigtiff=bigtiff, level=_ZLIB_LEVEL)


def write_images(
    path: Path,
    images: Iterator[NDArray[np.float32]],
    n: int,
    shape: tuple[int, int],
    pixel_size_nm: float,
    *,
    name: str,
    description: str,
) -> None:
    """Write `n` float32 images (Y, X) of one shape, at most 4 GB when compressed, as the pages of one OME-TIFF."""
    # Quickly: a run is not closed before the last page is written.
    _write(path, images, (n, *shape), "TYX", pixel_size_nm, name, description, bigtiff=False, level=1)


def _write(
    path: Path,
    data: NDArray[np.float32] | Iterator[NDArray[np.float32]],
    shape: tuple[int, ...],
    axes: str,
    pixel_size_nm: float,
    name: str,
    description: str,
    *,
    bigtiff: bool,
    level: int,
) -> None:
    if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise InputError(f"{path}: expected a pixel size in nm above 0, got {pixel_size_nm}; give --pixel-size-nm")
    pixels_per_cm = _NM_PER_CM / pixel_size_nm
    size_um = float(pixel_size_nm) / 1e3
    with whole_file(path) as part, tifffile.TiffWriter(part, ome=True, bigtiff=bigtiff) as tiff:
        tiff.write(
            data,
            shape=shape,
            dtype=np.float32,
            compression="zlib",
            compressionargs={"level": level},
            rowsperstrip=max(1, _STRIP_BYTES // (4 * shape[-1])),
            photometric="minisblack",
            resolution=(pixels_per_cm, pixels_per_cm),
            resolutionunit="CENTIMETER",
            software=_SOFTWARE,
            metadata={
                "axes": axes,
                "Name": name,
                "Description": description,
                "PhysicalSizeX": size_um,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": size_um,
                "PhysicalSizeYUnit": "µm",
            },
        )


class Pages:
    """The float32 pages of an OME-TIFF of one size, read one by one.

    Parameters
    ----------
    path : Path
        The file; it stays open until `close`.

    Raises
    ------
    InputError
        When it is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise InputError(f"{path}: no such file; check the path")
        try:
            self._tiff = tifffile.TiffFile(path)
            self._n = len(self._tiff.pages)
        # As in `read_image`.
        except Exception as error:
            raise _not_readable(path, error) from error

    def __len__(self) -> int:
        return self._n

    def read(self, page: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return a page (Y, X); InputError when it is damaged or of another shape."""
        try:
            found = self._tiff.pages[page]
            if found.shape != shape or found.dtype != np.float32:
                raise InputError(f"{self._path}: expected float32 pages {shape}, got {found.dtype} {found.shape}")
            return np.asarray(found.asarray())
        except InputError:
            raise
        except Exception as error:
            raise _not_readable(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()


def refuse_own_picture(path: Path) -> None:
    """Raise an InputError where a movie is expected and a picture is given that this module wrote."""
    try:
        with tifffile.TiffFile(path) as tiff:
            ours = tiff.pages.first.tags.valueof("Software") == _SOFTWARE
    # As in `read_image`; what is wrong with it, whoever opens it as a movie says better.
    except Exception:
        return
    if ours:
        raise InputError(
            f"{path} is a picture that stormlive made, and a recording is expected: give the camera's frames"
        )


def read_image(path: Path) -> tuple[NDArray[np.float32], float]:
    """Read a single-plane TIFF: the image (Y, X) as float32, and its pixel size in nm.

    The pixel size comes from the OME-XML, or from the resolution tags where there is none.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    try:
        with tifffile.TiffFile(path) as tiff:
            # Before a movie is read, which may be larger than the memory.
            if tiff.series and len(tiff.series[0].shape) == 3 and len(tiff.pages) > 1:
                raise InputError(
                    f"{path}: expected one grey image (Y, X), got a stack {tiff.series[0].shape}; of a movie, "
                    "`stormlive reconstruct` makes the picture"
                )
            image = np.asarray(tiff.asarray())
            sizes_nm = _ome_pixel_size_nm(tiff) or _tag_pixel_size_nm(tiff)
    except InputError:
        raise
    # A damaged file made tifffile raise a dozen kinds of exceptions, ZeroDivisionError among them.
    except Exception as error:
        raise _not_readable(path, error) from error
    if image.ndim != 2 or image.dtype.kind not in "uif":
        raise InputError(f"{path}: expected one grey image (Y, X), got {image.dtype} {image.shape}")
    if sizes_nm is None or not min(sizes_nm) > 0:
        raise InputError(f"{path}: says nothing about its pixel size; set it in ImageJ (Image > Properties) and save")
    x_nm, y_nm = sizes_nm
    if abs(x_nm - y_nm) > 1e-3 * x_nm:
        raise InputError(f"{path}: expected square pixels, got {x_nm:g} nm x {y_nm:g} nm")
    return image.astype(np.float32, copy=False), x_nm


def _not_readable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a readable TIFF ({' '.join(str(error).split())}); write it again")


def _ome_pixel_size_nm(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    if not tiff.ome_metadata:
        return None
    pixels = ElementTree.fromstring(tiff.ome_metadata).find(".//{*}Pixels")
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    x = float(pixels.attrib["PhysicalSizeX"]) * _NM_PER_UNIT[pixels.get("PhysicalSizeXUnit", "µm")]
    y_text = pixels.get("PhysicalSizeY", pixels.attrib["PhysicalSizeX"])
    return x, float(y_text) * _NM_PER_UNIT[pixels.get("PhysicalSizeYUnit", "µm")]


def _tag_pixel_size_nm(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    tags = tiff.pages.first.tags
    unit_nm = _TIFF_UNIT_NM.get(int(tags.valueof("ResolutionUnit", 1)))
    rationals = (tags.valueof("XResolution"), tags.valueof("YResolution"))
    if unit_nm is None or None in rationals or any(0 in rational for rational in rationals):
        return None
    (x_pixels, x_units), (y_pixels, y_units) = rationals
    return unit_nm * x_units / x_pixels, unit_nm * y_units / y_pixels
