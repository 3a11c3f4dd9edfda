import math

import numpy as np
import pytest
import torch

from stormlive_models.image_metrics import artifact_fraction, blur, score_image, truth_histogram
from stormlive_sim.emitters import Emitters

PIXEL_NM = 12.5


def emitters(xy: np.ndarray) -> Emitters:
    n = len(xy)
    return Emitters(
        frame=torch.arange(n) // 7,
        x_nm=torch.from_numpy(xy[:, 0]).float(),
        y_nm=torch.from_numpy(xy[:, 1]).float(),
        photons=torch.ones(n),
    )


def plain_convolution(image: np.ndarray) -> np.ndarray:
    kernel = np.array([[math.exp(-(i * i + j * j) / 2) for j in range(-3, 4)] for i in range(-3, 4)])
    padded = np.pad(image, 3)
    result = np.zeros_like(image)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            result[row, column] = (padded[row : row + 7, column : column + 7] * kernel).sum()
    return result / kernel.sum()


def best_error_percent(x: np.ndarray, target: np.ndarray) -> float:
    _, residual, *_ = np.linalg.lstsq(x.reshape(-1, 1), target.ravel(), rcond=None)
    return 100 * residual[0] / (target**2).sum()


@pytest.fixture
def case() -> tuple[np.ndarray, Emitters, np.ndarray]:
    """Return a picture, its truth (some of it outside) and the histogram of the truth."""
    generator = np.random.default_rng(5)
    truth = emitters(generator.random((60, 2)) * [26 * PIXEL_NM, 18 * PIXEL_NM] - 12)
    histogram = np.zeros((17, 24))
    for x, y in zip(truth.x_nm.tolist(), truth.y_nm.tolist(), strict=True):
        column, row = math.floor(x / PIXEL_NM), math.floor(y / PIXEL_NM)
        if 0 <= column < 24 and 0 <= row < 17:
            histogram[row, column] += 1
    image = 3.7 * plain_convolution(histogram) + generator.random((17, 24)) * (generator.random((17, 24)) < 0.3)
    return image.astype(np.float32), truth, histogram


def test_all_metrics_against_plain_loops(case: tuple[np.ndarray, Emitters, np.ndarray]) -> None:
    image, truth, histogram = case
    scores = score_image(image, truth, PIXEL_NM)
    x = image.astype(np.float64)
    assert np.array_equal(truth_histogram(truth, (17, 24), PIXEL_NM), histogram)
    assert scores.n1_percent == pytest.approx(best_error_percent(x, histogram), rel=1e-6)
    a, b = plain_convolution(x), plain_convolution(histogram)
    assert scores.n3_percent == pytest.approx(best_error_percent(a, b), rel=1e-6)
    assert scores.pearson == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], rel=1e-6)
    assert scores.mass_ratio == pytest.approx(x.sum() / histogram.sum())
    far = 0.0
    for row in range(17):
        for column in range(24):
            centre = np.array([column + 0.5, row + 0.5]) * PIXEL_NM
            nearest = min(math.dist(centre, p) for p in zip(truth.x_nm.tolist(), truth.y_nm.tolist(), strict=True))
            far += x[row, column] * (nearest > 25)
    assert scores.artifact_fraction == pytest.approx(far / x.sum(), rel=1e-6)
    assert 0 < scores.artifact_fraction < 1


def test_the_blur_is_the_plain_one(case: tuple[np.ndarray, Emitters, np.ndarray]) -> None:
    assert np.allclose(blur(case[2]), plain_convolution(case[2]))


def test_the_truth_itself_is_perfect_in_any_unit(case: tuple[np.ndarray, Emitters, np.ndarray]) -> None:
    _, truth, histogram = case
    scores = score_image((0.01 * histogram).astype(np.float32), truth, PIXEL_NM)
    assert scores.n1_percent == pytest.approx(0, abs=1e-9)
    assert scores.n3_percent == pytest.approx(0, abs=1e-9)
    assert scores.pearson == pytest.approx(1)
    assert scores.artifact_fraction == 0
    assert scores.mass_ratio == pytest.approx(0.01)


def test_blurring_forgives_a_sub_pixel_where_the_raw_error_does_not(
    case: tuple[np.ndarray, Emitters, np.ndarray],
) -> None:
    _, truth, histogram = case
    shifted = score_image(np.roll(histogram, 1, 1).astype(np.float32), truth, PIXEL_NM)
    assert shifted.n1_percent > 60
    assert shifted.n3_percent < 0.6 * shifted.n1_percent


def test_an_empty_picture_explains_nothing(case: tuple[np.ndarray, Emitters, np.ndarray]) -> None:
    image, truth, _ = case
    scores = score_image(np.zeros_like(image), truth, PIXEL_NM)
    assert (scores.n1_percent, scores.n3_percent, scores.mass_ratio) == (100, 100, 0)
    assert math.isnan(scores.pearson)
    assert math.isnan(scores.artifact_fraction)


def test_artifacts_lie_over_25_nm_from_the_nearest_emitter() -> None:
    image = np.zeros((1, 40), np.float32)
    image[0, [4, 6, 30]] = [3, 1, 2]  # centres at 56.25, 81.25 and 381.25 nm
    for x, expected in ((56.25, 2 / 6), (56.24, 3 / 6), (380.0, 4 / 6)):
        truth = emitters(np.array([[x, 6.25]]))
        assert artifact_fraction(image, truth, PIXEL_NM) == pytest.approx(expected)
    assert artifact_fraction(image, emitters(np.zeros((0, 2))), PIXEL_NM) == 1
