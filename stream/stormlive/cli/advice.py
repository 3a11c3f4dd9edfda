"""What measured rates mean for an acquisition, in plain sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

# A rate that keeps up in a quiet moment does not with a camera's software beside it.
RESERVE = 1.2


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The acquisition: frames (Y, X), frames per second, seconds."""

    shape: tuple[int, int]
    fps: float
    seconds: float

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame of 16-bit pixels."""
        return 2 * self.shape[0] * self.shape[1]

    @property
    def frames(self) -> int:
        """Frames of the whole run."""
        return round(self.fps * self.seconds)


@dataclass(frozen=True, kw_only=True)
class Way:
    """Another way to run it: `what` follows "with", its measured `rate` in frames per second."""

    what: str
    rate: float


def keeps_up(rate: float, fps: float) -> bool:
    """Return whether a rate is enough, with something in reserve."""
    return rate >= RESERVE * fps


def advise(
    asked: Asked,
    *,
    link: float | None,
    engine: float,
    ways: Sequence[Way],
    outbox_bytes: int,
    spool_bytes: int,
    free_disk_bytes: int,
) -> list[str]:
    """Return what will happen and what to do, a sentence each.

    Parameters
    ----------
    asked
        The acquisition.
    link, engine
        Measured frames per second: of the way to the server alone, None where it cannot be had alone, and of all.
    ways
        Other ways, as measured.
    outbox_bytes, spool_bytes
        What the hook has by default for frames that wait, in memory and on disk.
    free_disk_bytes
        Free where it spools.
    """
    said: list[str] = []
    if link is not None and not keeps_up(link, asked.fps):
        said.append(
            f"The link carries {per_second(link)} of such frames per second at most: whatever the engine does, "
            f"{asked.fps:g} are {'too many' if link < asked.fps else 'close to its limit'}."
        )
    if keeps_up(engine, asked.fps):
        said.append(
            f"It keeps up: {per_second(engine)} frames/s measured, {asked.fps:g} asked for. The picture is live, "
            "and complete when the camera stops."
        )
        return said
    if engine >= asked.fps:
        said.append(
            f"It just keeps up: {per_second(engine)} frames/s measured without a camera running beside it, "
            f"{asked.fps:g} asked for. Expect a backlog whenever something else needs this machine."
        )
    else:
        said += _backlog(
            asked, engine if link is None else min(engine, link), outbox_bytes, spool_bytes, free_disk_bytes
        )
    said.append(_route(asked, engine, ways))
    return said


def _backlog(asked: Asked, rate: float, outbox_bytes: int, spool_bytes: int, free_disk_bytes: int) -> list[str]:
    waiting = round((asked.fps - rate) * asked.seconds)
    n_bytes = waiting * asked.frame_bytes
    said = [
        f"It does not keep up: {per_second(rate)} frames/s measured, {asked.fps:g} asked for. When "
        f"{span(asked.seconds)} are over, {asked.frames - waiting} of {asked.frames} frames are in the picture and "
        f"{waiting} wait, {size(n_bytes)}; the picture is complete {span(waiting / rate)} after the camera has stopped."
    ]
    room = outbox_bytes + spool_bytes
    if n_bytes <= room:
        said.append(
            f"They fit what the hook has for them: {size(outbox_bytes)} of memory, {size(spool_bytes)} of disk."
        )
        return said
    full_s = room / ((asked.fps - rate) * asked.frame_bytes)
    text = (
        f"The hook's {size(outbox_bytes)} of memory and {size(spool_bytes)} of disk are full after {span(full_s)}. "
        "Where the acquisition saves NDTiff and tells the hook the folder (hook.dataset = …), the server reads the "
        "rest from there, and nothing is needed. Where nothing is saved, "
    )
    if n_bytes - outbox_bytes < free_disk_bytes:
        text += f"give the hook spool_mb={-(-(n_bytes - outbox_bytes) // 2**20)}."
    else:
        text += f"the {size(free_disk_bytes)} that are free on the disk do not hold it: frames would be missing."
    return [*said, text]


def _route(asked: Asked, engine: float, ways: Sequence[Way]) -> str:
    enough = [way for way in ways if keeps_up(way.rate, asked.fps)]
    if enough:
        listed = "; or ".join(f"{way.what} ({per_second(way.rate)} frames/s)" for way in enough)
        return f"To have it live, run it with {listed}."
    tried = f" ({', '.join(f'{way.what}: {per_second(way.rate)} frames/s' for way in ways)})" if ways else ""
    return (
        f"No way that was measured keeps up{tried}. Live is an exposure of {exposure(RESERVE / engine)} or more, or "
        "what a machine with a GPU computes; or record first and let `stormlive reconstruct` make the picture, "
        f"{span(asked.frames / engine)} of computing."
    )


def per_second(rate: float) -> str:
    """Return a rate in words, with two digits at least: ``305``, ``39``, ``3.0``, ``0.14``."""
    return f"{rate:.{0 if rate >= 10 else 1 if rate >= 1 else 2}f}"


def span(seconds: float) -> str:
    """Return a time in words: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def exposure(seconds: float) -> str:
    """Return a time of exposure in words: ``120 ms``, ``1.5 s``."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def size(n_bytes: float) -> str:
    """Return a size in words: ``256 MB``, ``1.9 GB``."""
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.1f} GB"
