"""The original against ours on the same frames in one run: Keras as its authors run it, and the best it can be made.

    pip install tensorflow-cpu
    python benchmarks/versus_original.py

Keras runs the network of 2018 with random weights (they cost the same) as the authors' test script does: frames
upsampled by 8 and scaled, ``predict`` with a batch of 1, negative values cut, summed. Ours are end to end: camera ADU
in, canvas out, through the engine that the server uses, with what it chooses on this machine. Turns are interleaved
and medians compared. Exit status 1 when livenet is less than 40 times, or small less than 80 times faster than Keras.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _report import report
from numpy.typing import NDArray

from stormlive.server.engine import Engine
from stormlive.wire.calibration import Calibration
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.runtime import OPENVINO, TORCH, accelerate
from stormlive_models.training.data import sample_batch
from stormlive_models.training.recipe import DataSettings
from stormlive_models.training.validation import validation_settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
_KERAS = "Keras, batch 1"
_AIMS = {"livenet": 40.0, "small": 80.0}
_FEATURES = (32, 64, 128, 512, 128, 64, 32)
_CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10)


def keras_original(threads: int) -> Callable[[NDArray[np.uint16]], object]:
    """Return the original in Keras, (B, Y, X) ADU to a summed heat map."""
    try:
        import tensorflow as tf
    except ImportError:
        sys.exit("the original needs Keras: pip install tensorflow-cpu")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    layers: Any = tf.keras.layers
    x = start = layers.Input((None, None, 1))
    for number, features in enumerate(_FEATURES, 1):
        x = layers.Conv2D(features, (3, 3), padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        if number <= 3:
            x = layers.MaxPooling2D((2, 2))(x)
        elif number <= 6:
            x = layers.UpSampling2D((2, 2))(x)
    model = tf.keras.Model(start, layers.Conv2D(1, (1, 1), padding="same", use_bias=False)(x))

    def run(adu: NDArray[np.uint16]) -> object:
        frames = adu.astype(np.float32).repeat(8, 1).repeat(8, 2)
        low, high = frames.min((1, 2), keepdims=True), frames.max((1, 2), keepdims=True)
        scaled = ((frames - low) / (high - low) - 0.196) / 0.178
        return model.predict(scaled[..., None], batch_size=1, verbose=0).clip(0).sum(0)

    return run


def torch_original(runtime: str) -> Callable[[NDArray[np.uint16]], object]:
    """Return the original as our engine would run it."""
    network = DeepStorm().eval()
    accelerate([network], runtime)
    canvas = torch.zeros(512, 512)

    def run(adu: NDArray[np.uint16]) -> object:
        photons = (torch.from_numpy(adu).float() - 100) * 0.5
        for frame in photons:
            network.add_increment(frame[None], canvas)
        return canvas

    return run


def ours(model: str, batch: int, names: dict[str, str]) -> Callable[[NDArray[np.uint16]], object]:
    """Return our engine, in batches."""
    engine = Engine(model, "cpu")
    names[model] = engine.runtime
    reconstruction = engine.open((64, 64), _CALIBRATION)

    def run(adu: NDArray[np.uint16]) -> object:
        for first in range(0, len(adu), batch):
            reconstruction.add(adu[first : first + batch])
        return reconstruction

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--density", type=float, default=3.0, help="emitters per square micrometre")
    options = parser.parse_args()
    settings = validation_settings(DataSettings(), options.density)
    photons, _ = sample_batch(settings, options.frames, torch.Generator().manual_seed(1))
    adu = (photons / 0.5 + 100).clamp(0, 65535).round().numpy().astype(np.uint16)
    runtimes: dict[str, str] = {}
    methods = {
        _KERAS: keras_original(torch.get_num_threads()),
        "2018, PyTorch": torch_original(TORCH),
        "2018, OpenVINO": torch_original(OPENVINO),
        "livenet, frame by frame": ours("livenet", 1, runtimes),
        "livenet": ours("livenet", 16, runtimes),
        "small, frame by frame": ours("small", 1, runtimes),
        "small": ours("small", 16, runtimes),
    }
    times: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(options.rounds + 1):
        for name, run in methods.items():
            # The originals take a second for what ours do in a hundredth.
            part = adu if name in _AIMS or "frame by frame" in name else adu[:4]
            began = time.perf_counter()
            run(part)
            if turn:  # the first is for warming up
                times[name].append((time.perf_counter() - began) / len(part))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    ratios = {name: medians[_KERAS] / median for name, median in medians.items()}
    rows = [
        {
            "method": name,
            "ms/frame": 1000 * median,
            "quickest": 1000 * min(times[name]),
            "slowest": 1000 * max(times[name]),
            "frames/s": 1 / median,
            "times Keras": ratios[name],
            "times 2018 in OpenVINO": medians["2018, OpenVINO"] / median,
            "aim": _AIMS.get(name, ""),
        }
        for name, median in medians.items()
    ]
    notes = {
        "threads": torch.get_num_threads(),
        "frames": f"{options.frames} of 64x64, {options.density:g} emitters/um2",
        "runtime": runtimes,
        "rounds": options.rounds,
    }
    report("versus_original", rows, notes)
    short = [f"{name}: {ratios[name]:.0f} of {aim:.0f}" for name, aim in _AIMS.items() if ratios[name] < aim]
    if short:
        sys.exit("short of the aim: " + ", ".join(short))


if __name__ == "__main__":
    main()
