"""Where the frames of a training come from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stormlive_models.training.data import sample_batch
from stormlive_models.training.recipe import DataSettings
from stormlive_sim.emitters import Emitters

Sampler = Callable[[DataSettings, int, torch.Generator], tuple[Tensor, Emitters]]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Where frames with known emitters come from; by default from the simulation.

    Attributes
    ----------
    sample, held_out : callable
        ``(settings, n, generator) -> (photons, emitters)`` for training, and for the figures of the card.
    conditions : str
        Of the held-out frames, for the card.
    origin : mapping
        What else the card says of the data.
    """

    sample: Sampler = sample_batch
    held_out: Sampler = sample_batch
    conditions: str = "1000 photons, sigma 1.15 px, background 10, sCMOS"
    origin: Mapping[str, object] = field(default_factory=dict)
