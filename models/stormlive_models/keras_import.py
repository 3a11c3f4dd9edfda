"""Weights of the original Deep-STORM code (Keras, HDF5 and .mat) as a model of ours."""

import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stormlive_models.checkpoint import ModelCard, file_sha256
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_sim.errors import InputError

_SCALING = ("mean_test", "std_test")
_NORM_PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_KEPT = "give the file that the original's Training.py wrote, or model.save('x.h5') of the same network"


def import_keras(
    weights: Path, meanstd: Path, *, name: str, pixel_size_nm: float = 100.0
) -> tuple[DeepStorm, ModelCard]:
    """Return the original's network with its trained weights, in evaluation mode, and a model card.

    Parameters
    ----------
    weights : Path
        HDF5 of Keras 1 or 2, whole model or weights alone (or of Keras 3's ``model.save("x.h5")``). Layers are taken
        in the order of the file, whatever they are called.
    meanstd : Path
        The .mat file beside it, with ``mean_test`` and ``std_test``.
    name : str
        Of the model, for its card.
    pixel_size_nm : float
        Camera pixel of the frames that the network was trained for; the file does not say.

    Notes
    -----
    Positions keep the original's convention, half a sub-pixel towards the frame's corner (its MATLAB code rounds
    where a histogram takes the floor).

    Raises
    ------
    InputError
        When a file is missing, of another kind, or holds another network.
    """
    network = DeepStorm(pixel_size_nm)
    layers = [m for m in network.layers.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    version = _copy_weights(weights, layers)
    mean, std = _read_scaling(meanstd)
    network.mean.fill_(mean)
    network.std.fill_(std)
    card = ModelCard(
        name=name,
        architecture="deepstorm",
        arguments={"pixel_size_nm": pixel_size_nm, "upsampling": network.upsampling},
        normalisation=(
            "nearest x8, [0, 1] by the frame's minimum and maximum, (x - mean)/std of the original's training set; "
            "positions half a sub-pixel towards the corner"
        ),
        training={"imported": "trained with the original Deep-STORM code; its settings are not in its files"},
        trained={
            "imported_from": weights.name,
            "imported_sha256": file_sha256(weights),
            "meanstd_from": meanstd.name,
            "keras_version": version,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        },
        metrics={},
    )
    return network.eval(), card


def _copy_weights(path: Path, layers: list[nn.Conv2d | nn.BatchNorm2d]) -> str:
    """Fill the layers from the file and return the version of Keras that wrote it."""
    if not path.is_file():
        raise InputError(f"the weights {path} do not exist; check the path")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is no HDF5 file, or is damaged ({error}); {_KEPT}") from error
    with file:
        # ModelCheckpoint keeps the whole model, save_weights the weights alone.
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            raise InputError(f"{path} has no list of Keras layers (it holds {_some(file)}); {_KEPT}")
        found = [(layer, _datasets(path, root, layer)) for layer in _texts(root.attrs["layer_names"])]
        found = [(layer, datasets) for layer, datasets in found if datasets]
        if len(found) != len(layers):
            raise InputError(
                f"expected the {len(layers)} layers with weights of Deep-STORM (2018), got {len(found)} in {path}: "
                f"{_some([layer for layer, _ in found])}; this is another network"
            )
        for (layer, datasets), module in zip(found, layers, strict=True):
            for part, (target, shape) in _expected(module).items():
                if part not in datasets or len(datasets) != len(_expected(module)):
                    raise InputError(
                        f"expected {_some(_expected(module))} in layer {layer!r} of {path}, got {_some(datasets)}; "
                        "this is another network"
                    )
                target.copy_(_tensor(path, layer, part, datasets[part], shape))
        return ", ".join(_texts(root.attrs.get("keras_version", "unknown")))


def _expected(module: nn.Conv2d | nn.BatchNorm2d) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """Return, by Keras's names, the tensors of a layer and their shapes in Keras."""
    state = module.state_dict()
    if isinstance(module, nn.Conv2d):
        n_out, n_in, height, width = state["weight"].shape
        return {"kernel": (state["weight"], (height, width, n_in, n_out))}
    return {part: (state[ours], tuple(state[ours].shape)) for part, ours in _NORM_PARTS.items()}


def _datasets(path: Path, root: Any, layer: str) -> dict[str, Any]:  # noqa: ANN401 - h5py has no types
    """Return a layer's datasets by the last part of their names: ``conv-CNNF1/kernel:0`` is ``kernel``."""
    try:
        names = _texts(root[layer].attrs["weight_names"])
        return {name.rsplit("/", 1)[-1].split(":")[0]: root[layer][name] for name in names}
    except KeyError as error:
        raise InputError(f"{path} is damaged: it lists layer {layer!r} but lacks its weights; {_KEPT}") from error


def _tensor(path: Path, layer: str, part: str, dataset: Any, shape: tuple[int, ...]) -> Tensor:  # noqa: ANN401
    if dataset.shape != shape:
        raise InputError(
            f"expected {part} of shape {shape} in layer {layer!r} of {path}, got {dataset.shape}; "
            "only the network of 2018 can be imported, with one input and one output channel"
        )
    values = np.asarray(dataset[()], np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{part} of layer {layer!r} in {path} is not finite: that training failed; use other weights")
    # Keras has (height, width, in, out), torch (out, in, height, width).
    return torch.from_numpy(np.ascontiguousarray(values.transpose(3, 2, 0, 1) if values.ndim == 4 else values))


def _read_scaling(path: Path) -> tuple[float, float]:
    if not path.is_file():
        raise InputError(f"the scaling {path} does not exist; it is the .mat file that Training.py wrote")
    try:
        content: dict[str, NDArray[Any]] = scipy.io.loadmat(path)
    except NotImplementedError as error:
        raise InputError(f"{path} is a MATLAB 7.3 file; save it in MATLAB with the option -v7") from error
    except Exception as error:  # scipy raises whatever its parser ran into
        raise InputError(
            f"{path} is no MATLAB file ({error}); expected the .mat file that Training.py wrote beside the weights"
        ) from error
    values = []
    for key in _SCALING:
        if key not in content:
            keys = [k for k in content if not k.startswith("__")]
            raise InputError(f"expected {' and '.join(_SCALING)} in {path}, got {_some(keys)}; give the meanstd file")
        number = np.asarray(content[key])
        if number.size != 1 or number.dtype.kind not in "fiu" or not np.isfinite(number).all():
            raise InputError(f"expected one finite number as {key} in {path}, got {number.dtype} of {number.shape}")
        values.append(float(number.reshape(())))
    mean, std = values
    if std <= 0:
        raise InputError(f"expected std_test above 0 in {path}, got {std:g}; give the meanstd file of this training")
    return mean, std


def _texts(attribute: Any) -> list[str]:  # noqa: ANN401
    """Return the strings of an HDF5 attribute, which is bytes or text, one or many, as the versions had it."""
    return [v.decode() if isinstance(v, bytes) else str(v) for v in np.atleast_1d(attribute)]


def _some(names: Any) -> str:  # noqa: ANN401
    listed = list(names)
    return ", ".join(listed[:6]) + (", …" if len(listed) > 6 else "") if listed else "nothing"
