"""Writes a recording slowly, as a script: ``growing_writer.py KIND PATH N_FRAMES PAUSE_S``; says each frame."""

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHAPE = (20, 24)


def frame(i: int) -> NDArray[np.uint16]:
    """Return frame `i`, the same in every process."""
    return np.random.default_rng(i).integers(90, 500, SHAPE).astype(np.uint16)


def main() -> None:
    kind, path, n, pause_s = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])

    def said(i: int) -> None:
        print(i, flush=True)
        time.sleep(pause_s)

    if kind == "ndtiff":
        from ndstorage import NDTiffDataset

        dataset = NDTiffDataset(str(path), summary_metadata={}, writable=True)
        for i in range(n):
            dataset.put_image({"time": i}, frame(i), {"ElapsedTime-ms": i})
            said(i)
        dataset.finish()
    elif kind in ("tiff", "packed"):
        import tifffile

        with tifffile.TiffWriter(path, ome=False) as tiff:
            for i in range(n):
                tiff.write(frame(i), contiguous=False, compression="zlib" if kind == "packed" else None, metadata=None)
                said(i)
    elif kind == "split":  # as Micro-Manager does at 4 GB: here after every 25 frames, with the size from the start
        import tifffile

        for first in range(0, n, 25):
            number = first // 25
            part = path if number == 0 else path.with_name(path.name.replace(".ome.tif", f"_{number}.ome.tif"))
            count = min(25, n - first)
            stack = tifffile.memmap(part, shape=(count, *SHAPE), dtype=np.uint16, ome=False, metadata=None)
            for i in range(count):
                stack[i] = frame(first + i)
                stack.flush()
                said(first + i)
    elif kind == "memmap":  # all of the file from the start, as pymmcore-plus writes OME-TIFF
        import tifffile

        stack = tifffile.memmap(path, shape=(n, *SHAPE), dtype=np.uint16, ome=True, metadata={"axes": "TYX"})
        for i in range(n):
            stack[i] = frame(i)
            stack.flush()
            said(i)


if __name__ == "__main__":
    main()
