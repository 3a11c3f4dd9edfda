"""Localizations against the maps they come from, the canvas of the same pass, and the truth."""

import dataclasses

import msgspec
import pytest
import torch

from stormlive_models.checkpoint import load_model
from stormlive_models.evaluate import match
from stormlive_models.localize import Localizations, add_and_localize, localizations
from stormlive_models.networks.livenet import Detections, LiveNet
from stormlive_models.training.data import sample_batch
from stormlive_models.training.recipe import DataSettings
from stormlive_models.training.validation import validation_settings
from stormlive_models.zoo import find_model
from stormlive_sim.emitters import Emitters

SUB_NM = 12.5


@pytest.fixture(scope="module")
def network() -> LiveNet:
    net, _ = load_model(find_model("livenet"), torch.device("cpu"))
    assert isinstance(net, LiveNet)
    return net


def frames(n: int, density: float, side: int = 64) -> tuple[torch.Tensor, Emitters]:
    settings = msgspec.structs.replace(validation_settings(DataSettings(), density), patch_px=side)
    return sample_batch(settings, n, torch.Generator().manual_seed(5))


def random_maps(n: int, height: int, width: int) -> Detections:
    """Return lively maps in which emitters are often shared by neighbouring pixels."""
    generator = torch.Generator().manual_seed(2)

    def draw() -> torch.Tensor:
        return torch.rand(n, height, width, generator=generator)

    column = torch.arange(width) + 0.5
    row = (torch.arange(height) + 0.5)[:, None]
    return Detections(
        logit=4 * draw() - 3,
        x_px=column + 1.6 * draw() - 0.8,
        y_px=row + 1.6 * draw() - 0.8,
        log_photons=6 + draw(),
        sigma_x_px=0.1 + draw(),
        sigma_y_px=0.1 + draw(),
        sigma_log_photons=draw(),
    )


def assert_same(found: Localizations, expected: Localizations, **tolerance: float) -> None:
    """Compare row for row, whatever the order within a frame."""
    assert len(found) == len(expected)

    def columns(table: Localizations) -> torch.Tensor:
        values = torch.stack([column.double() for column in dataclasses.astuple(table)], 1)
        for by in (1, 2, 0):  # a stable sort by each in turn: by frame, then y, then x
            values = values[values[:, by].argsort(stable=True)]
        return values

    assert torch.allclose(columns(found), columns(expected), **tolerance)


def test_the_canvas_holds_as_much_as_was_localized_and_where(network: LiveNet) -> None:
    photons, truth = frames(16, 1.0)
    canvas, plain = torch.zeros(512, 512), torch.zeros(512, 512)
    found = add_and_localize(network, photons, canvas, 100.0)
    network.add_increment(photons, plain)
    assert torch.equal(canvas, plain)
    assert len(found) > 0.8 * len(truth) > 400
    assert canvas.sum().item() == pytest.approx(len(found), rel=0.1)
    near = 25 * torch.nn.functional.avg_pool2d(canvas[None, None], 5, 1, 2)[0, 0]
    rows, columns = (found.y_nm / SUB_NM).long().clamp(0, 511), (found.x_nm / SUB_NM).long().clamp(0, 511)
    assert near[rows, columns].min() > 0.2
    assert near[columns, rows].median() < 0.1  # x and y exchanged: elsewhere there is nothing


def test_the_uncertainty_is_the_error_made(network: LiveNet) -> None:
    photons, truth = frames(16, 0.5)
    found = add_and_localize(network, photons, torch.zeros(512, 512), 100.0)
    assert ((found.probability >= 0.45) & (found.probability <= 1)).all()
    pulls = []
    for frame in range(16):
        seen, true = (torch.stack((t.x_nm, t.y_nm), 1)[t.frame == frame].numpy() for t in (found, truth))
        sigma = torch.stack((found.sigma_x_nm, found.sigma_y_nm), 1)[found.frame == frame].numpy()
        pairs = match(seen, true, 100.0)
        pulls.append(torch.from_numpy((seen[pairs[:, 0]] - true[pairs[:, 1]]) / sigma[pairs[:, 0]]))
    spread = torch.cat(pulls).std(0)
    assert ((spread > 0.5) & (spread < 1.5)).all()


