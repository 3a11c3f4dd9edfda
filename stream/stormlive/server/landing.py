"""How frames reach the device: through a ring of buffers from which a GPU copies while it computes others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormlive.server.lanes import Lane, Mark, wait

_SLOTS = 3


@dataclass(kw_only=True)
class _Slot:
    """A buffer in the machine's memory and its copy on the device; on a CPU both are the same.

    Attributes
    ----------
    copied, read
        Marks behind the copy to the device, and behind the work that read it there.
    """

    host: Tensor
    there: Tensor
    copied: Mark = None
    read: Mark = None


class Landing:
    """The ring of one device.

    Its memory on the machine's side is pinned where there is a GPU: only then does a copy not wait for anyone.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lane = Lane(device)
        empty = torch.empty(0, dtype=torch.uint8)
        self._slots = [_Slot(host=empty, there=empty) for _ in range(_SLOTS)]
        self._next = 0

    @contextmanager
    def landed(self, frames: NDArray[np.generic], reader: Lane) -> Iterator[Tensor]:
        """Give frames (B, Y, X) on the device, camera pixel type, to the work that the context gives to `reader`.

        Behind the context their memory is used for others.
        """
        slot = self._slots[self._next]
        self._next = (self._next + 1) % _SLOTS
        wait(slot.copied)
        pixel = frames.dtype.newbyteorder("=")
        nbytes = frames.size * pixel.itemsize
        if slot.host.nbytes < nbytes:
            wait(slot.read)
            with self._lane.work():
                slot.host, slot.there = _buffers(nbytes, self._device)
        host = slot.host[:nbytes]
        np.copyto(host.numpy().view(pixel).reshape(frames.shape), frames)
        self._lane.after(slot.read)
        with self._lane.work():
            there = slot.there[:nbytes]
            if slot.there is not slot.host:
                there.copy_(host, non_blocking=True)
        slot.copied = self._lane.mark()
        reader.after(slot.copied)
        yield there.view(torch.from_numpy(np.empty(0, pixel)).dtype).view(frames.shape)
        slot.read = reader.mark()


def _buffers(nbytes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return memory on the machine's side and on the device's."""
    on_gpu = device.type == "cuda"
    host = torch.empty(nbytes, dtype=torch.uint8, pin_memory=on_gpu)
    return host, torch.empty(nbytes, dtype=torch.uint8, device=device) if on_gpu else host
