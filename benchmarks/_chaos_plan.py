"""What happens in a chaotic run: everything comes from its seed, so that the same seed plans the same run."""

import json
import random
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stormlive.wire.calibration import Calibration

CALIBRATION = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10)
EXACT, EXACT_CONTEXT = "exact", "exact-context"
CAN_STOP = hasattr(signal, "SIGSTOP")
"""Windows has no way to suspend a process from outside: there the faults that need it are left out."""

ACQUISITIONS = ("acquisition", "acquisition saved")
WAYS = ("hook", "hook with dataset", "refer", "stream", "latest", *ACQUISITIONS)
KINDS = {
    "server killed": 5,
    "server stopped": 3,
    "sender stopped": 3,
    "sender killed": 1,
    "connection cut": 3,
    "connection stalled": 3,
    "garbage clients": 4,
    "viewers killed": 2,
    "slow disk": 2,
    "disk full": 2,
    "full outbox": 2,
    "clock step": 1,
}
"""The kinds of fault, and how often they are drawn."""
NO_FAULT = "no fault"
# Once the sender is dead nobody replays: with these its run's outcome would be nobody's promise.
_NOT_WITH_A_DEAD_SENDER = {"server killed", "server stopped", "sender stopped", "connection cut", "connection stalled"}
_SPARE = 16


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that is done to a run, `at_s` after its first frame, for `seconds`."""

    at_s: float
    kind: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run: how its frames come, through which bottlenecks, and what happens to it meanwhile.

    Attributes
    ----------
    way
        How frames arrive; one of `WAYS`.
    engine
        ``exact``, whose canvas is the sum of the frames, ``exact-context``, of which it is that of what `between` makes
        of them, or a model such as ``small``.
    n, shape, seconds
        Frames, their shape (Y, X), and how long the camera takes for them.
    outbox_frames, spool_frames
        What fits into the hook's memory and into its file.
    patient
        Whether the camera waits while the outbox is full.
    frame_s
        What the engine takes for a frame.
    slow_disk_s
        What every write takes longer.
    full_disk
        ``checkpoints`` (none can be written for a while), ``files`` (not before the next server), ``spool``, or empty.
    clock_step_s
        By how much the clock is set in sender and server.
    channels
        They alternate from frame to frame, and each has a canvas of its own.
    keys
        Whether everybody needs keys.
    lane
        ``auto``: pixels go through shared memory, where the system has it. ``tcp``: never.
    """

    seed: int
    way: str
    engine: str
    n: int
    shape: tuple[int, int]
    seconds: float
    outbox_frames: int
    spool_frames: int
    patient: bool
    credit_bytes: int
    heartbeat_s: float
    grace_s: float
    checkpoint_s: float
    frame_s: float
    kinds: tuple[str, ...]
    events: tuple[Event, ...]
    slow_disk_s: float = 0.0
    full_disk: str = ""
    clock_step_s: float = 0.0
    channels: int = 1
    keys: bool = False
    lane: Literal["auto", "tcp"] = "auto"
    name: str = field(default="chaos")

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return 2 * self.shape[0] * self.shape[1]

    @property
    def is_exact(self) -> bool:
        """Whether the canvas is a sum of whole numbers, in whatever order."""
        return self.engine in (EXACT, EXACT_CONTEXT)

    @property
    def has_dataset(self) -> bool:
        """Whether the raw data is saved where the server sees it."""
        return self.way in ("hook with dataset", "refer", *ACQUISITIONS)

    @property
    def loses_nothing(self) -> bool:
        """Whether the design promises every frame: there is a place for each until it is durable."""
        if self.way == "latest" or "sender killed" in self.kinds:
            return False
        spooled = self.patient and self.spool_frames >= self.n and self.full_disk != "spool"
        return self.has_dataset or self.outbox_frames >= self.n or spooled

    @classmethod
    def draw(cls, seed: int) -> "Plan":
        """Plan a run: every eighth is a real acquisition, every twelfth has a real network."""
        rng = random.Random(f"chaos {seed}")
        weights = (4, 2, 2, 2, 1)
        way = rng.choice(("acquisition", *ACQUISITIONS)) if seed % 8 == 0 else rng.choices(WAYS[:5], weights)[0]
        engine = "small" if seed % 12 == 5 else "exact"
        kinds = _kinds(rng)
        n = rng.randrange(60, 121) if engine == "small" else rng.randrange(60, 361)
        sides = (16, 25) if engine == "small" else (24, 65)
        seconds = rng.uniform(0.5, 2.0)
        outbox, spool, patient = n + _SPARE, n + _SPARE, way == "stream"
        if "full outbox" in kinds:
            outbox, spool, patient = (
                rng.randrange(4, 25),
                rng.choice((0, 8, 30)),
                way == "stream" and rng.random() < 0.5,
            )
        elif rng.random() < 0.5:
            outbox, patient = rng.randrange(20, 60), True
        full = ""
        if "disk full" in kinds:
            full = rng.choice(("checkpoints", "checkpoints", "files", "spool"))
        return cls(
            seed=seed,
            way=way,
            engine=engine,
            n=n,
            shape=(rng.randrange(*sides), rng.randrange(*sides)),
            seconds=seconds,
            outbox_frames=outbox,
            spool_frames=spool,
            patient=patient or way == "stream",
            credit_bytes=rng.choice((2**17, 2**18, 2**22)),
            heartbeat_s=rng.choice((0.2, 0.2, 0.4)),
            grace_s=0.5 if "sender killed" in kinds else 12.0,
            checkpoint_s=rng.choice((0.05, 0.2, 0.5)),
            frame_s=rng.choice((0.0, 0.0, 0.001, 0.004)),
            kinds=kinds,
            events=_events(rng, kinds, seconds),
            slow_disk_s=rng.uniform(0.02, 0.3) if "slow disk" in kinds else 0.0,
            full_disk=full,
            clock_step_s=rng.choice((-86_400.0, -3.0, 3.0, 3e7)) if "clock step" in kinds else 0.0,
            channels=rng.choice((1, 1, 2, 3, 7)),
            keys=rng.random() < 0.4,
            lane=rng.choice(("auto", "tcp")),
        )

    def to_json(self) -> str:
        """Return it as JSON, for the run's processes."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read back what `to_json` gave."""
        fields: dict[str, Any] = json.loads(path.read_text())
        events = tuple(Event(**event) for event in fields.pop("events"))
        return cls(**{**fields, "shape": tuple(fields["shape"]), "kinds": tuple(fields["kinds"]), "events": events})

    def axes(self, number: int) -> dict[str, int | str]:
        """Return the axes of a frame."""
        time, channel = divmod(number, self.channels)
        return {"time": time} if self.channels == 1 else {"time": time, "channel": f"C{channel}"}

    def movie(self) -> NDArray[np.uint16]:
        """Return the frames (T, Y, X), ADU: no one is a sum of others, so that a canvas tells which it holds."""
        random = np.random.default_rng(self.seed)
        if self.is_exact:
            return random.integers(90, 500, (self.n, *self.shape)).astype(np.uint16)
        frames = random.normal(110, 3, (self.n, *self.shape))
        y, x = np.mgrid[: self.shape[0], : self.shape[1]]
        for frame in frames:
            at_y, at_x = random.uniform(2, self.shape[0] - 2), random.uniform(2, self.shape[1] - 2)
            frame += 400 * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * 1.3**2))
        return frames.clip(0, 65_535).astype(np.uint16)


