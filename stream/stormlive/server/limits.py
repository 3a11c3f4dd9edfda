"""What a server allows its clients."""

from dataclasses import dataclass

from stormlive.wire.fields import MAX_SPANS
from stormlive_sim.errors import InputError

CHECKPOINT_S = 5.0  # between two checkpoints of a run, where nothing else is asked for
GRACE_S = 15.0  # for a sender that has missed three beats, where nothing else is asked for


@dataclass(frozen=True, kw_only=True)
class Client:
    """Who is at the other end of a connection.

    Attributes
    ----------
    address
        Of its machine; empty when it is not known.
    user
        Its public key; empty for a server without keys.
    """

    address: str = ""
    user: str = ""

    @property
    def is_near(self) -> bool:
        """Whether it came over loopback, or at least not from another address."""
        return self.address.startswith("127.") or not self.address


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The numbers of `Server`, checked."""

    max_sessions: int
    credit_bytes: int
    max_frame_bytes: int
    max_batch: int
    heartbeat_s: float
    grace_s: float
    open_steering: bool = False

    def __post_init__(self) -> None:
        if self.max_sessions < 1:
            raise InputError(f"max_sessions must be at least 1, got {self.max_sessions}")
        if not 1 <= self.max_frame_bytes <= self.credit_bytes:
            raise InputError(
                f"max_frame_bytes must be from 1 to credit_bytes ({self.credit_bytes}), got {self.max_frame_bytes}"
            )
        if not 1 <= self.max_batch <= MAX_SPANS // 2:
            raise InputError(f"max_batch must be from 1 to {MAX_SPANS // 2}, got {self.max_batch}")
        if not 0.01 <= self.heartbeat_s <= 60:
            raise InputError(f"heartbeat_s must be from 0.01 to 60, got {self.heartbeat_s}")
        if self.grace_s < 0:
            raise InputError(f"grace_s must not be negative, got {self.grace_s}")

    @property
    def patience_s(self) -> float:
        """How long a run waits for a sender that has fallen silent."""
        return 3 * self.heartbeat_s + self.grace_s

    def sessions_of(self, address: str) -> int:
        """Return how many senders one address may have: on loopback all, elsewhere half of them."""
        loopback = address.startswith("127.") or not address
        return self.max_sessions if loopback else max(1, self.max_sessions // 2)
