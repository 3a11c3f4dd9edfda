"""The optimizer of 2018: Adam, whose rate falls after epochs without progress."""

from typing import Any

import torch
from torch import nn

from stormlive_models.training.recipe import EpochSettings


class PlateauAdam:
    """Adam under a rate that follows the validation loss.

    Epsilon, and what counts as progress, are those of Keras, which the original was trained with.

    Parameters
    ----------
    network : nn.Module
        What is trained.
    learning_rate : float
        To begin with.
    settings : EpochSettings
        When it falls, how far, and to what.
    """

    def __init__(self, network: nn.Module, learning_rate: float, settings: EpochSettings) -> None:
        self._adam = torch.optim.Adam(network.parameters(), learning_rate, eps=1e-7)
        self._schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._adam,
            factor=settings.rate_factor,
            patience=settings.patience - 1,
            threshold=1e-4,
            threshold_mode="abs",
            min_lr=settings.least_rate,
        )

    @property
    def rate(self) -> float:
        """The learning rate."""
        rate: float = self._adam.param_groups[0]["lr"]
        return rate

    def step(self) -> None:
        """Take a step along the gradients that the network's parameters hold."""
        self._adam.step()

    def end_epoch(self, validation_loss: float) -> None:
        """Let the rate fall where there was no progress; of a training that goes on, after each past epoch."""
        self._schedule.step(validation_loss)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the moments, as `load_state_dict` takes them; the rate follows from the validation losses."""
        return [self._adam.state_dict()]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Go on where another left off."""
        self._adam.load_state_dict(state[0])
