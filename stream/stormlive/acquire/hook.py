"""The hook: a plain callable that hands every frame of an acquisition to the live picture."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID, uuid4

from stormlive.acquire.account import Account, Ending
from stormlive.acquire.outbox import Outbox
from stormlive.acquire.sender import Sender
from stormlive.ranges import Ranges, account_sentence, reason_key
from stormlive.wire.frame import DtypeName
from stormlive.wire.messages import Calibration, Start, Welcome, check_run_name, one_line
from stormlive.wire.transport import DEFAULT_ADDRESS, Waker, loopback_address
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)
_Image = TypeVar("_Image")
_Metadata = TypeVar("_Metadata")

MOST_OUTBOX_MB = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class HookReport:
    """What became of a run's frames: each of the `offered` is in `live` or in exactly one of `missing`.

    Attributes
    ----------
    run
        The run's identity on the server.
    offered
        Frames that the hook was handed.
    live
        Frames in the picture.
    missing
        The others, by reason.
    folder
        Where the server left the run's files; None when it did not confirm the end or wrote none.
    failed
        Why the server did not take the run or could not finish it, on one line.
    sentence
        All of it in one plain sentence.
    """

    run: UUID
    offered: int
    live: Ranges
    missing: Mapping[str, Ranges]
    folder: str | None
    failed: str | None
    sentence: str

    @property
    def complete(self) -> bool:
        """Whether every offered frame is in the picture."""
        return self.live.count() == self.offered


@dataclass(frozen=True, kw_only=True)
class HookProgress:
    """Counts for a status line: `backlog` frames wait in the outbox or for the server's acknowledgement."""

    offered: int
    live: int
    missing: int
    backlog: int
    connected: bool
    failed: str | None


