"""How many frames per second a server takes: measured with frames of its own, over the same way as a camera's."""

import time
from pathlib import Path

import numpy as np

from stormlive.acquire.hook import StreamHook
from stormlive.acquire.stream import FrameStream
from stormlive.wire.calibration import Calibration
from stormlive_sim.errors import InputError

_OUTBOX_BYTES = 64 * 2**20
_LEAST_SLOTS = 8
_MOST_FRAMES = 2**17
# Photons per pixel of the frames that are sent: what a network computes does not depend on it.
_BACKGROUND = 40.0


def measure_rate(
    address: str, shape: tuple[int, int], calibration: Calibration, seconds: float, *, keys: Path | None = None
) -> float:
    """Return the frames (Y, X) per second that get into a server's picture, when it gets them as fast as it takes them.

    Sends bursts, each twice as long as the one before and awaited to its last frame, until one has lasted for
    `seconds`; that one counts. It leaves no work behind. `keys` is this client's folder of keys.

    Raises
    ------
    InputError
        The server does not take such frames.
    ConnectionError
        It was lost.
    """
    draw = np.random.default_rng(0)
    adu = calibration.baseline_adu + draw.poisson(_BACKGROUND, (_LEAST_SLOTS, *shape)) / calibration.photons_per_adu
    frames = np.clip(adu, 0, 65_535).astype(np.uint16)
    outbox_bytes = max(_OUTBOX_BYTES, _LEAST_SLOTS * (frames[0].nbytes + 64))
    hook = StreamHook(
        address,
        calibration=calibration,
        name="preflight",
        mode="block",
        outbox_mb=outbox_bytes / 2**20,
        spool_mb=0,
        keys=keys,
    )
    hook.check()
    with FrameStream(hook) as live:
        # They open the run and warm the engine up: of a model that looks at neighbours, the first waits for the second.
        _burst(live, frames, 2)
        n = 1
        while True:
            took = _burst(live, frames, n)
            if took >= seconds or n >= _MOST_FRAMES:
                return n / took
            # The next burst lasts long enough, as far as this one tells, and no more than that.
            n = min(max(2 * n, int(1.2 * n * seconds / took)) if took > seconds / 8 else 2 * n, _MOST_FRAMES)


def _burst(live: FrameStream, frames: np.ndarray, n: int) -> float:
    """Send `n` frames and wait for the last; return the seconds that it took."""
    hook = live.hook
    started = time.perf_counter()
    wanted = hook.progress.offered + n
    for i in range(n):
        live.send(frames[i % len(frames)])
    patience_until, seen = time.monotonic() + 120.0, -1
    while (progress := hook.progress).live < wanted:
        if progress.live != seen:
            seen, patience_until = progress.live, time.monotonic() + 120.0
        if hook.failed is not None:
            raise ConnectionError(hook.failed) if hook.ended else InputError(hook.failed)
        if time.monotonic() > patience_until:
            raise ConnectionError(hook.trouble)
        time.sleep(0.0005)
    return time.perf_counter() - started
