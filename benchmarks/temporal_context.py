"""What a network gains from the frames before and after: three trainings that differ in nothing else.

An emitter is on for a few frames, so its neighbours in time tell of it. A live stream has frame t - 1 at hand; frame
t + 1 costs one frame of latency. Short trainings of the small network on the same triplets of frames, with the same
number of steps; the score is that of the middle frame.
"""

import argparse
import math

import msgspec
import torch
from _report import report
from rich.progress import track
from torch import Tensor, nn

from stormlive_models.evaluate import score
from stormlive_models.localize import localizations
from stormlive_models.networks.livenet import Detections, LiveNet
from stormlive_models.normalize import livenet_input
from stormlive_models.training import data as training_data
from stormlive_models.training.losses import detection_loss
from stormlive_models.training.optimizer import Optimizer
from stormlive_models.training.positions import draw_positions
from stormlive_models.training.recipe import DataSettings
from stormlive_models.training.validation import validation_settings
from stormlive_sim.emitters import Emitters
from stormlive_sim.psf import render_gaussians

CONTEXTS = {"frame t alone": (1,), "t - 1 and t": (0, 1), "t - 1, t and t + 1": (0, 1, 2)}
DENSITIES = (1.0, 3.0, 5.0)


class ContextNet(LiveNet):
    """livenet that sees some frames of a triplet (B, 3, Y, X) and finds the emitters of the middle one."""

    def __init__(self, frames: tuple[int, ...], width: int) -> None:
        super().__init__(width=width)
        self.frames = frames
        first = self.enter[0]
        assert isinstance(first, nn.Conv2d)
        self.enter[0] = nn.Conv2d(2 * len(frames), first.out_channels, 3, padding=1)

    def forward(self, triplets: Tensor) -> Detections:
        """Return the detections of the middle frames."""
        return self.detect(torch.cat([livenet_input(triplets[:, i]) for i in self.frames], 1))


def sample_triplets(settings: DataSettings, n: int, generator: torch.Generator) -> tuple[Tensor, Emitters]:
    """Return n triplets (n, 3, Y, X) and the emitters of their middle frames.

    Each emitter is on for an exponential time, of 1 to 4 frames on average, that overlaps the triplet somewhere;
    the density and the photons of the settings are those of one frame.
    """
    device = generator.device
    on = torch.rand(n, generator=generator, device=device) * 3 + 1
    mean_on = float(on.mean())
    low, high = settings.density_per_um2
    # The three frames together see those that are on at the start and those that come: (1 + 3/on) times one moment's.
    more = (1 + 3 / mean_on) / (1 + 1 / mean_on)
    spread = msgspec.structs.replace(settings, density_per_um2=(low * more, high * more), partial_share=0.0)
    x, y, frame = draw_positions(spread, n, generator)
    rate = training_data._photons(spread, frame, n, generator)
    length = -torch.log(torch.rand(len(frame), generator=generator, device=device).clamp_min(1e-9)) * on[frame]
    start = torch.rand(len(frame), generator=generator, device=device) * (3 + length) - length
    times = torch.arange(3, device=device)
    seen = (torch.minimum(start + length, times[:, None] + 1) - torch.maximum(start, times[:, None])).clamp(0, 1)
    background = training_data.draw_background(spread, n, generator)
    sigma = training_data._sigma_px(spread, frame, n, generator)
    radius = int(4.2 * settings.psf_sigma_nm[1] / settings.pixel_size_nm) + 1
    clean = background.repeat(3, 1, 1)  # one after another: n first frames, n middle ones, n last ones
    for i in range(3):
        render_gaussians(clean, frame + i * n, x, y, rate * seen[i], sigma, radius=radius)
    measured = training_data._camera(spread, clean, generator)
    triplets = measured.reshape(3, n, *clean.shape[1:]).transpose(0, 1)
    photons = rate * seen[1]
    noise = (4 * math.pi * sigma.prod(1) * (background.mean((1, 2)) + 1)[frame]).sqrt()
    size = settings.patch_px
    keep = (x >= 0) & (x < size) & (y >= 0) & (y < size) & (photons > 4 * noise)
    nm = settings.pixel_size_nm
    return triplets, Emitters(frame=frame, x_nm=x * nm, y_nm=y * nm, photons=photons).select(keep)


def trained(frames: tuple[int, ...], settings: DataSettings, steps: int, width: int, name: str) -> ContextNet:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = ContextNet(frames, width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = Optimizer(network, 2.5e-3)
    for step in track(range(steps), name):
        optimizer.set_rate(2.5e-3 * min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / steps)))
        triplets, truth = sample_triplets(settings, 24, generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss = detection_loss(network(triplets), truth, settings.pixel_size_nm)
        network.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
    return network.eval()


@torch.no_grad()
def judged(network: ContextNet, settings: DataSettings, photons: float) -> list[float]:
    figures = []
    for density in DENSITIES:
        conditions = msgspec.structs.replace(validation_settings(settings, density), photons=(photons, photons))
        triplets, truth = sample_triplets(conditions, 32, torch.Generator().manual_seed(2**40))
        found = localizations(network(triplets), settings.pixel_size_nm).emitters()
        figures.append(score(found, truth, 100.0).jaccard)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--width", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = DataSettings()
    rows = []
    for name, frames in CONTEXTS.items():
        network = trained(frames, settings, options.steps, options.width, name)
        for photons in (500.0, 1000.0):
            jaccard = judged(network, settings, photons)
            columns = {f"J at {d:g}/um2": j for d, j in zip(DENSITIES, jaccard, strict=True)}
            rows.append({"context": name, "photons per whole frame": photons, **columns})
    report("temporal_context", rows, {"steps": options.steps, "width": options.width, "tolerance_nm": 100})


if __name__ == "__main__":
    main()