class StreamHook:
    """Pass it as ``image_process_fn``: it copies each frame for the live picture and returns the same pair.

    It never blocks and never raises; what the live picture cannot get is counted, not waited for. Call it
    from one thread, the acquisition's.

    Parameters
    ----------
    address
        Where ``stormlive serve`` listens.
    calibration
        The camera's calibration, or instead of it the four numbers by keyword.
    pixel_size_nm, baseline_adu, photons_per_adu, exposure_ms
        The fields of `Calibration`.
    name
        The run's name; the server names its folder after it.
    outbox_mb
        Memory for frames that wait, in MiB, allocated at once. When it is full the newest frame is a gap.
    expected
        Number of frames to come, if known, for progress displays.
    dataset
        Path of the raw data, for the run's record.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        calibration: Calibration | None = None,
        pixel_size_nm: float | None = None,
        baseline_adu: float | None = None,
        photons_per_adu: float | None = None,
        exposure_ms: float | None = None,
        name: str = "run",
        outbox_mb: float = 256,
        expected: int | None = None,
        dataset: str | None = None,
    ) -> None:
        numbers = {
            "pixel_size_nm": pixel_size_nm,
            "baseline_adu": baseline_adu,
            "photons_per_adu": photons_per_adu,
            "exposure_ms": exposure_ms,
        }
        self.calibration = _calibration(calibration, numbers)
        self.address = loopback_address(address)
        self.name = check_run_name(name)
        if not 0 < outbox_mb <= MOST_OUTBOX_MB:
            raise InputError(f"outbox_mb must be more than 0 and at most {MOST_OUTBOX_MB}, got {outbox_mb}")
        self.run = uuid4()
        self._expected = expected
        self._dataset = None if dataset is None else one_line(dataset, 1000)
        self._waker = Waker()
        self._outbox = Outbox(int(outbox_mb * 2**20), self._waker)
        self._account = Account(self.address)
        self._closing = threading.Lock()
        self._sender = Sender(self.address, self._outbox, self._account, self._waker, self._make_start)
        self.error: Exception | None = None
        self.report: HookReport | None = None
        self._sender.start()

    def __call__(self, image: _Image, metadata: _Metadata | None = None) -> tuple[_Image, _Metadata | None]:
        """Take a copy of `image` if there is room; return the pair as it came."""
        try:
            if self._account.ending is None:
                surprise = self._outbox.offer(image, metadata)
                if surprise is not None and self.error is None:
                    self.error = surprise
                    _log.warning("a frame could not be taken for the live picture", exc_info=surprise)
        except Exception as error:
            # Nothing that goes wrong here may end somebody's acquisition.
            self.error = self.error or error
        return image, metadata

    @property
    def failed(self) -> str | None:
        """Why the server does not take the run, on one line; None as long as nothing is wrong."""
        return self._account.failed

    @property
    def progress(self) -> HookProgress:
        """The counts so far."""
        offered, live = self._outbox.offered, self._account.live.count()
        gaps = [*list(self._outbox.refused.values()), *list(self._account.lost.values())]
        missing = sum(ranges.count() for ranges in gaps)
        return HookProgress(
            offered=offered,
            live=live,
            missing=missing,
            backlog=max(0, offered - live - missing),
            connected=self._account.connected,
            failed=self.failed,
        )

    def check(self, timeout_s: float = 5.0) -> Welcome:
        """Wait for the server before the acquisition.

        Raises
        ------
        InputError
            When the server refuses, for example because it speaks another version.
        ConnectionError
            When no server answers within `timeout_s`.
        """
        account = self._account
        deadline = time.monotonic() + timeout_s
        while True:
            if account.failed is not None:
                raise InputError(account.failed)
            if account.connected and account.welcome is not None:
                return account.welcome
            if time.monotonic() > deadline:
                raise ConnectionError(account.trouble)
            account.done.wait(0.02)

    def close(self, timeout_s: float = 10.0, exit_status: str = "ok") -> HookReport:
        """Send what waits, end the run, and tell what became of every frame.

        Waits as long as there is progress, and `timeout_s` after the last of it. A server that answers while
        it has work of ours makes progress, for two minutes after its last acknowledgement.
        """
        account = self._account
        with self._closing:
            if self.report is not None:
                return self.report
            self._outbox.shut = self._outbox.shut or "the hook was closed"
            account.ending = Ending(n=self._outbox.offered, exit_status=one_line(exit_status, 200))
            account.step()
            self._waker.wake()
            while not account.done.wait(0.05) and time.monotonic() < account.progress_at + timeout_s:
                pass
            account.stop.set()
            self._waker.wake()
            if account.done.wait(5.0):
                self._waker.close()
            self.report = self._make_report(account.ending.n)
            return self.report

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(exit_status="ok" if kind is None else f"aborted: {kind.__name__}")

    def _make_start(self, dtype: DtypeName, shape: tuple[int, int]) -> Start:
        return Start(
            run=self.run,
            name=self.name,
            dtype=dtype,
            shape=shape,
            calibration=self.calibration,
            expected=self._expected,
            dataset=self._dataset,
        )

    def _make_report(self, offered: int) -> HookReport:
        account, final = self._account, self._account.final
        live, missing = account.live, dict[str, Ranges]()
        accounted = Ranges(live)
        for reason, ranges in [*account.lost.items(), *self._outbox.refused.items()]:
            # Frames that came in while the hook was being closed are not the run's any more.
            kept = ranges.subtract(Ranges([(offered, 2**48)]))
            missing.setdefault(reason, Ranges()).merge(kept)
            accounted.merge(kept)
        rest = accounted.complement(offered)
        if rest:
            missing.setdefault(reason_key(account.remainder_reason(), missing), Ranges()).merge(rest)
        missing = {reason: ranges for reason, ranges in missing.items() if ranges}
        return HookReport(
            run=self.run,
            offered=offered,
            live=live,
            missing=missing,
            folder=None if final is None else final.folder,
            failed=account.failed or (None if final is None else final.error),
            sentence=account_sentence(offered, live, missing),
        )


def _calibration(given: Calibration | None, numbers: dict[str, float | None]) -> Calibration:
    """Return the calibration that was given whole or as four numbers."""
    if given is not None:
        if any(number is not None for number in numbers.values()):
            raise InputError("give StreamHook a calibration or the four numbers, not both")
        return given
    lacking = [name for name, number in numbers.items() if number is None]
    if lacking:
        raise InputError(f"StreamHook needs a calibration: {', '.join(lacking)} missing")
    return Calibration(**{name: number for name, number in numbers.items() if number is not None})
