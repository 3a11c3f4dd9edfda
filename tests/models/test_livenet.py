import pytest
import torch

from stormlive_models.networks.livenet import Detections, LiveNet
from stormlive_models.normalize import background, livenet_input
from stormlive_models.training.losses import detection_loss
from stormlive_sim.emitters import Emitters


def network(seed: int = 0) -> LiveNet:
    torch.manual_seed(seed)
    net = LiveNet(width=8)
    last = net.head[-1]
    assert isinstance(last, torch.nn.Conv2d)
    with torch.no_grad():  # untrained, but lively enough to render something
        last.weight.mul_(30)
        last.bias[0] = -1.5
    return net.eval()


def frames(n: int, height: int, width: int) -> torch.Tensor:
    return torch.poisson(torch.full((n, height, width), 20.0), torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(64, 64), (33, 50), (8, 8), (5, 129)])
def test_any_frame_size_is_taken(shape: tuple[int, int]) -> None:
    with torch.no_grad():
        found = network()(frames(2, *shape))
    assert found.logit.shape == (2, *shape)
    column = torch.arange(shape[1]) + 0.5
    assert ((found.x_px - column).abs() <= 1).all()
    canvas = torch.zeros(shape[0] * 8, shape[1] * 8)
    network().add_increment(frames(2, *shape), canvas)
    assert canvas.isfinite().all()


def test_a_batch_adds_what_its_frames_add_one_by_one() -> None:
    net, batch = network(), frames(5, 40, 48)
    together, single = torch.zeros(320, 384), torch.zeros(320, 384)
    net.add_increment(batch, together)
    for frame in batch:
        net.add_increment(frame[None], single)
    assert together.sum() > 1
    assert torch.allclose(together, single, rtol=1e-4, atol=1e-5)


def test_tiles_of_a_large_frame_join_without_a_seam() -> None:
    net, frame = network(), frames(1, 150, 170)
    whole, tiled = torch.zeros(1200, 1360), torch.zeros(1200, 1360)
    net.add_increment(frame, whole)
    net.portion.side_px = 64
    net.add_increment(frame, tiled)
    assert torch.allclose(whole, tiled, atol=1e-4)


def test_the_mass_of_the_increment_is_the_summed_probability_of_what_it_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = network()
    # Everything is shown.
    monkeypatch.setattr(LiveNet, "fade", (-1.0, 0.0))
    monkeypatch.setattr(LiveNet, "uncertain_nm", (1e6, 2e6))
    batch = frames(1, 48, 48)
    canvas = torch.zeros(48 * 8, 48 * 8)
    net.add_increment(batch, canvas)
    with torch.no_grad():
        found = net(batch)
    # Pixels at the rim may point outside.
    inside = (found.x_px > 1) & (found.x_px < 47) & (found.y_px > 1) & (found.y_px < 47)
    probability = torch.sigmoid(found.logit)
    assert canvas.sum() >= probability[inside].sum() * 0.99
    assert canvas.sum() <= probability.sum() * 1.001


def test_background_follows_steps_of_illumination_and_ignores_bright_spots() -> None:
    photons = torch.full((1, 64, 128), 10.0)
    photons[:, :, 64:] = 50.0
    photons[:, 20:24, 20:24] = 5000.0
    level = background(photons)
    assert level.shape == photons.shape
    assert level[0, 32, 8] == 10
    assert level[0, 32, 120] == 50
    assert livenet_input(photons).shape == (1, 2, 64, 128)


def perfect(truth: Emitters, shape: tuple[int, int, int], *, offset_px: float = 0.0) -> Detections:
    """Return detections that are sure of the right answer, but for an offset in x."""
    logit = torch.full(shape, -8.0)
    x, y, log_photons = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    x_px, y_px = truth.x_nm / 100, truth.y_nm / 100
    where = (truth.frame, y_px.long(), x_px.long())
    logit[where] = 8.0
    x[where], y[where], log_photons[where] = x_px + offset_px, y_px, truth.photons.log()
    sigma = torch.full(shape, 0.1)
    return Detections(
        logit=logit,
        x_px=x,
        y_px=y,
        log_photons=log_photons,
        sigma_x_px=sigma,
        sigma_y_px=sigma,
        sigma_log_photons=sigma,
    )


