"""Where an engine computes: the CPU, one GPU or several."""

import torch

from stormlive_sim.errors import InputError


def select_devices(name: str) -> tuple[torch.device, ...]:
    """Return the devices for ``auto`` (the first GPU if any), ``cpu``, ``cuda:N`` or ``cuda`` (all GPUs).

    Raises
    ------
    InputError
        When it is none of these or not in this machine.
    """
    available = torch.cuda.device_count()
    if name == "auto":
        return (torch.device("cuda:0" if available else "cpu"),)
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"expected --device auto, cpu, cuda:N or cuda, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= available:
        raise InputError(
            f"--device {name} is not in this machine, which has {available} CUDA GPUs; use --device cpu, or install "
            "the CUDA build of PyTorch"
        )
    if device.type == "cuda" and device.index is None:
        return tuple(torch.device("cuda", number) for number in range(available))
    return (device,)


def described(devices: tuple[torch.device, ...], runtime: str) -> str:
    """Return in words where a model runs, and how."""
    first = devices[0]
    if first.type == "cpu":
        return f"cpu ({runtime})"
    name = torch.cuda.get_device_name(first)
    more = f" and {len(devices) - 1} more" if len(devices) > 1 else ""
    return f"{first} ({name}, {runtime}){more}"