def test_tiles_of_a_large_frame_neither_lose_nor_double_a_localization(
    network: LiveNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    photons, _ = frames(2, 2.0, side=132)
    whole = add_and_localize(network, photons, torch.zeros(1056, 1056), 100.0)
    monkeypatch.setattr(network.portion, "side_px", 64)
    canvas = torch.zeros(1056, 1056)
    tiled = add_and_localize(network, photons, canvas, 100.0)
    assert len(whole) > 500
    assert_same(tiled, whole, rtol=1e-3, atol=0.05)
    assert (tiled.frame.diff() >= 0).all()
    assert canvas.sum().item() == pytest.approx(len(tiled), rel=0.15)


def test_every_localization_belongs_to_one_part_of_the_frame() -> None:
    maps = random_maps(2, 24, 20)
    whole = localizations(maps, 100.0)
    parts = [
        localizations(maps, 100.0, within=(rows, columns))
        for rows in (slice(0, 9), slice(9, None))
        for columns in (slice(0, 11), slice(11, None))
    ]
    assert len(whole) > 50
    assert min(map(len, parts)) > 5
    assert_same(Localizations.in_frame_order(parts), whole, rtol=0, atol=0)


def two_pixels_at_one_place(at: int, probability: float) -> Detections:
    """Return maps in which pixels `at` and `at` + 1 of row 4 point to 0.15 px either side of the line between them."""
    p, x, y = torch.full((1, 8, 2048), 1e-6), torch.full((1, 8, 2048), -9.0), torch.full((1, 8, 2048), -9.0)
    for column, x_px in ((at, at + 0.85), (at + 1, at + 1.15)):
        p[0, 4, column], x[0, 4, column], y[0, 4, column] = probability, x_px, 4.5
    tenth = torch.full((1, 8, 2048), 0.1)
    return Detections(
        logit=torch.logit(p),
        x_px=x,
        y_px=y,
        log_photons=tenth,
        sigma_x_px=tenth,
        sigma_y_px=tenth,
        sigma_log_photons=tenth,
    )


@pytest.mark.parametrize("at", [4, 2000])
def test_the_uncertainty_of_a_shared_emitter_is_that_of_the_mixture(at: int) -> None:
    found = localizations(two_pixels_at_one_place(at, 0.4), 100.0)
    assert found.x_nm.tolist() == pytest.approx([100 * at + 100], abs=0.05)
    assert found.sigma_x_nm.tolist() == pytest.approx([100 * (0.1**2 + 0.15**2) ** 0.5], rel=0.01)
    assert found.sigma_y_nm.tolist() == pytest.approx([10], rel=0.01)
    assert found.probability.tolist() == pytest.approx([0.8], rel=0.01)


@pytest.mark.parametrize("at", [4, 2000])
def test_where_two_are_expected_two_are_told_at_their_places(at: int) -> None:
    found = localizations(two_pixels_at_one_place(at, 0.9), 100.0)
    assert found.frame.tolist() == [0, 0]
    assert sorted(found.x_nm.tolist()) == pytest.approx([100 * at + 85, 100 * at + 115], abs=0.05)
    assert found.y_nm.tolist() == pytest.approx([450, 450], abs=0.05)
    assert found.sigma_x_nm.tolist() == pytest.approx([10, 10], rel=0.01)
    assert found.sigma_y_nm.tolist() == pytest.approx([10, 10], rel=0.01)
    assert found.probability.tolist() == pytest.approx([1, 0.8], rel=0.01)


def test_nothing_found_is_an_empty_table(network: LiveNet) -> None:
    found = add_and_localize(network, torch.full((2, 16, 16), 10.0), torch.zeros(128, 128), 100.0)
    assert len(found) == len(found.emitters()) == 0