def between(frames: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return whole numbers for frames (T, Y, X), to which the neighbours of each contribute: at the ends 0 does."""
    whole = np.pad(frames.astype(np.int64), ((1, 1), (0, 0), (0, 0)))
    return (whole[1:-1] * (1 + whole[:-2] + 3 * whole[2:])) % 8191


def _kinds(rng: random.Random) -> tuple[str, ...]:
    """Draw none to three kinds of fault that go together."""
    kinds: list[str] = []
    for _ in range(rng.choices((0, 1, 2, 3), (1, 8, 6, 5))[0]):
        left = {kind: weight for kind, weight in KINDS.items() if kind not in kinds}
        if not CAN_STOP:
            left = {kind: weight for kind, weight in left.items() if not kind.endswith("stopped")}
        if "sender killed" in kinds:
            left = {kind: weight for kind, weight in left.items() if kind not in _NOT_WITH_A_DEAD_SENDER}
        elif _NOT_WITH_A_DEAD_SENDER.intersection(kinds):
            left.pop("sender killed", None)
        kinds.append(rng.choices(list(left), list(left.values()))[0])
    return tuple(sorted(kinds)) or (NO_FAULT,)


def _events(rng: random.Random, kinds: tuple[str, ...], seconds: float) -> tuple[Event, ...]:
    """Draw when things happen: mostly while frames come, now and then after the last one."""
    events: list[Event] = []
    lasting = {"server killed": (0.05, 0.8), "connection cut": (0.0, 0.0), "sender killed": (0.0, 0.0)}
    for kind in kinds:
        if kind in ("slow disk", "disk full", "full outbox", "clock step", NO_FAULT):
            continue
        times = rng.choice((1, 1, 2)) if kind in ("server killed", "server stopped", "sender stopped") else 1
        for _ in range(rng.randrange(1, 5) if kind == "connection cut" else times):
            late = rng.random() < 0.3 and kind != "sender killed"
            at_s = seconds * rng.uniform(0.3, 0.9) + late * rng.uniform(0.0, 0.5)
            events.append(Event(at_s=at_s, kind=kind, seconds=rng.uniform(*lasting.get(kind, (0.2, 1.5)))))
    return tuple(sorted(events, key=lambda event: event.at_s))
