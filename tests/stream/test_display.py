import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stormlive.output import display
from stormlive.output.display import auto_contrast, colours, length_label, scale_bar_nm, sum_pool
from stormlive_sim.errors import InputError

images = arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    elements=st.integers(0, 1000).map(float),
)


@given(images, st.integers(1, 12), st.sampled_from([1, 300, 1 << 24]))
def test_pooling_loses_nothing(image: np.ndarray, factor: int, band_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(display, "_BAND_BYTES", band_bytes)
        pooled = sum_pool(image, factor)
    assert pooled.shape == tuple(-(-side // factor) for side in image.shape)
    assert pooled.sum(dtype=np.float64) == image.sum(dtype=np.float64)
    assert pooled[0, 0] == image[:factor, :factor].sum()
    if factor == 1:
        assert np.array_equal(pooled, image)


def test_pooling_takes_nan_for_nothing() -> None:
    image = np.ones((4, 4), np.float32)
    image[0, 0], image[3, 3] = np.nan, np.inf
    assert sum_pool(image, 2).tolist() == [[3, 4], [4, 3]]


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        elements=st.floats(allow_nan=True, allow_infinity=True, width=32),
    )
)
def test_contrast_always_has_a_range(image: np.ndarray) -> None:
    low, high = auto_contrast(image)
    assert np.isfinite([low, high]).all()
    assert low < high


def test_contrast_of_a_sparse_canvas_looks_at_what_is_lit() -> None:
    canvas = np.zeros((1000, 1000), np.float32)
    canvas[::100, ::100] = 3
    assert auto_contrast(canvas) == (0, 3)
    canvas[0, 0] = 1e6
    low, high = auto_contrast(canvas * 2)
    assert low == 0
    assert 6 <= high < 1e6


def test_contrast_of_a_camera_image_takes_its_background_for_black() -> None:
    rng = np.random.default_rng(3)
    image = rng.normal(500, 5, (200, 200)).astype(np.float32)
    image[50:60] += 400
    low, high = auto_contrast(image)
    assert 480 < low < 500
    assert 880 < high < 920


def test_contrast_of_a_large_image_is_that_of_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(5).random((500, 500), np.float32)
    whole = auto_contrast(image)
    monkeypatch.setattr(display, "_CONTRAST_SAMPLES", 10_000)
    assert auto_contrast(image) == pytest.approx(whole, abs=0.01)


@given(st.floats(0.1, 1e9))
def test_scale_bar_is_round_and_nearly_as_long_as_may_be(widest_nm: float) -> None:
    length = scale_bar_nm(widest_nm)
    assert 0.39 * widest_nm < length <= widest_nm * 1.0001
    assert f"{length:.0e}"[0] in "125"
    assert length == pytest.approx(float(f"{length:.0e}"))


@pytest.mark.parametrize(
    ("length_nm", "label"),
    [(50, "50 nm"), (500.0, "500 nm"), (1000.0, "1 µm"), (2e4, "20 µm"), (0.5, "0.5 nm")],
)
def test_length_labels(length_nm: float, label: str) -> None:
    assert length_label(length_nm) == label


@pytest.mark.parametrize("name", [display.SUPERRES_COLORMAP, display.WIDEFIELD_COLORMAP])
def test_maps_begin_in_black_and_only_get_brighter(name: str) -> None:
    luminance = colours(name) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    assert luminance[0] < 0.01
    assert (np.diff(luminance) > -1e-4).all()
    assert luminance[-1] > 0.8


def test_unknown_map_is_named() -> None:
    with pytest.raises(InputError, match="unknown colormap 'infernal'"):
        colours("infernal")
