"""What real Keras makes of the network of 2018: ``python make_keras_fixture.py OUT.npy``.

Run once in an environment of its own (``pip install tensorflow-cpu==2.15.1``, which brings Keras 2.15), not by the
tests: they read the recorded output beside this script, and build the HDF5 files themselves from the same weights, in
the layout that Keras wrote here (`write_hdf5`).
"""

import argparse
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

FEATURES = (32, 64, 128, 512, 128, 64, 32)
MEAN, STD = 0.21, 0.17
Layer = tuple[str, dict[str, NDArray[np.float32]]]


def layers() -> list[Layer]:
    """Return the layers with weights, in Keras's names, order and shapes, with values anyone can make again."""
    rng = np.random.default_rng(7)

    def uniform(low: float, high: float, *shape: int) -> NDArray[np.float32]:
        return (low + (high - low) * rng.random(shape)).astype(np.float32)

    found: list[Layer] = []
    n_in = 1
    for number, n_out in enumerate(FEATURES, 1):
        reach = (3 / (9 * n_in)) ** 0.5
        found.append((f"conv-CNNF{number}", {"kernel": uniform(-reach, reach, 3, 3, n_in, n_out)}))
        norm = {
            "gamma": uniform(0.5, 2.0, n_out),
            "beta": uniform(-0.5, 0.5, n_out),
            "moving_mean": uniform(-0.5, 0.5, n_out),
            "moving_variance": uniform(0.3, 3.0, n_out),
        }
        found.append((f"BN-CNNF{number}", norm))
        n_in = n_out
    reach = (3 / n_in) ** 0.5
    return [*found, ("Prediction", {"kernel": uniform(-reach, reach, 1, 1, n_in, 1)})]


def frames() -> NDArray[np.float32]:
    """Return two camera frames, (2, 8, 10)."""
    rng = np.random.default_rng(8)
    return (100 + np.array([[[300.0]], [[5000.0]]]) * rng.random((2, 8, 10))).astype(np.float32)


def write_hdf5(path: Path, content: list[Layer], *, whole_model: bool) -> None:
    """Write weights as Keras 2 does: a group per layer, in it the datasets by their full names, and lists of both.

    ``save_weights`` puts the layers at the root, ``model.save`` (and ``ModelCheckpoint``, which the original uses)
    into ``model_weights``. Layers without weights are listed too.
    """
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        listed = [("input_1", {}), *content[:2], ("Relu-CNNF1", {}), ("CNNPool1", {}), *content[2:]]
        root.attrs["layer_names"] = [name.encode() for name, _ in listed]
        root.attrs["keras_version"] = b"2.15.0"
        root.attrs["backend"] = b"tensorflow"
        for layer, parts in listed:
            group = root.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{part}:0".encode() for part in parts]
            for part, values in parts.items():
                group.create_dataset(f"{layer}/{part}:0", data=values)


def build(keras: Any) -> Any:  # noqa: ANN401 - no Keras where this is checked
    """Return the network as the original's CNN_Model.py describes it."""
    x = start = keras.layers.Input((None, None, 1))
    for number, n_out in enumerate(FEATURES, 1):
        x = keras.layers.Conv2D(n_out, (3, 3), padding="same", use_bias=False, name=f"conv-CNNF{number}")(x)
        x = keras.layers.BatchNormalization(name=f"BN-CNNF{number}")(x)
        x = keras.layers.Activation("relu", name=f"Relu-CNNF{number}")(x)
        if number <= 3:
            x = keras.layers.MaxPooling2D((2, 2), name=f"CNNPool{number}")(x)
        elif number <= 6:
            x = keras.layers.UpSampling2D((2, 2), name=f"CNNUpsample{number - 3}")(x)
    last = keras.layers.Conv2D(1, (1, 1), padding="same", use_bias=False, name="Prediction")
    model = keras.models.Model(start, last(x))
    for layer, parts in layers():
        model.get_layer(layer).set_weights(list(parts.values()))
    return model


def main() -> None:
    """Record the output, every third sub-pixel of it; save the model and its weights where asked."""
    import keras  # type: ignore[import-not-found, unused-ignore]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    model = build(keras)
    fine = frames().repeat(8, 1).repeat(8, 2)
    low, high = fine.min((1, 2), keepdims=True), fine.max((1, 2), keepdims=True)
    output = model.predict((((fine - low) / (high - low) - MEAN) / STD)[..., None], verbose=0)[..., 0]
    np.save(options.out, output[:, ::3, ::3].astype(np.float32))
    if options.weights:
        model.save_weights(options.weights)
    if options.model:
        model.compile(optimizer="adam", loss="mse")
        model.save(options.model)
    print(f"Keras {keras.__version__}: output {output.shape}, mean {output.mean():.3f}, std {output.std():.3f}")


if __name__ == "__main__":
    main()
