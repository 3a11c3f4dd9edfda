"""What a TIFF's own description says of its axes: ImageJ, OME, and the JSON of tifffile's "shaped" files."""

import json
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
    """

    n_frames: int | None = None
    one_directory: bool = False
    frames_adjoin: bool = False
    siblings: tuple[str, ...] = ()


def read_description(text: str, path: Path) -> Description:
    """Interpret the image description of the first page; refuse stacks with more axes than time."""
    if text.startswith("ImageJ="):
        return _imagej(text, path)
    if text.lstrip().startswith("{"):
        return _shaped(text, path)
    if "<OME" in text or "<ome:OME" in text:
        return _ome(text, path)
    return Description()


def _refuse_axes(path: Path, channels: int, slices: int, frames: int) -> None:
    if channels > 1:
        raise InputError(
            f"expected a movie of one channel, got {channels} channels in {path}; "
            "split the channels (Fiji: Image > Color > Split Channels) and give one of them"
        )
    # A movie that was loaded as a z-stack is common; only both axes together are ambiguous.
    if slices > 1 and frames > 1:
        raise InputError(
            f"expected a movie with time as its only axis, got {slices} slices × {frames} frames in {path}; "
            "save one slice as a movie (Fiji: Image > Hyperstacks > Make Subset)"
        )


def _imagej(text: str, path: Path) -> Description:
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def count(key: str) -> int:
        try:
            return int(fields.get(key, "1"))
        except ValueError:
            return 1

    images = count("images")
    _refuse_axes(path, count("channels"), count("slices"), count("frames"))
    # ImageJ writes all pixels in one run; above 4 GB it leaves out all directories but the first.
    return Description(n_frames=images if images > 1 else None, one_directory=images > 1, frames_adjoin=True)


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
    except ValueError:
        return Description()
    if min(size.values()) < 1:
        return Description()
    _refuse_axes(path, size["C"], size["Z"], size["T"])
    return Description(n_frames=size["T"] * size["Z"], siblings=siblings if len(siblings) > 1 else ())


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
