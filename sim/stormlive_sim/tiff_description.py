"""What a TIFF says of its axes: ImageJ, OME, tifffile's "shaped" files, and Micro-Manager on every page."""

import json
import math
from bisect import bisect
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from stormlive_sim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Description:
    """The axes of a stack as its first page describes them.

    Attributes
    ----------
    n_frames
        Frames that the description promises, or None where it promises nothing.
    one_directory
        The frames after the first have no directory of their own: they follow the first without a gap.
    frames_adjoin
        The frames' pixels follow each other without a gap, whatever the directories say.
    siblings
        File names over which an OME stack is spread, in order; empty where it is one file.
    sizes
        Axes and their lengths, the one that runs fastest first.
    blocks
        ``(first page, number of pages, first plane)``, ascending, where pages and planes are not in the same order.
    """

    n_frames: int | None = None
    one_directory: bool = False
    frames_adjoin: bool = False
    siblings: tuple[str, ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()
    blocks: tuple[tuple[int, int, int], ...] = ()

    def axes(self, page: int) -> dict[str, int | str]:
        """Return the axes of the frame on a page."""
        plane = page
        if self.blocks:
            first, count, plane = self.blocks[max(0, bisect(self.blocks, (page, math.inf)) - 1)]
            plane += page - first
            if not first <= page < first + count:
                return {"time": page}
        axes: dict[str, int | str] = {}
        for axis, size in self.sizes[:-1]:
            plane, axes[axis] = divmod(plane, size)
        axes[self.sizes[-1][0] if self.sizes else "time"] = plane
        return axes


def read_description(text: str, path: Path, *, several: bool = False) -> Description:
    """Interpret the image description of the first page; refuse stacks with more axes than time, unless `several`."""
    description = Description()
    if text.startswith("ImageJ="):
        description = _imagej(text)
    elif text.lstrip().startswith("{"):
        description = _shaped(text, path)
    elif "<OME" in text or "<ome:OME" in text:
        description = _ome(text, path)
    if not several:
        _refuse_axes(path, dict(description.sizes))
    return description


def read_plane(text: str) -> dict[str, int | str]:
    """Return the axes in what Micro-Manager writes of a page, if there are any; JSONDecodeError where it is no JSON."""
    try:
        metadata = json.loads(text)
    except RecursionError:
        return {}
    if not isinstance(metadata, dict):
        return {}
    found = {axis: metadata.get(key) for axis, key in _MICRO_MANAGER.items()}
    return {axis: place for axis, place in found.items() if isinstance(place, int)}


_MICRO_MANAGER = {"time": "FrameIndex", "channel": "ChannelIndex", "z": "SliceIndex", "position": "PositionIndex"}


def _sizes(order: str, channels: int, slices: int, frames: int) -> tuple[tuple[str, int], ...]:
    """Return the axes that have a length, the fastest first, in an order such as ``CZT``."""
    names = {"C": "channel", "Z": "z", "T": "time"}
    if slices > 1 and frames == 1:
        names["Z"] = "time"  # a movie that was loaded as a z-stack is common
    lengths = {"C": channels, "Z": slices, "T": frames}
    return tuple((names[axis], lengths[axis]) for axis in order if lengths[axis] > 1)


def _refuse_axes(path: Path, sizes: dict[str, int]) -> None:
    channels, slices, frames = (sizes.get(axis, 1) for axis in ("channel", "z", "time"))
    if channels > 1:
        raise InputError(
            f"expected a movie of one channel, got {channels} channels in {path}; "
            "split the channels (Fiji: Image > Color > Split Channels) and give one of them"
        )
    if slices > 1:
        raise InputError(
            f"expected a movie with time as its only axis, got {slices} slices × {frames} frames in {path}; "
            "save one slice as a movie (Fiji: Image > Hyperstacks > Make Subset)"
        )


def _imagej(text: str) -> Description:
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def count(key: str) -> int:
        try:
            return int(fields.get(key, "1"))
        except ValueError:
            return 1

    images = count("images")
    # ImageJ writes all pixels in one run; above 4 GB it leaves out all directories but the first.
    return Description(
        n_frames=images if images > 1 else None,
        one_directory=images > 1,
        frames_adjoin=True,
        sizes=_sizes("CZT", *(max(1, count(axis)) for axis in ("channels", "slices", "frames"))),
    )


def _shaped(text: str, path: Path) -> Description:
    try:
        described = json.loads(text)
        shape = [int(n) for n in described["shape"]]
        truncated = bool(described.get("truncated", False))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return Description()
    if any(n < 1 for n in shape):
        return Description()
    leading = [n for n in shape[:-2] if n != 1]
    if len(leading) > 1:
        raise InputError(
            f"expected a movie with time as its only axis, got an array of {' × '.join(map(str, shape))} in "
            f"{path}; save one channel or slice of it as (T, Y, X)"
        )
    return Description(n_frames=leading[0] if truncated and leading else None, one_directory=truncated)


def _ome(text: str, path: Path) -> Description:
    try:
        root = ElementTree.fromstring(text.encode())
    except (ElementTree.ParseError, LookupError, ValueError):  # the latter two: encodings that nobody knows
        return Description()
    pixels = [element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"]
    if not pixels:  # a secondary file of a set: the metadata lies in the first
        return Description()
    if len(pixels) > 1:
        raise InputError(
            f"expected one movie, got {len(pixels)} images (positions or series) in {path}; save one of them alone"
        )
    try:
        size = {axis: int(pixels[0].get(f"Size{axis}", "1")) for axis in "CZT"}
        siblings = _siblings(pixels[0])
        order = pixels[0].get("DimensionOrder", "XYCZT")[2:]
        if min(size.values()) < 1 or sorted(order) != ["C", "T", "Z"]:
            return Description()
        blocks = _blocks(pixels[0], size, order, path.name)
    except ValueError:
        return Description()
    return Description(
        n_frames=size["C"] * size["T"] * size["Z"],
        siblings=siblings if len(siblings) > 1 else (),
        sizes=_sizes(order, size["C"], size["Z"], size["T"]),
        blocks=blocks,
    )


def _blocks(
    pixels: ElementTree.Element, size: dict[str, int], order: str, file: str
) -> tuple[tuple[int, int, int], ...]:
    """Return which planes are on which pages of `file`."""
    data = [(element, _file_of(element)) for element in pixels if element.tag.rpartition("}")[2] == "TiffData"]
    spread = len({name for _, name in data}) > 1
    blocks: list[tuple[int, int, int]] = []
    for element, name in data:
        if spread and name != file:
            continue
        step, plane = 1, 0
        for axis in order:
            plane += step * int(element.get(f"First{axis}", "0"))
            step *= size[axis]
        count = element.get("PlaneCount", str(step) if element.get("IFD") is None else "1")
        blocks.append((int(element.get("IFD", "0")), int(count), plane))
    return tuple(sorted(blocks))


def _file_of(element: ElementTree.Element) -> str | None:
    return next((uuid.get("FileName") for uuid in element if uuid.get("FileName")), None)


def _siblings(pixels: ElementTree.Element) -> tuple[str, ...]:
    order: dict[str, tuple[int, int]] = {}
    for element in pixels.iter():
        if element.tag.rpartition("}")[2] != "TiffData":
            continue
        first = (int(element.get("FirstT", "0")), int(element.get("FirstZ", "0")))
        for uuid in element:
            name = uuid.get("FileName")
            if name is not None and Path(name).name in ("", ".."):
                raise ValueError(f"{name!r} names no file")
            if name:
                order[name] = min(first, order.get(name, first))
    return tuple(sorted(order, key=order.__getitem__))
