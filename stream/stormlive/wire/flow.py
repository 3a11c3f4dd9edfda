"""What both ends of a connection keep count of: bytes in flight, silence, the other's clock."""

from collections import deque

from stormlive.wire.codec import ProtocolError

# What a frame costs at least: the server keeps more than a kilobyte about a frame of a single pixel.
LEAST_COST = 4096


class Credit:
    """Bytes in flight, at most `window`: the sender's limit, and the server's check of it."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.in_flight = 0

    def cost(self, nbytes: int) -> int:
        """Return what a frame of `nbytes` spends: `LEAST_COST` at least, as far as the window has that much."""
        return max(nbytes, min(LEAST_COST, self.window))

    @property
    def left(self) -> int:
        """Bytes that may still be spent."""
        return self.window - self.in_flight

    def take(self, nbytes: int) -> bool:
        """Spend `nbytes`; False when that exceeds the window."""
        if self.in_flight + nbytes > self.window:
            return False
        self.in_flight += nbytes
        return True

    def give(self, nbytes: int) -> None:
        """Return `nbytes`; ProtocolError when that is more than was spent."""
        if nbytes > self.in_flight:
            raise ProtocolError(f"{nbytes} bytes of credit came back, only {self.in_flight} were in flight")
        self.in_flight -= nbytes


class Silence:
    """Tells whether a peer has been quiet for too long.

    Time in which nobody looked does not count: a process that was suspended must first read what came.
    """

    def __init__(self, now: float, patience_s: float) -> None:
        self._patience_s = patience_s
        self._heard = self._looked = now

    def heard(self, now: float) -> None:
        """Note that the peer said something."""
        self._heard = now

    def lasts(self, now: float) -> float:
        """Return the seconds of silence; ask at least four times within the patience."""
        away = now - self._looked
        if away > self._patience_s / 2:
            self._heard = min(now, self._heard + away)
        self._looked = now
        return now - self._heard

    def too_long(self, now: float) -> bool:
        """Return whether the silence exceeds the patience."""
        return self.lasts(now) > self._patience_s


class ClockOffset:
    """The server's clock minus ours, from the quickest of the last round trips."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=16)

    def sample(self, *, sent_ns: int, received_ns: int, peer_ns: int) -> None:
        """Note a round trip: our clock when asking and when answered, the peer's clock in the answer."""
        self._samples.append((received_ns - sent_ns, peer_ns - (sent_ns + received_ns) // 2))

    @property
    def ns(self) -> int:
        """The offset in nanoseconds; 0 before the first sample."""
        return min(self._samples)[1] if self._samples else 0
