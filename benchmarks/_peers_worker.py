"""Runs another program's method on request, in a Python where that program is installed; peers.py starts it.

A request is a line of JSON with the movie's file, how many of its frames to take, the method's parameters and where to
put the arrays that come out; the answer is a line with the seconds that it took, by the wall and of the processor, or
with why it could not be done. Nothing of stormlive is imported here.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module, metadata
from typing import Any

import numpy as np

PIXEL_NM, SIDE_PX, SUB_NM = 100.0, 64, 12.5
Arrays = dict[str, Any]
Parameters = dict[str, Any]


def picasso(movie: Any, p: Parameters) -> Callable[[], Arrays]:  # noqa: ANN401
    """Localize as Picasso does, and return what draws the picture: that is not part of the time."""
    localize, render = import_module("picasso.localize"), import_module("picasso.render")
    locs, info = localize.localize(
        movie,
        camera_info={"Baseline": 100, "Sensitivity": 0.5, "Gain": 1, "Pixelsize": PIXEL_NM},
        identification_parameters={"Min. Net Gradient": p["gradient"], "Box Size": p["box"]},
        fitting_method=p["fit"],
        # Its threads are looked after every 0.2 s, which would count for nothing but waiting in a short movie.
        threaded=p["threads"] > 1,
    )
    locs = locs[(locs.sx < p["widest"]) & (locs.sy < p["widest"])]
    # Its positions count from the centre of the first pixel.
    locs = locs.assign(x=locs.x + 0.5, y=locs.y + 0.5)

    def results() -> Arrays:
        columns = {name: locs[name].to_numpy() for name in ("frame", "x", "y", "photons")}
        info.append({"Height": SIDE_PX, "Width": SIDE_PX, "Frames": len(movie)})
        _, image = render.render(locs, info, disp_px_size=SUB_NM, blur_method=p["blur"])
        return {**columns, "width": locs[["sx", "sy"]].max(axis=1).to_numpy(), "image": image}

    return results


def esrrf(movie: Any, p: Parameters) -> Callable[[], Arrays]:  # noqa: ANN401
    image = import_module("nanopyx.methods").eSRRF(
        np.asarray(movie, np.float32),
        magnification=p["magnification"],
        radius=p["radius"],
        sensitivity=p["sensitivity"],
        temporal_correlation=p["correlation"],
    )
    return lambda: {"image": np.asarray(image, np.float32).reshape(-1, *np.shape(image)[-2:]).mean(0)}


METHODS = {"picasso": picasso, "esrrf": esrrf}
PACKAGES = {"picasso": ("picasso.localize", "picassosr"), "esrrf": ("nanopyx.methods", "nanopyx")}


def main() -> None:
    # What the programs print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    method = sys.argv[1]
    module, package = PACKAGES[method]
    try:
        import_module(module)
        first = {"version": f"{package} {metadata.version(package)}"}
    except Exception as error:
        first = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(first), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            movie = np.load(request["movie"], mmap_mode="r")[: request["frames"]]
            began, cpu_began = time.perf_counter(), time.process_time()
            results = METHODS[method](movie, request["parameters"])
            answer: dict[str, Any] = {
                "seconds": time.perf_counter() - began,
                "cpu_seconds": time.process_time() - cpu_began,
            }
            if request["out"]:
                np.savez(request["out"], **results())
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
