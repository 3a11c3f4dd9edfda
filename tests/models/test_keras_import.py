import importlib.util
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from stormlive.cli.app import run
from stormlive_models.checkpoint import load_model, save_model
from stormlive_models.keras_import import import_keras
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_sim.errors import InputError

_spec = importlib.util.spec_from_file_location("make_keras_fixture", Path(__file__).with_name("make_keras_fixture.py"))
assert _spec is not None
assert _spec.loader is not None
fixture = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fixture)

RECORDED = np.load(Path(__file__).with_name("keras_deepstorm.npy"))


@pytest.fixture
def meanstd(tmp_path: Path) -> Path:
    path = tmp_path / "meanstd.mat"
    scipy.io.savemat(path, {"mean_test": np.float32(fixture.MEAN), "std_test": np.float32(fixture.STD)})
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.hdf5"
    fixture.write_hdf5(path, fixture.layers(), whole_model=True)
    return path


@pytest.mark.parametrize("whole_model", [True, False])
def test_the_output_is_that_of_keras(tmp_path: Path, meanstd: Path, whole_model: bool) -> None:
    weights = tmp_path / "weights.hdf5"
    fixture.write_hdf5(weights, fixture.layers(), whole_model=whole_model)
    network, card = import_keras(weights, meanstd, name="mine", pixel_size_nm=120)
    with torch.no_grad():
        output = network(torch.from_numpy(fixture.frames())).numpy()[:, ::3, ::3]
    assert RECORDED.std() > 0.1
    assert np.abs(output - RECORDED).max() < 1e-4
    assert (card.name, card.pixel_size_nm, card.upsampling) == ("mine", 120, 8)
    assert card.trained["keras_version"] == "2.15.0"


def test_the_command_leaves_a_model_that_the_engine_can_use(
    tmp_path: Path, weights: Path, meanstd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, other = tmp_path / "m.safetensors", tmp_path / "n.safetensors"
    command = ["import-keras", str(weights), str(meanstd), "-o", str(mine), "--pixel-size-nm", "120"]
    assert [run(command), run(command), run([*command, "--overwrite"])] == [0, 1, 0]
    network, card = load_model(mine, torch.device("cpu"))
    assert isinstance(network, DeepStorm)
    assert card.name == "weights"
    assert network.mean.item() == pytest.approx(fixture.MEAN)
    canvas = torch.zeros(64, 80)
    network.add_increment(torch.from_numpy(fixture.frames()), canvas)
    assert canvas.sum() > 0
    assert run(["import-keras", str(meanstd), str(weights), "-o", str(other)]) == 1  # the wrong way round
    assert "no HDF5 file" in capsys.readouterr().err


def test_the_canvas_is_in_emitters(weights: Path, meanstd: Path, tmp_path: Path) -> None:
    # In the original's loss the prediction is blurred with a kernel of sum 2 and compared with a heat map that is
    # blurred with sum 1, times 100: it is at its least where a lone emitter is 50.
    network, card = import_keras(weights, meanstd, name="m")
    ours = network.layers[-1].weight  # type: ignore[union-attr]
    theirs = torch.from_numpy(fixture.layers()[-1][1]["kernel"].transpose(3, 2, 0, 1))
    assert torch.allclose(50 * ours * network.increment_scale, theirs)  # type: ignore[operator, arg-type]
    save_model(tmp_path / "m.safetensors", network, card)
    assert load_model(tmp_path / "m.safetensors", torch.device("cpu"))[1] == card


def _without_bias_rule(path: Path) -> None:
    with h5py.File(path, "a") as file:
        group = file["model_weights/Prediction"]
        group.attrs["weight_names"] = [b"Prediction/kernel:0", b"Prediction/bias:0"]
        group.create_dataset("Prediction/bias:0", data=np.zeros(1, np.float32))


def _rgb(path: Path) -> None:
    content = fixture.layers()
    content[0][1]["kernel"] = np.zeros((3, 3, 3, 32), np.float32)
    fixture.write_hdf5(path, content, whole_model=True)


def _shallow(path: Path) -> None:
    fixture.write_hdf5(path, fixture.layers()[:6], whole_model=False)


def _not_finite(path: Path) -> None:
    content = fixture.layers()
    content[3][1]["gamma"][5] = np.nan
    fixture.write_hdf5(path, content, whole_model=True)


def _torn(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["model_weights/BN-CNNF3/BN-CNNF3/beta:0"]


def _keras_3_weights(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/conv2d/vars/0", data=np.zeros((3, 3, 1, 32), np.float32))


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100_000])


def _missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_without_bias_rule, r"expected kernel in layer 'Prediction' of .*, got kernel, bias"),
        (_rgb, r"expected kernel of shape \(3, 3, 1, 32\) in layer 'conv-CNNF1' of .*, got \(3, 3, 3, 32\)"),
        (_shallow, "expected the 15 layers .*, got 6"),
        (_not_finite, "gamma of layer 'BN-CNNF2' in .* is not finite"),
        (_torn, "lists layer 'BN-CNNF3' but lacks its weights"),
        (_keras_3_weights, "no list of Keras layers"),
        (_cut_short, "no HDF5 file, or is damaged"),
        (_missing, "do not exist"),
    ],
)
def test_other_weights_are_refused(weights: Path, meanstd: Path, spoil: Callable[[Path], None], complaint: str) -> None:
    spoil(weights)
    with pytest.raises(InputError, match=complaint) as error:
        import_keras(weights, meanstd, name="m")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"mean": 0.2, "std": 0.1}, "expected mean_test and std_test in .*, got mean, std"),
        ({"mean_test": 0.2, "std_test": 0.0}, "std_test above 0"),
        ({"mean_test": np.zeros(3), "std_test": 0.1}, "one finite number as mean_test"),
        ({"mean_test": np.nan, "std_test": 0.1}, "one finite number as mean_test"),
        (b"not a MATLAB file at all, only text that is long enough to be read as a header of one" * 3, "no MATLAB"),
    ],
)
def test_another_scaling_is_refused(
    weights: Path, meanstd: Path, content: dict[str, object] | bytes, complaint: str
) -> None:
    if isinstance(content, bytes):
        meanstd.write_bytes(content)
    else:
        scipy.io.savemat(meanstd, content)
    with pytest.raises(InputError, match=complaint):
        import_keras(weights, meanstd, name="m")
