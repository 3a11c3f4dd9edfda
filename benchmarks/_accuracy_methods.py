"""The methods that the accuracy benchmark compares: each makes a table and a canvas of the same frames."""

import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from _accuracy_frames import PIXEL_NM, SIDE_PX, SUB_NM, UPSAMPLING, Frames, seeded, simulated, uniform_settings
from torch import Tensor
from torch.nn import functional

from stormlive_models.cel0 import Cel0
from stormlive_models.evaluate import score
from stormlive_models.image_metrics import truth_histogram
from stormlive_models.localize import Localizations, localizations
from stormlive_models.networks.deepstorm import DeepStorm
from stormlive_models.zoo import Model, open_model
from stormlive_sim.emitters import Emitters

# Of the frames that livenet gets: the others take 30 and 65 times longer.
_SHARE = {"livenet": 1.0, "deepstorm": 1 / 6, "cel0": 1 / 12}
_BATCH = {"livenet": 16, "deepstorm": 2, "cel0": 8}
_WINDOW = 5
_THRESHOLDS = tuple(0.002 * 1.3**k for k in range(24))


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a method made of frames: localizations, and the sum of the increments, (512, 512)."""

    table: Emitters
    canvas: Tensor


@dataclass(kw_only=True)
class Method:
    """A model under its name in the tables.

    Attributes
    ----------
    threshold : float
        Emitters per sub-pixel from which a peak of Deep-STORM's picture counts as an emitter.
    not_finite : int
        Numbers that were NaN or infinite, so far.
    """

    name: str
    model: Model
    threshold: float = 0.0
    not_finite: int = 0

    @property
    def architecture(self) -> str:
        return self.model.card.architecture

    def frames(self, wanted: int) -> int:
        """Return how many of so many frames this method gets."""
        return min(wanted, max(2, round(wanted * _SHARE[self.architecture])))

    def run(self, photons: Tensor) -> Result:
        tables = []
        canvas = torch.zeros(SIDE_PX * UPSAMPLING, SIDE_PX * UPSAMPLING)
        size = _BATCH[self.architecture]
        for first in range(0, len(photons), size):
            table = self._batch(photons[first : first + size], canvas)
            tables.append(replace(table, frame=table.frame + first))
        found = Emitters.concatenate(tables)
        good = found.x_nm.isfinite() & found.y_nm.isfinite()
        self.not_finite += int((~good).sum()) + int((~canvas.isfinite()).sum())
        return Result(table=found.select(good), canvas=canvas.nan_to_num())

    def _batch(self, photons: Tensor, canvas: Tensor) -> Emitters:
        network = self.model.network
        if isinstance(network, Cel0):
            table = network.localize(photons)
            canvas += torch.from_numpy(truth_histogram(table, (len(canvas), len(canvas)), SUB_NM))
            return table
        if isinstance(network, DeepStorm):
            increments = _increments(network, photons)
            canvas += increments.sum(0)
            return peaks(increments, self.threshold)
        # As `add_and_localize` does, which passes over a NaN in silence: it is no emitter.
        tables = []
        for tile in network.tiles(photons):
            self.not_finite += sum(int((~values.isfinite()).sum()) for values in vars(tile.found).values())
            network.render(tile, canvas)
            tables.append(localizations(tile.found, PIXEL_NM, within=tile.core, corner_px=(tile.row, tile.column)))
        return Localizations.in_frame_order(tables).emitters()


@torch.no_grad()
def _increments(network: DeepStorm, photons: Tensor) -> Tensor:
    """Return what `add_increment` would add for each frame, (B, 512, 512) emitters per sub-pixel."""
    return network(photons).float().clamp_min(0) * network.increment_scale


def peaks(increments: Tensor, threshold: float) -> Emitters:
    """Return the centroids of 5x5 sub-pixels around all local maxima of pictures (B, Y, X) from a threshold on."""
    pictures = increments[:, None]
    highest = functional.max_pool2d(pictures, _WINDOW, 1, _WINDOW // 2)
    frame, _, row, column = ((pictures == highest) & (pictures >= threshold)).nonzero().unbind(1)
    offset = torch.arange(_WINDOW) - _WINDOW // 2
    windows = functional.pad(increments, (_WINDOW // 2,) * 4)
    weight = windows[
        frame[:, None, None],
        row[:, None, None] + _WINDOW // 2 + offset[:, None],
        column[:, None, None] + _WINDOW // 2 + offset,
    ]
    total = weight.sum((1, 2))
    dx = (weight.sum(1) * offset).sum(1) / total
    dy = (weight.sum(2) * offset).sum(1) / total
    return Emitters(
        frame=frame,
        x_nm=(column + 0.5 + dx) * SUB_NM,
        y_nm=(row + 0.5 + dy) * SUB_NM,
        photons=torch.zeros(len(frame)),  # a picture does not tell
    )


def open_methods(names: list[str], seed: int) -> list[Method]:
    """Open models by name or file; Deep-STORM's threshold is chosen on frames of its own.

    Raises
    ------
    InputError
        When there is no such model.
    SystemExit
        When one is for other pixels or another grid than the benchmark's.
    """
    methods = []
    for name in names:
        model = open_model(name, torch.device("cpu"))
        if model.card.pixel_size_nm not in (0, PIXEL_NM) or model.card.upsampling != UPSAMPLING:
            raise SystemExit(
                f"{name} is for pixels of {model.card.pixel_size_nm:g} nm and upsampling {model.card.upsampling}; "
                f"the benchmark has {PIXEL_NM:g} nm and {UPSAMPLING}"
            )
        threshold = 0.0
        if isinstance(model.network, DeepStorm):
            threshold = _best_threshold(model.network, seed)
        methods.append(Method(name=Path(name).stem, model=model, threshold=threshold))
    return methods


def _best_threshold(network: DeepStorm, seed: int) -> float:
    """Return the threshold of the best mean J(100 nm) at 1, 3 and 5 emitters/um2 of 1000 photons."""
    trials: list[tuple[Frames, Tensor]] = []
    for density in (1.0, 3.0, 5.0):
        frames = simulated(uniform_settings(density), 2, seeded(seed, f"threshold {density:g}"))
        trials.append((frames, _increments(network, frames.photons)))

    def mean_jaccard(threshold: float) -> float:
        return statistics.fmean(score(peaks(i, threshold), frames.truth, 100.0).jaccard for frames, i in trials)

    return max(_THRESHOLDS, key=mean_jaccard)
