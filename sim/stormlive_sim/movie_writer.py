"""Write a movie as a TIFF stack that Fiji opens with the right pixel size."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from stormlive_sim.atomic import whole_file
from stormlive_sim.errors import InputError
from stormlive_sim.frame_table import describe_frame


def write_movie(
    path: Path,
    frames: NDArray[Any] | Iterable[NDArray[Any]],
    *,
    pixel_size_nm: float,
    exposure_ms: float | None = None,
    n_frames: int | None = None,
) -> None:
    """Write a movie as OME-TIFF with its physical pixel size; BigTIFF above 4 GB. Fiji opens it as it is.

    The frames are written as they come and appear under `path` only when all are there.

    Parameters
    ----------
    path
        The file to write, by custom ``*.ome.tif``; an existing file is replaced.
    frames
        ``(T, Y, X)`` uint8 or uint16, or an iterable of such ``(Y, X)`` frames.
    pixel_size_nm
        Edge of a camera pixel in the sample.
    exposure_ms
        Time from frame to frame, where it is known.
    n_frames
        Number of frames; needed where `frames` has no length.
    """
    if n_frames is None:
        n_frames = len(frames)  # type: ignore[arg-type]
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None or n_frames < 1:
        raise InputError(f"expected frames to write to {path}, got none")
    if first.ndim != 2 or first.dtype not in (np.uint8, np.uint16):
        raise InputError(f"expected (Y, X) frames of uint8 or uint16, got {first.shape} {first.dtype}")

    def pages() -> Iterator[NDArray[Any]]:
        yield first
        written = 1
        for frame in iterator:
            if frame.shape != first.shape or frame.dtype != first.dtype:
                raise InputError(
                    f"expected frames of {describe_frame(first.shape, first.dtype)} like the first, got "
                    f"{describe_frame(frame.shape, frame.dtype)} at frame {written}"
                )
            written += 1
            if written > n_frames:
                break
            yield frame
        if written != n_frames:
            raise InputError(f"expected {n_frames} frames for {path}, got {written if written < n_frames else 'more'}")

    metadata: dict[str, Any] = {"axes": "TYX", "Name": path.name}
    for axis in "XY":
        metadata[f"PhysicalSize{axis}"] = pixel_size_nm / 1000
        metadata[f"PhysicalSize{axis}Unit"] = "µm"
    if exposure_ms is not None:
        metadata |= {"TimeIncrement": exposure_ms, "TimeIncrementUnit": "ms"}
    n_bytes = n_frames * (first.nbytes + 512)
    per_cm = 1e7 / pixel_size_nm
    with whole_file(path) as part, tifffile.TiffWriter(part, ome=True, bigtiff=n_bytes > 4_000_000_000) as tiff:
        tiff.write(
            pages(),
            shape=(n_frames, *first.shape),
            dtype=first.dtype,
            photometric="minisblack",
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            metadata=metadata,
        )
