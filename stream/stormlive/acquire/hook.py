"""The hook: a plain callable that hands every frame of an acquisition to the live picture."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import Literal, Self, TypeVar, get_args
from uuid import uuid4

from msgspec import UNSET

from stormlive.acquire.account import Account, Ending
from stormlive.acquire.outbox import Outbox
from stormlive.acquire.report import HookProgress, HookReport, make_progress, make_report
from stormlive.acquire.sender import Sender
from stormlive.acquire.spool import Spool
from stormlive.acquire.stock import Stock
from stormlive.wire.calibration import Calibration
from stormlive.wire.curve import load_client_keys
from stormlive.wire.fields import Mode
from stormlive.wire.frame import DtypeName
from stormlive.wire.messages import Start, Welcome
from stormlive.wire.region import check_region, token_digest
from stormlive.wire.run_name import check_run_name
from stormlive.wire.segment import share
from stormlive.wire.text import check_path, one_line
from stormlive.wire.transport import DEFAULT_ADDRESS, Waker, client_address, is_loopback
from stormlive_sim.errors import InputError

_log = logging.getLogger(__name__)
_Image = TypeVar("_Image")
_Metadata = TypeVar("_Metadata")

MOST_OUTBOX_MB = 64 * 1024


class StreamHook:
    """Pass it as ``image_process_fn``: it copies each frame for the live picture and returns the same pair.

    It never blocks and never raises; what the live picture cannot get is counted, not waited for. Call it
    from one thread, the acquisition's.

    Parameters
    ----------
    address
        Where ``stormlive serve`` listens: ``host:port``, or ``host`` for the usual port.
    calibration
        The camera's calibration, or instead of it the four numbers by keyword.
    pixel_size_nm, baseline_adu, photons_per_adu, exposure_ms
        The fields of `Calibration`.
    name
        The run's name; the server names its folder after it.
    outbox_mb
        Memory for frames that wait, in MiB, allocated at once.
    spool_mb
        Disk for frames that do not fit there, in MiB, in a temporary file. It is used only while the server does not
        read the dataset. What fits nowhere is a gap.
    spool_folder
        Where that file goes; by default the system's folder for temporary files.
    mode
        ``account``: every frame is to get into the picture, sooner or later. ``latest``: a preview, only the newest
        frame matters. ``block``: wait for room, for frames that no camera is waiting to deliver.
    expected
        Number of frames to come, if known, for progress displays.
    dataset
        Path of the raw data, an NDTiff dataset: what does not get through live, the server reads there by the axes in
        the metadata, if it sees that path. The attribute `dataset` may be set too, until the first frame.
    keys
        This client's folder of keys, as ``stormlive keys`` made it; a server elsewhere in the network takes nobody
        without.
    lane
        ``auto``: a server on this machine reads frames from the outbox's own memory, where the system allows it, all
        others get them over TCP. ``tcp``: always over TCP.
    region
        (x, y, width, height) in pixels of the frames: the network computes this part of them only, which takes less
        time. The server gets whole frames all the same.
    token
        Up to 64 secret bytes: who has them may choose another region while the run goes on, such as
        ``LiveClient.steer``.
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
        spool_mb: float = 2048,
        spool_folder: Path | None = None,
        mode: Mode = "account",
        expected: int | None = None,
        dataset: Path | str | None = None,
        keys: Path | str | None = None,
        lane: Literal["auto", "tcp"] = "auto",
        region: tuple[int, int, int, int] | None = None,
        token: bytes | None = None,
    ) -> None:
        numbers = {
            "pixel_size_nm": pixel_size_nm,
            "baseline_adu": baseline_adu,
            "photons_per_adu": photons_per_adu,
            "exposure_ms": exposure_ms,
        }
        self.calibration = _calibration(calibration, numbers)
        client_keys = load_client_keys(keys)
        self.address = client_address(address, client_keys)
        self.name = check_run_name(name)
        if not 0 < outbox_mb <= MOST_OUTBOX_MB:
            raise InputError(f"outbox_mb must be more than 0 and at most {MOST_OUTBOX_MB}, got {outbox_mb}")
        if not 0 <= spool_mb < 2**30:
            raise InputError(f"spool_mb must be at least 0, got {spool_mb}")
        if mode not in get_args(Mode):
            raise InputError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
        if lane not in ("auto", "tcp"):
            raise InputError(f"lane must be auto or tcp, got {lane!r}")
        self._region = None if region is None else check_region(region)
        self._steer = None if token is None else token_digest(token)
        self.run = uuid4()
        self._mode = mode
        self._expected = expected
        self._dataset = None if dataset is None else _absolute(dataset)
        self._beginning = threading.Lock()
        self._begun = False
        self._waker = Waker()
        capacity_bytes = int(outbox_mb * 2**20)
        segment = share(capacity_bytes) if lane == "auto" and is_loopback(self.address) else None
        self._outbox = Outbox(capacity_bytes, self._waker, mode, segment)
        stock = Stock(self._outbox, Spool(int(spool_mb * 2**20), spool_folder))
        self._account = Account(self.address, self.run)
        self._closing = threading.Lock()
        self._sender = Sender(self.address, stock, self._account, self._waker, self._make_start, client_keys)
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

    def refer(self, axes: Mapping[str, int | str], *, dataset: Path | str | None, read: Callable[[], object]) -> None:
        """Have the server read a frame from `dataset`, where it has these axes: `image_saved` calls this.

        A run is of frames that are handed over or of frames that are referred to. `read` returns the image.
        """
        try:
            if self._account.ending is None:
                refusal: Exception | None = None
                if dataset is not None and self._dataset is None and self._outbox.form is None:
                    try:
                        self._dataset = _absolute(dataset)
                    except Exception as error:
                        refusal = error  # the frame is counted all the same
                surprise = self._outbox.refer(axes, read) or refusal
                if surprise is not None and self.error is None:
                    self.error = surprise
                    _log.warning("a frame could not be referred to for the live picture", exc_info=surprise)
        except Exception as error:
            # As above: an exception would end the thread of the acquisition that calls this.
            self.error = self.error or error

    @property
    def dataset(self) -> str | None:
        """Path of the raw data, where the server reads what does not get through live; set it before the first frame.

        Pycro-Manager chooses the folder when an acquisition is made: ``hook.dataset = acquisition.get_dataset().path``.

        Raises
        ------
        InputError
            When it is set after the first frame, or no message carries the path.
        """
        return self._dataset

    @dataset.setter
    def dataset(self, path: Path | str | None) -> None:
        dataset = None if path is None else _absolute(path)
        with self._beginning:
            if self._begun or self._outbox.form is not None:
                raise InputError("the hook has its first frame: set its dataset before the acquisition begins")
            self._dataset = dataset

    @property
    def failed(self) -> str | None:
        """Why the server does not take the run, on one line; None as long as nothing is wrong."""
        return self._account.failed

    @property
    def ended(self) -> str | None:
        """With which exit status the server has ended the run, such as ``"ok"``; None as long as it has not."""
        return None if self._account.final is None else self._account.final.exit_status

    @property
    def has_room(self) -> bool:
        """Whether the next frame would be taken; who may wait for that loses nothing (`stormlive.stream` does)."""
        return self._outbox.has_room

    @property
    def trouble(self) -> str:
        """The last reason why there was no connection."""
        return self._account.trouble

    @property
    def progress(self) -> HookProgress:
        """The counts so far."""
        return make_progress(self._outbox, self._account)

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
            self.report = make_report(self._outbox, account, account.ending.n)
            return self.report

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(exit_status="ok" if kind is None else f"aborted: {kind.__name__}")

    def _make_start(self, dtype: DtypeName, shape: tuple[int, int]) -> Start:
        with self._beginning:
            # A server takes a run up again with the START that began it alone.
            self._begun = True
        return Start(
            run=self.run,
            name=self.name,
            dtype=dtype,
            shape=shape,
            calibration=self.calibration,
            expected=self._expected,
            dataset=self._dataset,
            mode=self._mode,
            region=self._region or UNSET,
            steer=self._steer or UNSET,
        )


def _absolute(path: Path | str) -> str:
    """Return a path that means the same to the server; an absolute one of another system is the server's own."""
    text = str(path)
    known = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return check_path(text if known else Path(text).absolute())


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