def some_truth() -> Emitters:
    return Emitters(
        frame=torch.tensor([0, 0, 1]),
        x_nm=torch.tensor([512.0, 1180.0, 777.0]),
        y_nm=torch.tensor([230.0, 905.0, 40.0]),
        photons=torch.tensor([900.0, 400.0, 1500.0]),
    )


def test_the_loss_is_least_at_the_truth() -> None:
    truth, shape = some_truth(), (2, 16, 16)
    right = detection_loss(perfect(truth, shape), truth, 100.0)
    shifted = detection_loss(perfect(truth, shape, offset_px=0.3), truth, 100.0)
    # Three standard deviations off cost 4.5 nats for each emitter.
    assert (shifted - right).item() == pytest.approx(4.5, rel=0.01)
    missing_one = truth.select(torch.tensor([0, 2]))
    assert detection_loss(perfect(missing_one, shape), truth, 100.0) > right + 2


def test_the_windowed_likelihood_is_that_of_all_pixels() -> None:
    truth, (n, height, width) = some_truth(), (2, 16, 16)
    generator = torch.Generator().manual_seed(3)
    column = torch.arange(width) + 0.5
    row = (torch.arange(height) + 0.5)[:, None]

    def draw(scale: float = 1.0) -> torch.Tensor:
        return torch.randn(n, height, width, generator=generator) * scale

    found = Detections(
        logit=draw() - 3,
        x_px=column + torch.tanh(draw()),
        y_px=row + torch.tanh(draw()),
        log_photons=draw(0.3) + 6.5,
        sigma_x_px=draw().abs() * 0.1 + 0.1,
        sigma_y_px=draw().abs() * 0.1 + 0.1,
        sigma_log_photons=draw().abs() + 0.2,
    )
    p = torch.sigmoid(found.logit)
    total = 0.0
    for i in range(len(truth)):
        f = int(truth.frame[i])
        normal = torch.distributions.Normal
        log = (
            (p[f] / p[f].sum()).log()
            + normal(found.x_px[f], found.sigma_x_px[f]).log_prob(truth.x_nm[i] / 100)
            + normal(found.y_px[f], found.sigma_y_px[f]).log_prob(truth.y_nm[i] / 100)
            + normal(found.log_photons[f], found.sigma_log_photons[f]).log_prob(truth.photons[i].log())
        )
        total -= log.flatten().logsumexp(0).item()
    for f, count in enumerate((2, 1)):
        variance = (p[f] * (1 - p[f])).sum() + 1e-3
        total += (0.5 * (count - p[f].sum()) ** 2 / variance + 0.5 * variance.log()).item()
    assert detection_loss(found, truth, 100.0).item() == pytest.approx(total / 3, rel=1e-4)


def test_frames_without_emitters_have_a_loss_too() -> None:
    truth = some_truth().select(torch.tensor([], dtype=torch.long))
    assert network().loss(frames(2, 16, 16), truth).isfinite()


def test_a_network_with_context_begins_as_the_one_that_it_starts_from() -> None:
    alone, stacks = network(), torch.stack([frames(2, 16, 20) * share for share in (0.3, 1.0, 0.8)], 1)
    wide = LiveNet(width=8, context=1)
    wide.start_from(alone.state_dict())
    expected = alone(stacks[:, 1])
    assert torch.equal(wide(stacks).logit, expected.logit)
    # One that sees each frame alone takes the middle one of a stack.
    assert torch.equal(alone(stacks).logit, expected.logit)
    # What is without effect can be learnt all the same.
    wide(stacks).logit.sum().backward()
    assert wide.enter[0].weight.grad[:, [0, 1, 4, 5]].abs().min() > 0  # type: ignore[index, union-attr]
    assert wide.maps(torch.zeros(1, *wide.input_shape(16, 20))).shape == (1, 7, 16, 20)


def test_a_neighbour_that_is_absent_is_zero_once_scaled() -> None:
    wide, middle = LiveNet(width=8, context=1), frames(2, 64, 40)
    alone = wide.scaled(middle)
    assert alone.shape == (2, 6, 64, 40)
    assert torch.equal(alone[:, 2:4], livenet_input(middle))
    assert not alone[:, [0, 1, 4, 5]].any()
    given = wide.scaled(torch.stack((torch.zeros_like(middle), middle, middle.flip(0)), 1))
    assert torch.equal(given[:, :4], alone[:, :4])
    assert torch.equal(given[:, 4:], livenet_input(middle.flip(0)))
