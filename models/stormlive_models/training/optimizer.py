"""The optimizer: Muon for convolutions between features, AdamW for everything else."""

from typing import Any

import torch
from torch import Tensor, nn

_MUON_WEIGHT_DECAY = 0.01  # orthogonal steps would let the weights grow without end
_ADAMW_WEIGHT_DECAY = 1e-4


class Optimizer:
    """Muon and AdamW under one learning rate.

    Muon (Jordan et al., 2024) turns the momentum of a matrix into the nearest orthogonal one, so that all its
    directions learn at the same pace; scaled to the root mean square of AdamW's steps (Liu et al., arXiv:2502.16982)
    both take the same learning rate. It is defined for matrices between features: the first and the last layers,
    and biases, are AdamW's.

    Parameters
    ----------
    network : nn.Module
        Its convolutions' kernels lie as channels_last, so that each is a matrix (out, height x width x in) in place.
    learning_rate : float
        Of both.
    """

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        convolutions = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
        self._kernels = convolutions[1:-1]
        inner = {id(kernel) for kernel in self._kernels}
        # Muon's own parameters are views: what it changes, the network sees.
        self._matrices = [nn.Parameter(_matrix(kernel.data)) for kernel in self._kernels]
        if any(m.data_ptr() != k.data_ptr() for m, k in zip(self._matrices, self._kernels, strict=True)):
            raise ValueError("expected a network in channels_last; move it there before the optimizer is made")
        outer = [p for p in network.parameters() if id(p) not in inner]
        self._both: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(
                self._matrices, learning_rate, weight_decay=_MUON_WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(outer, learning_rate, weight_decay=_ADAMW_WEIGHT_DECAY),
        )

    def set_rate(self, learning_rate: float) -> None:
        """Change the learning rate."""
        for optimizer in self._both:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

    def step(self) -> None:
        """Take a step along the gradients that the network's parameters hold."""
        for matrix, kernel in zip(self._matrices, self._kernels, strict=True):
            matrix.grad = None if kernel.grad is None else _matrix(kernel.grad)
        for optimizer in self._both:
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of both, as `load_state_dict` takes it."""
        return [optimizer.state_dict() for optimizer in self._both]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Go on where another left off."""
        for optimizer, own in zip(self._both, state, strict=True):
            optimizer.load_state_dict(own)


def _matrix(kernel: Tensor) -> Tensor:
    """Return a kernel (out, in, height, width) as a matrix, in the same memory if it lies as channels_last."""
    return kernel.permute(0, 2, 3, 1).reshape(kernel.shape[0], -1)
